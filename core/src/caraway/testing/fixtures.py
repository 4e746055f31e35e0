"""Fixtures for the tests of applications.

Opted into, in a ``conftest.py`` at the root of the tests::

    pytest_plugins = ["caraway.testing.fixtures"]

    @pytest.fixture
    def caraway_app():
        from shop.tasks import app
        return app

Then a test asks for ``caraway_sandbox``, which is that app switched to memory
(`caraway.testing.Sandbox`), for ``caraway_clock``, its `caraway.testing.VirtualClock`, or for
``caraway_worker``, a worker that runs what is sent to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway.testing.clock import VirtualClock
from caraway.testing.embedded import start_worker
from caraway.testing.sandbox import Sandbox, isolate


@pytest.fixture
def caraway_app() -> Any:
    """The app under test: by default the current one.  Override it to name yours."""
    from caraway.app.current import get_current_app

    return get_current_app()


@pytest.fixture
def caraway_clock() -> VirtualClock:
    """The clock of ``caraway_sandbox``: time stands still until the test moves it."""
    return VirtualClock()


@pytest.fixture
def caraway_sandbox(caraway_app: Any, caraway_clock: VirtualClock) -> Iterator[Sandbox]:
    """The app of ``caraway_app``, switched to memory for one test."""
    with isolate(caraway_app, clock=caraway_clock) as sandbox:
        yield sandbox


@pytest.fixture
def caraway_worker(caraway_sandbox: Sandbox) -> Iterator[Any]:
    """A worker (`caraway.worker.Worker`) of ``caraway_sandbox``, running beside the test.
    What is delayed runs once the test has moved the clock."""
    with start_worker(caraway_sandbox.app) as worker:
        yield worker
