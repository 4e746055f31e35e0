"""A Redis of this session's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caraway.testing.servers import Server, server


@pytest.fixture(scope="session", autouse=True)
def redis() -> Iterator[Server]:
    with server("redis") as running:
        RUNNING.append(running)
        yield running
        RUNNING.clear()


RUNNING: list[Server] = []
