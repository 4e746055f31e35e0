"""A RabbitMQ of this session's own, and workers on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from caraway import Caraway
from caraway.testing.certificates import Authority, Signed
from caraway.testing.servers import Server, free_port, server

PATIENCE = 30.0
TASKS = '''
import ctypes, time
from caraway import Caraway

app = Caraway("here")
app.conf.update({settings!r})


def note(text):
    with open({log!r}, "a") as file:
        file.write(f"{{text}}\\n")


@app.task(name="add")
def add(x, y):
    return x + y


@app.task(name="fail")
def fail(text):
    raise ValueError(text)


@app.task(name="nap")
def nap(label, seconds=0.0):
    note(f"begin {{label}}")
    time.sleep(seconds)
    note(f"end {{label}}")
    return label


@app.task(name="hog")
def hog(label, seconds):
    """Holds the interpreter's lock, as a long regular expression does."""
    note(f"begin {{label}}")
    # Called so, it gives the lock to nobody.
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    note(f"end {{label}}")
    return label


@app.task(name="progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={{"done": 1}})
    return "done"
'''


class Secure(NamedTuple):
    """The broker's port for TLS, and who is trusted there.

    Attributes:
        port: it asks for a client's certificate, and takes who has none.
        authority: has signed the broker's certificate, for 127.0.0.1 and localhost.
        stranger: an authority that nobody trusts.
        client, impostor: certificates that each of the two has signed.
    """

    port: int
    authority: Authority
    stranger: Authority
    broker: Signed
    client: Signed
    impostor: Signed


@pytest.fixture(scope="session")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Secure:
    folder = tmp_path_factory.mktemp("tls")
    authority, stranger = Authority(folder / "ours"), Authority(folder / "theirs")
    return Secure(
        free_port(), authority, stranger, authority.sign("broker", "127.0.0.1", "localhost"),
        authority.sign("client"), stranger.sign("impostor"),
    )  # fmt: skip


@pytest.fixture(scope="session")
def rabbitmq(secure: Secure) -> Iterator[Server]:
    config = [
        f"listeners.ssl.1 = 127.0.0.1:{secure.port}",
        f"ssl_options.cacertfile = {secure.authority.certificate}",
        f"ssl_options.certfile = {secure.broker.certificate}",
        f"ssl_options.keyfile = {secure.broker.key}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = false",
        "max_message_size = 134217728",  # before RabbitMQ 4 without a word
    ]
    with server("rabbitmq", config=config) as running:
        yield running


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Wait for a condition."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"{what}: not within {patience:g} s"
        time.sleep(0.02)


class Place:
    """An app and its worker's folder.

    Args:
        folder: empty.
        settings: of app and worker.
    """

    def __init__(self, folder: Path, settings: dict[str, object]) -> None:
        self.folder = folder
        self.queue = f"q{uuid.uuid4().hex[:10]}"
        self.log = folder / "log.txt"
        self.log.touch()
        settings = {"task_default_queue": self.queue, **settings}
        (folder / "here.py").write_text(TASKS.format(settings=settings, log=str(self.log)))
        self.app = Caraway("here", set_as_current=False)
        self.app.conf.update(settings)

    def send(self, name: str, *args: object, **options: object) -> object:
        """Send a task by its name."""
        return self.app.send_task(name, args=args, **options)  # type: ignore[arg-type]

    def said(self) -> list[str]:
        """What tasks noted."""
        return self.log.read_text().splitlines()

    @contextmanager
    def worker(self, *options: str, wait: bool = True) -> Iterator[subprocess.Popen[bytes]]:
        """A worker for the length of the block; ended warmly."""
        out = self.folder / "worker.log"
        with out.open("ab") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "caraway", "-A", "here", "worker", "-c", "1", *options],
                cwd=self.folder, stdout=stream, stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONPATH": str(self.folder)},
            )  # fmt: skip
        try:
            if wait:
                until(lambda: self.listeners() or process.poll() is not None, "a worker listens")
            assert process.poll() is None, out.read_text()
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def depths(self) -> list[int]:
        """Messages that are ready or held elsewhere, of the queue."""
        return [stats.ready for stats in self.app.transport.stats([self.queue])]

    def listeners(self) -> int:
        """Consumers of the queue."""
        (stats,) = self.app.transport.stats([self.queue]) or [None]
        return (stats.consumers or 0) if stats is not None else 0


@pytest.fixture
def place(tmp_path: Path, rabbitmq: Server) -> Iterator[Callable[..., Place]]:
    """Makes places on this session's broker, unless settings name another."""
    with ExitStack() as stack:

        def make(**settings: object) -> Place:
            folder = tmp_path / uuid.uuid4().hex[:6]
            folder.mkdir()
            made = Place(folder, {"broker_url": rabbitmq.url, **settings})
            stack.callback(made.app.close)
            return made

        yield make
