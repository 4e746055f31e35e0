"""What users of task queues on Redis complain of most: here it doesn't happen."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_site import kill_session
from faults_kit import LONG, Stream, all_end, redis_says

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.brokers("redis")]

LEASE = 2.0


@pytest.fixture
def quick(site: Any) -> Any:
    """Workers that talk to the server itself, under a lease of 2 s."""
    site.env["CRASH_BROKER"] = site.direct
    site.env["CRASH_LEASE"] = str(LEASE)
    return site


def test_a_task_of_three_leases_runs_once_though_three_workers_wait(quick: Any) -> None:
    app = quick.client()
    for _ in range(3):
        quick.worker(1)
    result = app.send_task("crash_app.work", ["long", 3 * LEASE])
    assert result.get(timeout=30) == "long"
    assert quick.starts() == {"long": 1}


def test_what_a_killed_machine_had_taken_is_done_within_the_lease(
    quick: Any, wait_until: Callable[..., Any]
) -> None:
    app = quick.client()
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, 0.002)) for n in range(4000)]))
    first, second = quick.worker(2), quick.worker(2)
    quick.wait_for_lanes(second, 2)
    wait_until(lambda: len(quick.starts()) > 200)
    kill_session(first.pid)
    killed = time.monotonic()
    wait_until(lambda: app.transport.stats(["celery"])[0].ready == 0, timeout=60)
    drained = time.monotonic()
    all_end(results)
    # The rest takes its time; what had been taken waits for nothing but the lease.
    assert time.monotonic() - max(drained, killed + LEASE) < 2.5


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def test_tasks_for_later_are_not_held_in_workers(
    quick: Any, wait_until: Callable[..., Any]
) -> None:
    count = 200_000 if LONG else 40_000
    app = quick.client()
    worker = quick.worker(2)
    lanes = quick.wait_for_lanes(worker, 2)
    app.send_task("crash_app.work", ["warm"]).get(timeout=20)
    before = {pid: resident(pid) for pid in [worker.pid, *lanes]}
    work = app.signature("crash_app.work")
    for start in range(0, count, 10_000):
        app.publish([work.clone(args=(n,), countdown=600) for n in range(start, start + 10_000)])
    app.send_task("crash_app.work", ["now"]).get(timeout=20)
    time.sleep(2.0)
    for pid, size in before.items():
        assert resident(pid) - size < 4 << 20
    stats = app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.delayed, stats.held) == (0, count, 0)
    assert quick.starts() == {"warm": 1, "now": 1}


def test_what_is_revoked_while_no_worker_runs_never_runs(quick: Any) -> None:
    app = quick.client()
    revoked = [app.send_task("crash_app.work", [f"revoked{n}"]) for n in range(5)]
    later = app.send_task("crash_app.work", ["later"], countdown=1.0)
    for result in [*revoked, later]:
        result.revoke()
    after = app.send_task("crash_app.work", ["after"])
    quick.worker(2)
    assert after.get(timeout=20) == "after"
    time.sleep(1.5)
    assert quick.starts() == {"after": 1}
    assert {result.state for result in revoked} == {"REVOKED"}


def test_a_term_under_load_loses_nothing_and_repeats_nothing(quick: Any) -> None:
    app = quick.client()
    stream = Stream(app)
    for _ in range(5):
        worker = quick.worker(2)
        quick.wait_for_lanes(worker, 2)
        time.sleep(0.7)
        worker.terminate()
        assert worker.wait(15) == 0
        assert app.transport.stats(["celery"])[0].held == 0
    results = stream.end()
    quick.worker(2)
    all_end(results)
    assert set(quick.starts().values()) == {1}


def test_inspectors_that_die_leave_nothing_for_ever(
    quick: Any, wait_until: Callable[..., Any]
) -> None:
    """Their reply queues end by themselves, or with the next sweep."""
    app = quick.client()
    quick.worker(1)
    app.send_task("crash_app.work", ["up"]).get(timeout=20)
    port = quick.server.port

    def permanent() -> set[str]:
        keys = [each for each in redis_says(port, "KEYS", "*").split(b"\r\n") if each[:1] != b"$"]
        return {
            key.decode()
            for key in keys[1:]
            if key and redis_says(port, "TTL", key.decode()) == b":-1\r\n"
        }

    assert app.control.ping(timeout=3.0)
    before = permanent()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            try:
                app.forget_connections()
                app.control.ping(timeout=30.0, destination=["nobody@nowhere"])
            finally:
                os._exit(0)
        time.sleep(0.15)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert app.control.ping(timeout=3.0)
    wait_until(lambda: permanent() <= before, timeout=20, every=0.5)
