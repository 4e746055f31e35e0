"""The Redis components keep every contract, on a real server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from caraway.testing.conformance import BackendSuite, TransportSuite
from caraway.testing.servers import Server, free_port


def ask(server: Server, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5.0) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(1000)


class OnRedis:
    """A database of its own for each test, empty at its begin."""

    virtual_clock = False
    unreachable = f"redis://127.0.0.1:{free_port()}/0"
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, redis: Server) -> None:
        type(self).server = redis
        ask(redis, "FLUSHALL")

    def url(self, tmp_path: Path) -> str:
        return f"redis://127.0.0.1:{self.server.port}/1"


class TestRedisTransport(OnRedis, TransportSuite):
    factory = "caraway_redis.transport:RedisTransport"
    backend_factory = "caraway_redis.backend:RedisBackend"

    def cut(self) -> None:
        ask(self.server, "CLIENT", "KILL", "TYPE", "normal")
        ask(self.server, "CLIENT", "KILL", "TYPE", "pubsub")


class TestRedisBackend(OnRedis, BackendSuite):
    factory = "caraway_redis.backend:RedisBackend"
