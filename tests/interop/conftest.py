"""Servers, the real Celery in an environment of its own, and workers of both kinds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from caraway.testing.servers import Server, server

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
HOME = ROOT / ".nox" / "interop"
# Click and the like are taken as pip finds them: what counts is the wire.
WANTED = ["celery[redis]==5.7.0", "flower==2.2.0"]


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


@pytest.fixture(scope="session")
def celery() -> Path:
    return celery_python()


@pytest.fixture(scope="session", params=["redis"])
def broker(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(request.param) as running:
        yield running


class Place:
    """One broker and backend, and programs of both kinds on it."""

    def __init__(self, running: Server, python: Path, folder: Path) -> None:
        self.server = running
        self.python = python
        self.folder = folder
        self.kind = running.name
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("CARAWAY_", "CELERY_"))},
            "INTEROP_BROKER": running.url,
            "INTEROP_BACKEND": running.url if running.name == "redis" else "rpc://",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(HERE),
        }

    def start(self, *command: str, log: str) -> subprocess.Popen[str]:
        with (self.folder / log).open("w") as out:
            return subprocess.Popen(
                command, env=self.env, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            )  # fmt: skip

    @contextmanager
    def caraway_worker(self, *options: str, name: str = "ours") -> Iterator[subprocess.Popen[str]]:
        process = self.start(
            sys.executable, "-m", "caraway.cli", "-A", "ours", "worker", "-c", "2",
            "-n", f"{name}@here", *options, log=f"{name}.log",
        )  # fmt: skip
        try:
            self.wait_log(f"{name}.log", "ready", process)
            yield process
        finally:
            end(process)

    @contextmanager
    def celery_worker(self, *options: str, name: str = "theirs") -> Iterator[subprocess.Popen[str]]:
        process = self.start(
            str(self.python), "-m", "celery", "-A", "celery_side", "worker", "-c", "2",
            "-n", f"{name}@here", "-l", "info", *options, log=f"{name}.log",
        )  # fmt: skip
        try:
            self.wait_log(f"{name}.log", "ready.", process)
            yield process
        finally:
            end(process)

    def wait_log(self, log: str, text: str, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 30
        path = self.folder / log
        while text not in path.read_text():
            assert process.poll() is None, path.read_text()
            assert time.monotonic() < deadline, path.read_text()
            time.sleep(0.05)

    @contextmanager
    def celery_client(self) -> Iterator[Callable[..., Any]]:
        process = subprocess.Popen(
            [str(self.python), str(HERE / "celery_side.py")], env=self.env, cwd=self.folder,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

        def ask(do: str, **order: Any) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps({"do": do, **order}) + "\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline())
            if "error" in answer:
                raise CeleryError(answer)
            return answer["ok"]

        try:
            yield ask
        finally:
            process.stdin.close()  # type: ignore[union-attr]
            process.wait(20)
            process.stdout.close()  # type: ignore[union-attr]


class CeleryError(Exception):
    """What the real Celery's client raised."""

    @property
    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = self.args[0]
        return found


def end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


@pytest.fixture(scope="module")
def place(broker: Server, celery: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(broker, celery, tmp_path_factory.mktemp(f"interop-{broker.name}"))


@pytest.fixture(scope="session")
def celery_error() -> type[CeleryError]:
    return CeleryError
