"""What the tests of faults have in common: see ``conftest.py``."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

from crash_site import Crash, until

from caraway.testing.proxy import Proxy
from caraway.testing.servers import Server

LONG = bool(os.environ.get("CARAWAY_FAULTS_LONG"))
DURABLE = ["--appendonly", "yes", "--appendfsync", "always"]


class Site(Crash):
    """See the module's text.

    Attributes:
        proxy: between the workers and the server.
        server: the server itself.
    """

    def __init__(self, path: Path, env: dict[str, str], kind: str, running: Server) -> None:
        self.server = running
        self.proxy = Proxy(running.port)
        self.kind = kind
        self.direct = self.url(running.port)
        super().__init__(path, env, kind, self.url(self.proxy.port), "")

    def url(self, port: int) -> str:
        if self.kind == "redis":
            # Connections that never come to be are given up sooner than by default.
            return f"redis://127.0.0.1:{port}/0?socket_connect_timeout=2"
        return f"amqp://guest:guest@127.0.0.1:{port}//?connect_timeout=2"

    def client(self, port: int = 0, **settings: Any) -> Any:
        """An app in this process, that talks to the server itself or to a port."""
        from caraway import Caraway

        broker = self.url(port) if port else self.direct
        backend = self.apart if self.kind == "rabbitmq" else broker
        app = Caraway("crash_app", broker=broker, backend=backend, set_as_current=False, **settings)
        self.clients.append(app)
        return app

    def stop(self) -> None:
        self.proxy.heal()
        super().stop()
        self.proxy.close()

    def resumes(self, app: Any, within: float = 5.0) -> None:
        """Assert that work goes on so soon after now, at the latest with a task sent now."""
        began, before = time.monotonic(), self.starts().total()
        result = app.send_task("crash_app.work", [f"resumes{time.monotonic_ns()}"])
        # What a lane had taken before is a few at most.
        until(lambda: self.starts().total() > before + 20 or result.ready(), timeout=30)
        took = time.monotonic() - began
        assert took <= within, f"work went on after {took:.1f} s"
        result.get(timeout=60)


class Stream:
    """Sends tasks without a pause from a thread, and remembers which were acknowledged."""

    def __init__(self, app: Any, pause: float = 0.002) -> None:
        self.app = app
        self.sent: list[Any] = []
        self.refused = 0
        self._pause = pause
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        from caraway.errors import OperationalError

        n = 0
        while not self._ended.wait(self._pause):
            n += 1
            try:
                self.sent.append(self.app.send_task("crash_app.work", [n, 0.001]))
            except OperationalError:
                self.refused += 1

    def end(self) -> list[Any]:
        """Stop sending; the results of what was acknowledged."""
        self._ended.set()
        self._thread.join()
        return self.sent


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def all_end(results: list[Any], timeout: float = 60.0) -> None:
    """Assert that every task has succeeded in time."""
    app = results[0].app
    ids = [result.id for result in results]

    def look() -> bool:
        stored = app.backend.get(ids)
        return len(stored) == len(ids) and all(s.state == "SUCCESS" for s in stored.values())

    until(look, timeout=timeout, every=0.2)


def redis_says(port: int, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5.0) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(65536)
