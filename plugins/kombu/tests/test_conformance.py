"""The bridge keeps the contract of transports, on kombu transports of different kinds.

What needs servers that CI hasn't is in ``by_hand.py``.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from caraway.testing.servers import Server, free_port, server
from caraway_kombu.testing import AtTheEnd, KombuSuite, Refused


class TestInMemory(AtTheEnd, KombuSuite):
    scheme = "memory"
    tick = slow = 0.15

    def url(self, tmp_path: Path) -> str:
        return "kombu+memory://"


class TestInFiles(KombuSuite):
    scheme = "filesystem"
    rounds = 2

    def url(self, tmp_path: Path) -> str:
        return f"kombu+filesystem://{tmp_path}/messages"


class TestOnRedis(AtTheEnd, KombuSuite):
    scheme = "redis"
    unreachable = f"kombu+redis://127.0.0.1:{free_port()}/0"
    server: Server
    rounds = 1

    @pytest.fixture(autouse=True)
    def _server(self, redis: Server) -> None:
        type(self).server = redis
        self._ask("FLUSHALL")

    def _ask(self, *words: str) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5.0) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            connection.recv(1000)

    def url(self, tmp_path: Path) -> str:
        return f"kombu+redis://127.0.0.1:{self.server.port}/1"

    def cut(self) -> None:
        self._ask("CLIENT", "KILL", "TYPE", "normal")
        self._ask("CLIENT", "KILL", "TYPE", "pubsub")


class TestOnRabbitmq(AtTheEnd, Refused, KombuSuite):
    scheme = "amqp"
    tick = 0.6
    patience = 30.0
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: Server) -> None:
        type(self).server = rabbitmq

    def url(self, tmp_path: Path) -> str:
        return f"kombu+pyamqp://guest:guest@127.0.0.1:{self.server.port}//"

    def test_a_body_of_16_mebibytes_arrives(self) -> None:
        KombuSuite.test_a_body_of_16_mebibytes_arrives(self)


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[Server]:
    with server("rabbitmq") as running:
        yield running
