"""Lanes without their supervisor, and workers that are stopped while they start."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(180)]


@pytest.mark.parametrize("crash", [{"CRASH_LEASE": "60"}], indirect=True)
def test_orphaned_lanes_finish_what_runs_and_give_back_the_rest(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    worker = crash.worker(2)
    lanes = crash.wait_for_lanes(worker, 2)
    long = [app.send_task("crash_app.work", [f"long{n}", 2]) for n in range(2)]
    wait_until(lambda: len(crash.starts()) == 2)
    for n in range(20):
        app.send_task("crash_app.work", [n])
    worker.kill()
    worker.wait()
    assert [r.get(timeout=20) for r in long] == ["long0", "long1"]
    wait_until(lambda: not any(_alive(pid) for pid in lanes))
    assert crash.starts() == {"long0": 1, "long1": 1}
    stats = app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.held) == (20, 0)


def test_a_signal_at_any_moment_of_the_start_leaves_nothing_behind(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    app = crash.client()
    results = [app.send_task("crash_app.work", [n]) for n in range(20)]
    for n in range(20 if crash.kind == "sqlite" else 8):
        pool = ("prefork", "prefork", "threads", "solo")[n % 4]
        worker = crash.worker(2, pool)
        time.sleep(chance.uniform(0.0, 0.8))
        worker.terminate()
        worker.wait(20)
        wait_until(lambda pid=worker.pid: not _session(pid), timeout=10)
        assert app.transport.stats(["celery"])[0].held == 0
        results.append(app.send_task("crash_app.work", [20 + n]))
    crash.worker(2)
    assert [r.get(timeout=30) for r in results] == list(range(len(results)))
    assert set(crash.starts().values()) == {1}


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _session(session: int) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if os.getsid(int(entry)) == session:
                    with open(f"/proc/{entry}/stat") as stat:
                        if stat.read().rsplit(")", 1)[1].split()[0] != "Z":
                            found.append(int(entry))
            except OSError:
                continue
    return found
