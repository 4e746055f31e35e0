"""A RabbitMQ of this session's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from caraway.testing.servers import Server, server


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[Server]:
    with server("rabbitmq") as running:
        yield running
