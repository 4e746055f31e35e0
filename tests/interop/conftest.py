"""Servers, the real Celery in an environment of its own, and programs of both kinds.

For each broker there is one `Place`, with a worker and a client of each kind, started
together and used by all tests.  Caraway's worker serves the queues ``ours`` and
``ours.slow``, Celery's ``theirs`` and ``theirs.slow``; a client sends to the other kind's
worker unless told otherwise.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from caraway.testing.servers import server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOME = ROOT / ".nox" / "interop"
# Click and the like are taken as pip finds them: what counts is the wire.
WANTED = ["celery[redis]==5.7.0", "flower==2.2.0"]
OTHER = {"celery": "caraway", "caraway": "celery"}
QUEUES = {"caraway": "ours", "celery": "theirs"}


def celery_python() -> Path:
    """The Python of an environment with the real Celery, made at the first need."""
    python = HOME / "bin" / "python"
    stamp = HOME / "installed"
    if not stamp.exists() or stamp.read_text() != repr(WANTED):
        from filelock import FileLock

        HOME.parent.mkdir(exist_ok=True)
        with FileLock(str(HOME) + ".lock"):
            if not stamp.exists() or stamp.read_text() != repr(WANTED):
                venv.create(HOME, clear=True, with_pip=True)
                subprocess.run(
                    [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *WANTED],
                    check=True, stdin=subprocess.DEVNULL,
                )  # fmt: skip
                stamp.write_text(repr(WANTED))
    return python


class Place:
    """One broker and backend, and programs of both kinds on it.

    Args:
        kind: of the broker.
        broker: URL.
        backend: URL.
        python: of the environment with Celery.
        folder: for logs and whatever programs write.
        options: ``broker_transport_options`` of all.
        settings: of Caraway's programs.
        prefix: of queues, where the broker has another place, too.
    """

    def __init__(
        self,
        kind: str,
        broker: str,
        backend: str,
        python: Path,
        folder: Path,
        options: dict[str, Any] | None = None,
        settings: dict[str, Any] | None = None,
        prefix: str = "",
    ) -> None:
        self.kind = kind
        self.prefix = prefix
        self.broker = broker
        self.backend = backend
        self.python = python
        self.folder = folder
        self.slow: dict[str, dict[str, Any]] = {}
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CARAWAY_", "CELERY_"))},
            "INTEROP_BROKER": broker,
            "INTEROP_BACKEND": backend,
            "INTEROP_OPTIONS": json.dumps(options or {}),
            "INTEROP_SETTINGS": json.dumps(settings or {}),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(HERE),
        }

    def queue(self, kind: str) -> str:
        """What workers of a kind serve."""
        return self.prefix + QUEUES[kind]

    # -- workers -----------------------------------------------------------------------

    def command(self, kind: str, name: str, *options: str) -> list[str]:
        """What starts a worker."""
        if kind == "caraway":
            program = [sys.executable, "-m", "caraway.cli", "-A", "ours"]
        else:
            program = [str(self.python), "-m", "celery", "-A", "celery_side"]
        return [*program, "worker", "-n", f"{name}@{self.prefix}here", "-l", "info", *options]

    def start(self, kind: str, name: str, *options: str, queue: str = "") -> Running:
        """Start a worker; it isn't ready yet."""
        env = {**self.env, "INTEROP_QUEUE": queue or self.queue(kind)}
        return Running(self.command(kind, name, *options), self.folder / f"{name}.log", env)

    # -- clients -----------------------------------------------------------------------

    @contextmanager
    def client(self, kind: str, queue: str = "") -> Iterator[Callable[..., Any]]:
        """A program that does what it is asked: see `celery_side.py`."""
        python, side = (
            (sys.executable, "ours.py")
            if kind == "caraway"
            else (str(self.python), "celery_side.py")
        )
        log = (self.folder / f"{kind}-client.log").open("w")
        process = subprocess.Popen(
            [python, str(HERE / side)], cwd=self.folder, text=True,
            env={**self.env, "INTEROP_QUEUE": queue or self.queue(OTHER[kind])},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=log,
        )  # fmt: skip
        log.close()

        def ask(do: str, **order: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
            assert line, (self.folder / f"{kind}-client.log").read_text()
            answer = json.loads(line)
            if "error" in answer:
                raise ClientError(answer)
            return answer["ok"]

        try:
            yield ask
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()  # type: ignore[union-attr]


class Running:
    """A worker's process."""

    def __init__(self, command: list[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                command, env=env, cwd=log.parent, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.process.pid

    def ready(self) -> Running:
        self.wait_log("ready")
        return self

    def wait_log(self, text: str, seconds: float = 30.0) -> None:
        def there() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return text in self.log.read_text()

        wait_for(there, seconds, self.log.read_text)

    def kill(self) -> None:
        """All of its processes at once, as a host that dies."""
        os.killpg(self.process.pid, 9)
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()


def end_all(workers: list[Running]) -> None:
    """All at the same time: a worker of Celery's takes its time."""
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.end()


class ClientError(Exception):
    """What a client raised."""

    @property
    def name(self) -> str:
        return str(self.args[0]["error"])

    @property
    def module(self) -> str:
        return str(self.args[0]["module"])

    @property
    def arguments(self) -> list[str]:
        found: list[str] = self.args[0]["args"]
        return found


class Pair:
    """A client of one kind and a worker of the other."""

    def __init__(self, place: Place, client: str, ask: Callable[..., Any]) -> None:
        self.place = place
        self.client = client
        self.queue = place.queue(OTHER[client])
        self.ask = ask

    @property
    def slow(self) -> dict[str, Any]:
        """What takes its time, all of it sent before any test looks at it."""
        if self.client not in self.place.slow:
            self.place.slow[self.client] = self._send_slow()
        return self.place.slow[self.client]

    def _send_slow(self) -> dict[str, Any]:
        folder = self.place.folder / f"slow-{self.client}"
        folder.mkdir()

        def send(task: str, *args: Any, **options: Any) -> str:
            return str(self.ask("send", task=task, args=args, options=options))

        now = time.time()
        ids: dict[str, Any] = {
            "folder": folder,
            "sent": now,
            "soft": send("nap", 10, soft_time_limit=1),
            "hard": send("nap", 20, time_limit=1),
            "terminated": send("nap", 30),
            "countdown": send("mark", str(folder / "countdown"), "x", countdown=1),
            "eta": send("mark", str(folder / "eta"), "x", eta=now + 1),
            # Celery's client has RabbitMQ drop it once it is over: a worker must have it before.
            "expired": send("mark", str(folder / "expired"), "x", expires=3, countdown=4),
            "revoked": send("mark", str(folder / "revoked"), "x", countdown=2),
            "ignored": send("mark", str(folder / "ignored"), "x", ignore_result=True),
        }
        self.ask("revoke", id=ids["revoked"])
        return ids


def wait_for(
    condition: Callable[[], Any], seconds: float = 15.0, text: Callable[[], Any] = str
) -> Any:
    """Wait until the condition holds; return what it came to."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, text()
        time.sleep(0.02)
    return found


@pytest.fixture(scope="session")
def celery() -> Path:
    return celery_python()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    with server("redis") as running:
        yield running.url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    with server("rabbitmq") as running:
        yield running.url


@pytest.fixture(scope="session", params=["redis", "rabbitmq"])
def place(
    request: pytest.FixtureRequest,
    celery: Path,
    redis_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    """A broker with a worker of each kind."""
    kind = request.param
    broker = request.getfixturevalue(f"{kind}_url")
    folder = tmp_path_factory.mktemp(f"interop-{kind}")
    with both_workers(Place(kind, broker, redis_url, celery, folder)) as made:
        yield made


@contextmanager
def both_workers(made: Place, slots: int = 4) -> Iterator[Place]:
    """The place, with a worker of each kind while the block runs."""
    with ExitStack() as stack:
        workers = []
        for kind, queue in ((kind, made.queue(kind)) for kind in QUEUES):
            options = ("-c", str(slots), "-Q", f"{queue},{queue}.slow")
            workers.append(made.start(kind, QUEUES[kind], *options))
        stack.callback(end_all, workers)
        for worker in workers:
            worker.ready()
        yield made


@pytest.fixture(scope="session")
def celery_client(place: Place) -> Iterator[Callable[..., Any]]:
    with place.client("celery") as ask:
        yield ask


@pytest.fixture(scope="session")
def caraway_client(place: Place) -> Iterator[Callable[..., Any]]:
    with place.client("caraway") as ask:
        yield ask


@pytest.fixture(params=["celery", "caraway"])
def pair(request: pytest.FixtureRequest, place: Place) -> Pair:
    """Named for its client."""
    ask = request.getfixturevalue(f"{request.param}_client")
    return Pair(place, request.param, ask)
