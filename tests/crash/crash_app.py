"""The app that the crash tests run: every run leaves a line in a log that survives it.

The environment says where: ``CRASH_BROKER``, ``CRASH_BACKEND``, ``CRASH_LOG``.  A line is
``<s or e> <argument> <pid>``, written with one append each, so that it is whole or absent.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from caraway import Caraway

_log = os.open(os.environ["CRASH_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)

app = Caraway(
    "crash_app",
    broker=os.environ["CRASH_BROKER"],
    backend=os.environ.get("CRASH_BACKEND") or os.environ["CRASH_BROKER"],
    broker_lease=float(os.environ.get("CRASH_LEASE", "2")),
    worker_shutdown_timeout=5.0,
)


def note(kind: str, argument: Any) -> None:
    os.write(_log, f"{kind} {argument} {os.getpid()}\n".encode())


@app.task
def work(n: int, seconds: float = 0.0) -> int:
    note("s", n)
    if seconds:
        time.sleep(seconds)
    note("e", n)
    return n


@app.task(bind=True, max_retries=2)
def retries_once(self: Any, n: int) -> int:
    note("s", n)
    if self.request.retries == 0:
        note("e", n)
        raise self.retry(countdown=0.05)
    note("e", n)
    return n


@app.task
def kills_itself(n: int) -> None:
    note("s", n)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def fails(n: int) -> None:
    note("s", n)
    raise ValueError(n)


@app.task
def forks_a_child_that_stays(n: int) -> None:
    """As a task does that starts a daemon with the means of the system alone."""
    note("s", n)
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        time.sleep(40)
        os._exit(0)


@app.task
def holds_the_gil(n: int, seconds: float) -> int:
    """A C call that keeps the GIL all the time it takes."""
    import ctypes

    note("s", n)
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    note("e", n)
    return n


@app.task(acks_late=False)
def at_most_once(n: int) -> None:
    note("s", n)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(time_limit=1.0)
def runs_too_long(n: int) -> None:
    note("s", n)
    time.sleep(60)


@app.task(soft_time_limit=0.3)
def runs_softly_too_long(n: int) -> str:
    from caraway.errors import SoftTimeLimitExceeded

    note("s", n)
    try:
        time.sleep(60)
    except SoftTimeLimitExceeded:
        return "cleaned up"
    return "not limited"


def _kill_at(point: str) -> None:
    """Have this process killed at a named point of its nth commit: ``point:nth:file``;
    the file makes sure that it happens once in all processes."""
    from caraway.worker import commit, lane

    name, nth, flag = point.split(":", 2)
    seen = {"commits": 0}

    def die() -> None:
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return
        if os.environ.get("CRASH_KILL_ALL"):
            os.killpg(os.getpgid(0), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def apply(self: Any, completions: Any) -> Any:
        seen["commits"] += 1
        now = seen["commits"] == int(nth)
        if now and name == "before-store":
            die()
        results = [c.result for c in completions if c.result is not None]
        if results:
            self._backend.store(results)
        if now and name == "after-store":
            die()
        publications = [p for c in completions for p in c.publications]
        if publications:
            self._transport.publish(publications)
        if now and name == "after-publish":
            die()
        lost = self._consumer.settle([c.settlement for c in completions])
        if now and name == "after-settle":
            die()
        return lost

    def atomic(self: Any) -> None:
        open_lane(self)

        def deadly(commit_all: Any) -> Any:
            def apply_all(*arguments: Any) -> Any:
                seen["commits"] += 1
                now = seen["commits"] == int(nth)
                if now and name == "before-store":
                    die()
                answer = commit_all(*arguments)
                if now and name == "after-commit":
                    die()
                return awaited(answer) if callable(answer) else answer

            return apply_all

        def awaited(end: Any) -> Any:
            """The wait for an exchange, where others ran since it was begun."""

            def wait() -> Any:
                seen["answers"] = seen.get("answers", 0) + bool(self.done)
                now = self.done and seen["answers"] == int(nth)
                if now and name == "before-answer":
                    die()
                answer = end()
                if now and name == "after-answer":
                    die()
                return answer

            return wait

        if self.committer.atomic:
            self.committer.apply = deadly(self.committer.apply)
            if self.committer.exchange is not None:
                self.committer.exchange = deadly(self.committer.exchange)

    def count(*args: Any) -> Any:
        made, done = settle_chords(*args)
        seen["chords"] = seen.get("chords", 0) + len(done)
        if name == "after-parts" and done and seen["chords"] >= int(nth):
            die()
        return made, done

    settle_chords = commit.settle
    commit.settle = count
    open_lane = lane.Lane.open
    lane.Lane.open = atomic  # type: ignore[method-assign]
    commit.Committer.apply_in_steps = apply  # type: ignore[method-assign]


if os.environ.get("CRASH_KILL_AT"):
    _kill_at(os.environ["CRASH_KILL_AT"])


def _wedge(flag: str) -> None:
    """Have a lane that finds this file hang between two tasks, once."""
    from caraway.worker import lane

    turn = lane.Lane.turn

    def hangs(self: Any) -> None:
        try:
            os.unlink(flag)
        except FileNotFoundError:
            turn(self)
        else:
            time.sleep(600)

    lane.Lane.turn = hangs  # type: ignore[method-assign]


if os.environ.get("CRASH_WEDGE"):
    _wedge(os.environ["CRASH_WEDGE"])
