"""The RabbitMQ components keep every contract, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from caraway.testing.conformance import TransportSuite
from caraway.testing.servers import Server, free_port


class OnRabbitMQ:
    """One node for all tests; each uses queues of its own."""

    virtual_clock = False
    unreachable = f"amqp://127.0.0.1:{free_port()}//"
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: Server) -> None:
        type(self).server = rabbitmq

    def url(self, tmp_path: Path) -> str:
        return self.server.url


class TestAmqpTransport(OnRabbitMQ, TransportSuite):
    factory = "caraway_amqp.transport:AmqpTransport"

    def cut(self) -> None:
        self.server.control("close_all_connections", "a test cuts them")
