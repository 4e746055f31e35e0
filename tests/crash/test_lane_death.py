"""A lane dies: what ran, what had ended, what had not begun."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


def test_a_task_that_kills_its_process_gets_its_deliveries_then_fails(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    poison = app.send_task("crash_app.kills_itself", ["poison"])
    others = [app.send_task("crash_app.work", [n]) for n in range(50)]
    crash.worker(1)

    for n, result in enumerate(others):
        assert result.get(timeout=30) == n
    with pytest.raises(Exception, match="lost"):
        poison.get(timeout=30)
    assert poison.state == "FAILURE"
    assert type(poison.result).__name__ == "WorkerLostError"
    starts = crash.starts()
    assert starts["poison"] == 3
    assert {starts[str(n)] for n in range(50)} == {1}
    # Where the broker doesn't hold the results, they are stored before messages are settled.
    (letter,) = wait_until(app.transport.dead, timeout=10)
    assert letter.message.headers["id"] == poison.id
    # Where the broker itself gives back what a dead lane held, nobody knows of what it died.
    assert "SIGKILL" in letter.reason or (
        crash.kind == "rabbitmq" and "never finished" in letter.reason
    )
    assert letter.kind == "dead"


def test_a_task_acknowledged_early_is_not_run_again(crash: Any) -> None:
    app = crash.client()
    result = app.send_task("crash_app.at_most_once", ["once"])
    crash.worker(1)
    with pytest.raises(Exception, match="lost"):
        result.get(timeout=30)
    after = app.send_task("crash_app.work", ["after"])
    assert after.get(timeout=30) == "after"
    assert crash.starts()["once"] == 1


def test_a_killed_lanes_messages_run_elsewhere_within_a_second(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    worker = crash.worker(2)
    crash.wait_for_lanes(worker, 2)
    app.send_task("crash_app.work", ["long", 2.0])
    wait_until(lambda: crash.starts()["long"])
    victim = next(pid for kind, arg, pid in crash.lines() if arg == "long")
    killed = time.monotonic()
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: crash.starts()["long"] == 2, timeout=5)
    assert time.monotonic() - killed < 1.0


def test_a_killed_machines_messages_run_within_the_lease(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    first = crash.worker(2)
    crash.wait_for_lanes(first, 2)
    result = app.send_task("crash_app.work", ["long", 1.0])
    wait_until(lambda: crash.starts()["long"])
    killed = time.monotonic()
    for pid in [first.pid, *crash.lanes(first)]:
        os.kill(pid, signal.SIGKILL)
    crash.worker(1)
    wait_until(lambda: crash.starts()["long"] == 2, timeout=10)
    # The lease is 2 s; it was renewed at most that long ago, and is swept once a second.
    assert time.monotonic() - killed < 4.0
    assert result.get(timeout=10) == "long"


def test_a_task_that_holds_the_gil_for_three_leases_runs_once(crash: Any) -> None:
    app = crash.client()
    result = app.send_task("crash_app.holds_the_gil", ["gil", 6.0])
    crash.worker(2)
    crash.worker(1)
    assert result.get(timeout=40) == "gil"
    assert crash.starts()["gil"] == 1


@pytest.mark.brokers("sqlite", "redis")
def test_a_lane_stopped_past_its_lease_is_fenced_off(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    first = crash.worker(1)
    (lane,) = crash.wait_for_lanes(first, 1)
    result = app.send_task("crash_app.work", ["slow", 1.0])
    wait_until(lambda: crash.starts()["slow"])
    os.kill(lane, signal.SIGSTOP)
    crash.worker(1)
    try:
        wait_until(lambda: crash.starts()["slow"] == 2, timeout=15)
        assert result.get(timeout=10) == "slow"
        assert app.transport.stats(["celery"])[0].held == 0
    finally:
        os.kill(lane, signal.SIGCONT)
    # The late outcome changes nothing, and the worker goes on with a new owner.
    last = app.send_task("crash_app.work", ["after", 0.0])
    assert last.get(timeout=20) == "after"
    assert crash.starts()["slow"] == 2
    stats = app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.delayed) == (0, 0)


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_a_hard_limit_ends_just_its_task(crash: Any, pool: str) -> None:
    app = crash.client()
    long = app.send_task("crash_app.runs_too_long", ["limit"])
    others = [app.send_task("crash_app.work", [n, 0.01]) for n in range(30)]
    crash.worker(2, pool)
    for n, result in enumerate(others):
        assert result.get(timeout=30) == n
    with pytest.raises(Exception, match="1"):
        long.get(timeout=30)
    assert type(long.result).__name__ == "TimeLimitExceeded"
    assert crash.starts()["limit"] == 1


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_a_soft_limit_is_raised_inside_of_the_task(crash: Any, pool: str) -> None:
    app = crash.client()
    result = app.send_task("crash_app.runs_softly_too_long", ["soft"])
    crash.worker(1, pool)
    if pool in ("prefork", "solo"):
        assert result.get(timeout=20) == "cleaned up"
        assert crash.starts()["soft"] == 1
