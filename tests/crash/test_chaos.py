"""Lanes and supervisors killed at random, a hundred times and more, under load."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(420)]

TASKS = int(os.environ.get("CARAWAY_CHAOS_TASKS", "20000"))
KILLS = int(os.environ.get("CARAWAY_CHAOS_KILLS", "100"))


def test_nothing_is_lost_and_only_what_ran_runs_again(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    app = crash.client()
    work = app.signature("crash_app.work")
    retry = app.signature("crash_app.retries_once")
    signatures = [
        (retry if n % 10 == 0 else work).clone(args=(n,) if n % 10 == 0 else (n, 0.002))
        for n in range(TASKS)
    ]
    results = list(app.publish(signatures))
    worker = crash.worker(2)
    kills = supervisor_kills = 0
    while kills < KILLS:
        time.sleep(chance.uniform(0.05, 0.25))
        if worker.poll() is not None:
            worker = crash.worker(2)
            crash.wait_for_lanes(worker, 1)
            continue
        if chance.random() < 0.1:
            worker.kill()
            worker.wait()
            supervisor_kills += 1
        else:
            lanes = crash.lanes(worker)
            if not lanes:
                continue
            try:
                os.kill(chance.choice(lanes), signal.SIGKILL)
            except ProcessLookupError:
                continue
        kills += 1
    if worker.poll() is not None:
        crash.worker(2)
    assert supervisor_kills, "the dice never chose a supervisor"

    ids = [result.id for result in results]

    def all_final() -> bool:
        stored = app.backend.get(ids)
        return len(stored) == TASKS and all(s.state == "SUCCESS" for s in stored.values())

    wait_until(all_final, timeout=240, every=0.5)
    for n, result in list(enumerate(results))[:: max(1, TASKS // 500)]:
        assert result.get(timeout=5) == n
    wait_until(lambda: _empty(app), timeout=20, every=0.2)
    assert app.transport.dead() == []
    # What ran more often than asked was the last thing its killed process had begun.
    last = crash.last_started()
    for argument, pids in crash.runs_by_task().items():
        wanted = 2 if int(argument) % 10 == 0 else 1
        assert len(pids) >= wanted
        if len(pids) > wanted:
            cut_short = [pid for pid in pids if last[pid] == argument]
            assert len(pids) - wanted <= len(cut_short), (argument, pids)


def _empty(app: Any) -> bool:
    stats = app.transport.stats(["celery"])[0]
    return (stats.ready, stats.delayed, stats.held) == (0, 0, 0)
