"""Servers of the bench's own, on free loopback ports, their data in directories of ours."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caraway.testing.servers import Server

ROOT = Path(__file__).resolve().parent.parent


class RedisServer:
    """Starts at once; stopped by `stop`.  Raises FileNotFoundError without a binary."""

    def __init__(self, directory: Path) -> None:
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise FileNotFoundError("no redis-server on PATH: apt-get install redis-server")
        directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        # no persistence: its fastest, and so the hardest for us to beat
        self.process = subprocess.Popen(
            [
                binary, "--bind", "127.0.0.1", "--port", str(self.port),
                "--save", "", "--appendonly", "no", "--dir", str(directory),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 10
        while self._command("PING") != b"+PONG":
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                raise RuntimeError("redis-server did not start")
            time.sleep(0.02)

    def version(self) -> str:
        """As the server tells it."""
        text = self._command("INFO server", 65536).decode(errors="replace")
        return text.partition("redis_version:")[2].split("\r\n")[0] or "?"

    def reset(self) -> None:
        """Empty it, with its cached scripts."""
        self._command("FLUSHALL")
        self._command("SCRIPT FLUSH")

    def stop(self) -> None:
        """End it.  Idempotent."""
        _end(self.process)

    def _command(self, command: str, size: int = 64) -> bytes:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
                connection.sendall(command.encode() + b"\r\n")
                return connection.recv(size).strip()
        except OSError:
            return b""


class Proxy:
    """`bench.delay_proxy` in a process of its own, in front of a port of 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.delay_proxy", "127.0.0.1", str(port)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the proxy did not start")
        self.port = int(line)

    def stop(self) -> None:
        """End it.  Idempotent."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        _end(self.process)


_NEW_VHOST = (
    'catch rabbit_vhost:delete(<<"bench">>, <<"bench">>),'
    ' rabbit_vhost:add(<<"bench">>, <<"bench">>),'
    ' rabbit_auth_backend_internal:set_permissions(<<"guest">>, <<"bench">>, <<".*">>,'
    ' <<".*">>, <<".*">>, <<"bench">>).'
)


class Servers:
    """Those that jobs name in their environment, each started when first asked for."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._stack = ExitStack()
        self._redis: RedisServer | None = None
        self._far: Proxy | None = None
        self._rabbit: Server | None = None
        self._failed: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def provide(self, env: dict[str, str]) -> dict[str, str]:
        """Start what a job's environment asks for, emptied; return the environment with
        addresses.

        Raises:
            RuntimeError: it can't be started; says so at once the next time.
        """
        env = dict(env)
        for name, start in (("BENCH_REDIS", self._on_redis), ("BENCH_AMQP", self._on_rabbitmq)):
            if name not in env:
                continue
            if name in self._failed:
                raise RuntimeError(self._failed[name])
            try:
                env[name] = start(env[name])
            # a server that is missing says so as a test's skip, which is an Exception, too
            except Exception as exc:
                self._failed[name] = f"{type(exc).__name__}: {exc}"
                raise RuntimeError(self._failed[name]) from exc
        return env

    def _on_redis(self, place: str) -> str:
        if self._redis is None:
            self._redis = RedisServer(self._home / "redis")
            self._stack.callback(self._redis.stop)
            self.versions["Redis"] = self._redis.version()
        self._redis.reset()
        if place != "far":
            return self._redis.url
        if self._far is None:
            self._far = Proxy(self._redis.port)
            self._stack.callback(self._far.stop)
        return f"redis://127.0.0.1:{self._far.port}/0"

    def _on_rabbitmq(self, _place: str) -> str:
        from caraway.testing.servers import server

        if self._rabbit is None:
            self._rabbit = self._stack.enter_context(server("rabbitmq"))
            self.versions["RabbitMQ"] = self._rabbit.control("version").strip()
        # a new virtual host for each job: one call, where emptying queues would need their names
        self._rabbit.control("eval", _NEW_VHOST)
        return f"amqp://guest:guest@127.0.0.1:{self._rabbit.port}/bench"

    def close(self) -> None:
        """End them all."""
        self._stack.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
