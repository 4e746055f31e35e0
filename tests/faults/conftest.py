"""Real workers and clients whose way to a real server is broken in every way there is.

Each test has a server without messages, a proxy before it for the workers, and an app of
its own that talks to the server directly, unless the test is of the client.

``CARAWAY_FAULTS_LONG=1`` runs all in full: pauses of 60 s, 20 restarts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway.testing.servers import Server, server

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "crash")]

from crash_site import until
from faults_kit import DURABLE, Site, redis_says


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "brokers(*names): the brokers on which the test holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("brokers")
        names = mark.args if mark else ("redis", "rabbitmq")
        metafunc.parametrize("kind", names, scope="session")


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    with server("redis", config=DURABLE) as running:
        yield running


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Server]:
    with server("rabbitmq") as running:
        yield running


@pytest.fixture
def site(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    running: Server = request.getfixturevalue(kind)
    running.start()
    if kind == "redis":
        assert redis_says(running.port, "FLUSHALL") == b"+OK\r\n"
    # Long, so that nothing but a renewal that failed lets it lapse.
    made = Site(tmp_path, {"CRASH_LEASE": "30", **getattr(request, "param", {})}, kind, running)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until
