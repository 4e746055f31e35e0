"""Real servers for integration tests: found, started on a free port, stopped by pid.

::

    import pytest
    from caraway.testing.servers import server

    @pytest.fixture(scope="session")
    def redis():
        with server("redis") as running:
            yield running.url

A server whose program isn't installed skips the test and says what is missing; where the
environment variable ``CI`` is ``true`` or ``1``, it fails it instead, so that nothing is
skipped for ever without anybody noticing.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct


class ServerMissing(unittest.SkipTest):
    """The program isn't installed; pytest takes it for a skip."""


class ServerFailed(AssertionError):
    """The program is there and didn't come up, or isn't there where it must be."""


class ServerKind(Struct, frozen=True, kw_only=True):
    """How servers of one kind are run.

    Attributes:
        name: e.g. ``redis``.
        programs: names of its executable, the best first.
        install: what to do if it isn't there, for people.
        command: from the program's path, the port and an empty directory, its arguments.
        url: of the running server, with ``{port}``.
        ready: tries to talk to it; True if it answers.  None: a connection is enough.
    """

    name: str
    programs: tuple[str, ...]
    install: str
    command: Callable[[str, int, Path], Sequence[str]]
    url: str = "tcp://127.0.0.1:{port}"
    ready: Callable[[int], bool] | None = None


class Server(Struct, frozen=True):
    """A running server.

    Attributes:
        name: its kind.
        port: on 127.0.0.1.
        url: to connect with.
        pid: of its process.
        directory: its data, removed with it.
        log: file with what it printed.
    """

    name: str
    port: int
    url: str
    pid: int
    directory: Path
    log: Path


def _redis_command(program: str, port: int, directory: Path) -> list[str]:
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": directory,
        "save": "",
        "appendonly": "no",
        "daemonize": "no",
    }
    return [
        program,
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]


def _redis_ready(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
        connection.settimeout(1.0)
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")


KINDS: dict[str, ServerKind] = {
    "redis": ServerKind(
        name="redis",
        programs=("redis-server", "valkey-server"),
        install="apt-get install redis-server, or brew install redis",
        command=_redis_command,
        url="redis://127.0.0.1:{port}/0",
        ready=_redis_ready,
    ),
}
"""The kinds that `server` knows by name; plugins' tests may add theirs."""


def find_program(kind: ServerKind) -> str | None:
    """The path of a kind's program, None if it isn't installed.

    ``CARAWAY_TEST_<NAME>`` names one that isn't on the path.
    """
    chosen = os.environ.get(f"CARAWAY_TEST_{kind.name.upper()}")
    # Servers' programs are often where only root's path leads.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    for name in (chosen,) if chosen else kind.programs:
        found = shutil.which(name, path=path)
        if found is not None:
            return found
    return None


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def server(kind: str | ServerKind, *, timeout: float = 20.0) -> Iterator[Server]:
    """Run a server for the length of the block.

    Args:
        kind: a name of `KINDS`, or what describes another kind.
        timeout: seconds within which it must answer.

    Raises:
        ServerMissing: its program isn't installed: a skip.
        ServerFailed: it isn't installed and this is CI; or it died, or doesn't answer.
    """
    chosen = KINDS[kind] if isinstance(kind, str) else kind
    program = find_program(chosen)
    if program is None:
        text = f"{' or '.join(chosen.programs)} not found: {chosen.install}"
        if os.environ.get("CI", "").lower() in ("true", "1"):
            raise ServerFailed(text)
        raise ServerMissing(text)
    directory = Path(tempfile.mkdtemp(prefix=f"caraway-{chosen.name}-"))
    try:
        process, running = _start(chosen, program, directory, timeout)
        try:
            yield running
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    kind: ServerKind, program: str, directory: Path, timeout: float
) -> tuple[subprocess.Popen[bytes], Server]:
    log = directory / "server.log"
    data = directory / "data"
    data.mkdir()
    # Between finding a free port and the server's taking it, another may be quicker.
    for attempt in range(3):
        port = free_port()
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - the test chose the program
                kind.command(program, port, data), stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, cwd=data,
            )  # fmt: skip
        try:
            _wait_ready(kind, process, port, timeout)
        except ServerFailed as exc:
            died = process.poll() is not None
            _stop(process)
            if died and attempt < 2:
                continue
            tail = log.read_text(errors="replace")[-2000:]
            raise ServerFailed(f"{kind.name}: {exc}\n{tail}") from None
        except BaseException:
            _stop(process)
            raise
        url = kind.url.format(port=port)
        return process, Server(kind.name, port, url, process.pid, data, log)
    raise AssertionError("unreachable")


def _wait_ready(
    kind: ServerKind, process: subprocess.Popen[bytes], port: int, timeout: float
) -> None:
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ServerFailed(f"it ended with code {process.returncode}")
        try:
            if kind.ready is not None:
                if kind.ready(port):
                    return
            else:
                socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
                return
        except OSError:
            pass
        time.sleep(0.02)
    raise ServerFailed(f"it doesn't answer after {timeout:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
