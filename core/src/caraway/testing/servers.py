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
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
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
        find: looks a program up; None looks on the path.
        timeout: seconds within which it must answer after its start.
        prepare: called once with port, data directory and configuration lines.  Kinds
            without it get the lines as further arguments.
    """

    name: str
    programs: tuple[str, ...]
    install: str
    command: Callable[[str, int, Path], Sequence[str]]
    url: str = "tcp://127.0.0.1:{port}"
    ready: Callable[[int], bool] | None = None
    find: Callable[[str], str | None] | None = None
    timeout: float = 20.0
    prepare: Callable[[int, Path, Sequence[str]], Surroundings] | None = None


class Surroundings(Struct, kw_only=True):
    """What a server needs beside its own process.

    Attributes:
        environment: of its process; None is that of the tests.
        companion: starts a process that must run before it and end after it.
        control: runs its administration program with these arguments.
    """

    environment: dict[str, str] | None = None
    companion: Callable[[], subprocess.Popen[bytes]] | None = None
    control: Callable[..., str] | None = None


class Server:
    """A server on a port of its own.  Made by `server`; may be stopped and started again,
    on the same port and with the same data.

    Attributes:
        name: its kind.
        port: on 127.0.0.1.
        url: to connect with.
        directory: its data, removed with it.
        log: file with what it printed.
    """

    def __init__(
        self, kind: ServerKind, program: str, port: int, folder: Path, config: Sequence[str]
    ) -> None:
        self.kind = kind
        self.name = kind.name
        self.port = port
        self.url = kind.url.format(port=port)
        self.directory = folder / "data"
        self.directory.mkdir(exist_ok=True)
        self.log = folder / "server.log"
        self._program = program
        self._config = config
        self._surroundings = (
            kind.prepare(port, self.directory, config) if kind.prepare else Surroundings()
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._companion: subprocess.Popen[bytes] | None = None
        self._pid = 0

    @property
    def pid(self) -> int:
        """Of its process; of the last one while it is stopped."""
        return self._pid

    def start(self, *, timeout: float = 0.0) -> None:
        """Start it and wait until it answers.  Does nothing if it runs.

        Args:
            timeout: seconds within which it must answer; 0 is the kind's own.

        Raises:
            ServerFailed: it died, or doesn't answer.
        """
        if self._process is not None and self._process.poll() is None:
            return
        around, kind = self._surroundings, self.kind
        if around.companion is not None and self._companion is None:
            self._companion = around.companion()
        command = [*kind.command(self._program, self.port, self.directory), *self._arguments()]
        with self.log.open("ab") as out:
            self._process = process = subprocess.Popen(  # noqa: S603 - the test chose it
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                cwd=self.directory, env=around.environment, start_new_session=True,
            )  # fmt: skip
        self._pid = process.pid
        try:
            _wait_ready(kind, process, self.port, timeout or kind.timeout)
        except ServerFailed as exc:
            self.kill()
            tail = self.log.read_text(errors="replace")[-2000:]
            raise ServerFailed(f"{kind.name}: {exc}\n{tail}") from None
        except BaseException:
            self.kill()
            raise

    def _arguments(self) -> Sequence[str]:
        # Kinds that prepare something have read their configuration there.
        return () if self.kind.prepare is not None else self._config

    def stop(self) -> None:
        """End it as its administrator would."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL to all its processes."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        # Whoever started children, such as RabbitMQ's shell scripts, ends with them.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        try:
            process.wait(10.0)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._process = None

    def restart(self, *, hard: bool = False) -> None:
        """Stop it, with SIGKILL if ``hard``, and start it again."""
        self.kill() if hard else self.stop()
        self.start()

    def control(self, *arguments: str, timeout: float = 60.0) -> str:
        """Run the kind's administration program (``rabbitmqctl``, ``redis-cli``) on it;
        return what it printed.

        Raises:
            AssertionError: it failed, or there is none.
        """
        if self._surroundings.control is None:
            raise AssertionError(f"{self.name} has no administration program")
        return self._surroundings.control(*arguments, timeout=timeout)

    def close(self) -> None:
        """Stop it for good, with all that was started for it."""
        self.stop()
        if self._companion is not None:
            self._companion.terminate()
            self._companion.wait()
            self._companion = None


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


def _rabbitmq(port: int, directory: Path, config: Sequence[str]) -> Surroundings:
    from caraway.testing.rabbitmq import Node

    node = Node(port, free_port(), free_port(), directory)
    plugins = [line.removeprefix("plugin ") for line in config if line.startswith("plugin ")]
    node.configure([line for line in config if not line.startswith("plugin ")], plugins)
    return Surroundings(
        environment=node.environment, companion=node.start_mapper, control=node.control
    )


def _rabbitmq_ready(port: int) -> bool:
    from caraway.testing.rabbitmq import answers

    return answers(port)


def _rabbitmq_program(name: str) -> str | None:
    from caraway.testing.rabbitmq import find

    return find(name)


KINDS: dict[str, ServerKind] = {
    "redis": ServerKind(
        name="redis",
        programs=("redis-server", "valkey-server"),
        install="apt-get install redis-server, or brew install redis",
        command=_redis_command,
        url="redis://127.0.0.1:{port}/0",
        ready=_redis_ready,
    ),
    "rabbitmq": ServerKind(
        name="rabbitmq",
        programs=("rabbitmq-server",),
        install="apt-get install rabbitmq-server, or brew install rabbitmq",
        command=lambda program, _port, _directory: [program],
        url="amqp://guest:guest@127.0.0.1:{port}//",
        ready=_rabbitmq_ready,
        find=_rabbitmq_program,
        timeout=60.0,
        prepare=_rabbitmq,
    ),
}
"""The kinds that `server` knows by name; plugins' tests may add theirs."""


def find_program(kind: ServerKind) -> str | None:
    """The path of a kind's program, None if it isn't installed.

    The environment variable ``CARAWAY_TEST_<NAME>``, such as ``CARAWAY_TEST_REDIS``, names
    one that isn't on the path, or is to be taken before it.
    """
    chosen = os.environ.get(f"CARAWAY_TEST_{kind.name.upper()}")
    # Servers' programs are often where only root's path leads.
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    for name in (chosen,) if chosen else kind.programs:
        found = kind.find(name) if kind.find and not chosen else shutil.which(name, path=path)
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
def server(
    kind: str | ServerKind, *, config: Sequence[str] = (), timeout: float = 0.0
) -> Iterator[Server]:
    """Run a server for the length of the block.

    Args:
        kind: a name of `KINDS`, or what describes another kind.
        config: further arguments (``redis``: ``["--maxmemory", "10mb"]``), or lines of its
            configuration file (``rabbitmq``: ``["consumer_timeout = 5000"]``, and
            ``plugin rabbitmq_management`` for a plugin).
        timeout: seconds within which it must answer; 0 is the kind's own.

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
        running = _start(chosen, program, directory, config, timeout)
        try:
            yield running
        finally:
            running.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _start(
    kind: ServerKind, program: str, directory: Path, config: Sequence[str], timeout: float
) -> Server:
    # Between finding a free port and the server's taking it, another may be quicker.
    for attempt in range(3):
        running = Server(kind, program, free_port(), directory, config)
        try:
            running.start(timeout=timeout)
        except ServerFailed as exc:
            running.close()
            if "it ended with code" in str(exc) and attempt < 2:
                continue
            raise
        except BaseException:
            running.close()
            raise
        return running
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
