"""Real workers as processes, on an embedded broker of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

APP = """
import asyncio, os, time
from caraway import Caraway
from caraway.errors import Ignore, Reject, SoftTimeLimitExceeded, Terminated

app = Caraway("site", broker="sqlite:///broker.db", worker_shutdown_timeout=5.0, broker_lease=3.0)

@app.task
def add(x, y):
    return x + y

@app.task
def pid(_=None):
    return os.getpid()

@app.task
def nap(seconds):
    time.sleep(seconds)
    return seconds

@app.task
async def anap(seconds):
    await asyncio.sleep(seconds)
    return seconds

@app.task(bind=True, max_retries=3)
def flaky(self, fails):
    if self.request.retries < fails:
        raise self.retry(countdown=0.02)
    return self.request.retries

@app.task(autoretry_for=(KeyError,), retry_backoff=0.01, retry_jitter=False, max_retries=2)
def auto(fails):
    auto.seen = getattr(auto, "seen", 0) + 1
    raise KeyError("always")

@app.task
def ignores():
    raise Ignore

@app.task
def rejects():
    raise Reject("not for us")

@app.task
def unserializable():
    return object()

@app.task
def grows(mebibytes):
    grows.kept = getattr(grows, "kept", []) + [b"x" * (mebibytes * 1024 * 1024)]
    return os.getpid()

@app.task(rate_limit="20/s")
def limited(n):
    return time.time()

@app.task(track_started=True)
def tracked(seconds):
    time.sleep(seconds)

@app.task
def forks(n):
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if add.delay(n, n).id else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

@app.task
def loops(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass

@app.task(bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 5})
    time.sleep(1.0)
    return "end"

@app.task
def exits():
    raise SystemExit(3)

@app.task
def hogs(millions):
    # One operation of the interpreter: nothing else in this process runs meanwhile.
    open("hogging", "w").close()
    return 10 ** (millions * 10**6) > 0

@app.task
def stubborn(file, seconds, swallows=1000):
    with open(file, "a") as runs:
        runs.write("x")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            while time.monotonic() < end:
                time.sleep(0.01)
        except BaseException:
            swallows -= 1
            if swallows < 0:
                raise
    return "end"

stubborn_early = app.task(name="site_app.stubborn_early", acks_late=False)(stubborn.run)

@app.task(autoretry_for=(Exception,))
def tidy(file, seconds):
    open(file, "w").close()
    try:
        time.sleep(seconds)
    except Terminated as exc:
        open(f"{file}-{exc.signum}", "w").close()
        raise

@app.task
def hurries(file):
    open(file, "w").close()
    try:
        time.sleep(30)
    except SoftTimeLimitExceeded:
        return "in time"

from caraway.control import inspect_command

@inspect_command(help="How many widgets there are.")
def widgets(state):
    return 7
"""


class Site:
    """A directory with an app, its workers, and a client of it in this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "site_app.py").write_text(textwrap.dedent(APP))
        self.workers: list[subprocess.Popen[bytes]] = []
        self.listeners: list[tuple[Any, threading.Thread]] = []
        self.env = dict(os.environ)
        from caraway import Caraway

        self.app = Caraway("site", broker=f"sqlite:///{path}/broker.db", set_as_current=False)

    def send(self, name: str, *args: Any, **options: Any) -> Any:
        return self.app.send_task(f"site_app.{name}", args, **options)

    def worker(self, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with open(self.path / "worker.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "caraway", "-A", "site_app", "worker", *options],
                cwd=self.path,
                env={**os.environ, **(env or {})},
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        self.workers.append(process)
        return process

    def hear(self, handlers: dict[str, Callable[[dict[str, Any]], Any]]) -> None:
        """Call these with events, as `Receiver` does, until the site is stopped."""
        receiver = self.app.events.Receiver(handlers=handlers)
        thread = threading.Thread(target=receiver.capture, daemon=True)
        self.listeners.append((receiver, thread))
        thread.start()

    @property
    def log(self) -> str:
        return (self.path / "worker.log").read_text()

    def stop(self) -> None:
        # Also after a test that failed: what reads a store must not outlive it.
        for receiver, thread in self.listeners:
            receiver.stop()
            thread.join(20)
        for process in self.workers:
            if process.poll() is None:
                process.terminate()
        for process in self.workers:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.app.close()


def until(look: Callable[[], Any], timeout: float = 20.0) -> Any:
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.01)
    raise AssertionError(f"nothing after {timeout} s")


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    return until


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    try:
        yield made
    finally:
        made.stop()
