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

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "crash")]

from crash_site import empty_rabbitmq, empty_redis, until  # noqa: E402 - see above
from faults_kit import DURABLE, Site  # noqa: E402 - see above


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "brokers(*names): the brokers on which the test holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "site" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("brokers")
        names = mark.args if mark else ("redis", "rabbitmq")
        metafunc.parametrize("kind", names, scope="session")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With xdist's ``--dist loadgroup``, a file's tests of one kind share a server."""
    for item in items:
        if HERE in item.path.parents:
            spec = getattr(item, "callspec", None)
            kind = spec.params.get("kind", "") if spec is not None else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{kind}"))


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
    empty_redis(running.port) if kind == "redis" else empty_rabbitmq(running.port)
    # Long, so that nothing but a renewal that failed lets it lapse.
    made = Site(tmp_path, {"CRASH_LEASE": "30", **getattr(request, "param", {})}, kind, running)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until
