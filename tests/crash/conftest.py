"""Starts real workers on real files and servers, kills them, and reads what they left.

A test runs on each broker, unless its mark ``brokers`` names those on which it holds.
What RabbitMQ can't promise, having no leases of ours, is left out there by name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway.testing.servers import Server, server

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from crash_site import Crash, empty_rabbitmq, empty_redis, until  # noqa: E402 - see above

BROKERS = ("sqlite", "redis", "rabbitmq")


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "brokers(*names): the brokers on which the test holds")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "crash" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("brokers")
        metafunc.parametrize("broker", mark.args if mark else BROKERS, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """To a server, all pools with one lane look alike: of them, one is enough."""
    for item in items:
        spec = getattr(item, "callspec", None)
        kind = spec.params.get("broker", "sqlite") if spec is not None else "sqlite"
        if HERE in item.path.parents and kind != "sqlite":
            # With xdist's --dist loadgroup, they share a server.
            item.add_marker(pytest.mark.xdist_group(kind))
    left = [item for item in items if not _is_one_too_many(item)]
    if len(left) < len(items):
        config.hook.pytest_deselected(items=[item for item in items if item not in left])
        items[:] = left


def _is_one_too_many(item: pytest.Item) -> bool:
    spec = getattr(item, "callspec", None)
    params = spec.params if spec is not None else {}
    return params.get("broker", "sqlite") != "sqlite" and params.get("pool") == "asyncio"


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    with server("redis") as running:
        yield running


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Server]:
    with server("rabbitmq") as running:
        yield running


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """Kind, URL, and URL of a separate store of results; empty ones are files."""
    kind: str = request.param
    if kind == "redis":
        running: Server = request.getfixturevalue("redis")
        empty_redis(running.port)
        place = f"redis://127.0.0.1:{running.port}"
        return kind, f"{place}/0", f"{place}/1"
    if kind == "rabbitmq":
        running = request.getfixturevalue("rabbitmq")
        empty_rabbitmq(running.port)
        return kind, f"amqp://guest:guest@127.0.0.1:{running.port}//", ""
    return kind, "", ""


@pytest.fixture
def crash(
    tmp_path: Path, request: pytest.FixtureRequest, broker: tuple[str, str, str]
) -> Iterator[Crash]:
    made = Crash(tmp_path, dict(getattr(request, "param", {})), *broker)
    try:
        yield made
    finally:
        made.stop()
