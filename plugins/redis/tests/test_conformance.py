"""The Redis components keep every contract, on a real server, and leave nothing there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caraway.testing.conformance import BackendSuite, TransportSuite
from caraway.testing.servers import Server, free_port


class OnRedis:
    """A database of its own for each test, empty at its begin; at its end there is nothing
    in it that could stay for ever without a need."""

    virtual_clock = False
    unreachable = f"redis://127.0.0.1:{free_port()}/0"
    server: Server
    leaks: Any

    @pytest.fixture(autouse=True)
    def _server(self, redis: Server, leaks: Any) -> None:
        type(self).server, type(self).leaks = redis, leaks
        leaks.reset()

    def teardown_method(self, method: object = None) -> None:
        super().teardown_method(method)  # type: ignore[misc]
        self.leaks.check()

    def url(self, tmp_path: Path) -> str:
        return f"redis://127.0.0.1:{self.server.port}/1"


class TestRedisTransport(OnRedis, TransportSuite):
    factory = "caraway_redis.transport:RedisTransport"
    backend_factory = "caraway_redis.backend:RedisBackend"

    def cut(self) -> None:
        for kind in ("normal", "pubsub"):
            self.leaks.client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


class TestRedisBackend(OnRedis, BackendSuite):
    factory = "caraway_redis.backend:RedisBackend"
