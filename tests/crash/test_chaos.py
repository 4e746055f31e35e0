"""Lanes and supervisors killed at random, again and again, under load."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest
from crash_site import is_empty

from caraway.states import READY_STATES

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(420)]

TASKS = int(os.environ.get("CARAWAY_CHAOS_TASKS", "0"))
KILLS = int(os.environ.get("CARAWAY_CHAOS_KILLS", "0"))
SHARE = {"sqlite": (10_000, 60), "redis": (10_000, 60), "rabbitmq": (3_000, 25)}
"""(tasks, kills) of a broker, where the environment doesn't say."""


def test_nothing_is_lost_and_only_what_ran_runs_again(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    tasks, kills_wanted = SHARE[crash.kind]
    tasks, kills_wanted = TASKS or tasks, KILLS or kills_wanted
    # What is killed goes back to the head, and is the first to run again: on a busy machine
    # the same task may well be hit three times in a row.
    crash.env["CARAWAY_TASK_MAX_DELIVERIES"] = "10"
    app = crash.client()
    work = app.signature("crash_app.work")
    retry = app.signature("crash_app.retries_once")
    signatures = [
        (retry if n % 10 == 0 else work).clone(args=(n,) if n % 10 == 0 else (n, 0.002))
        for n in range(tasks)
    ]
    results = list(app.publish(signatures))
    worker = crash.worker(2)
    kills = supervisor_kills = 0
    killed: list[tuple[float, int]] = []
    unburied: set[int] = set()
    while kills < kills_wanted or not supervisor_kills:
        time.sleep(chance.uniform(0.05, 0.25))
        if worker.poll() is not None:
            worker = crash.worker(2)
            crash.wait_for_lanes(worker, 1)
            continue
        if chance.random() < 0.1:
            worker.kill()
            worker.wait()
            supervisor_kills += 1
            # Lanes that died just before it: nobody is left who knows what had ended there.
            unburied |= {pid for at, pid in killed if time.monotonic() - at < 2.0}
        else:
            lanes = crash.lanes(worker)
            if not lanes:
                continue
            victim = chance.choice(lanes)
            try:
                os.kill(victim, signal.SIGKILL)
            except ProcessLookupError:
                continue
            killed.append((time.monotonic(), victim))
        kills += 1
    if worker.poll() is not None:
        crash.worker(2)

    ids = [result.id for result in results]

    def all_final() -> bool:
        stored = app.backend.get(ids)
        other = [s for s in stored.values() if s.state in READY_STATES and s.state != "SUCCESS"]
        assert not other, (len(other), other[0], app.transport.dead())
        return len(stored) == tasks and all(s.state == "SUCCESS" for s in stored.values())

    try:
        wait_until(all_final, timeout=240, every=0.5)
    except AssertionError:
        print(app.transport.stats(), app.transport.owners())
        raise
    for n, result in list(enumerate(results))[:: max(1, tasks // 500)]:
        assert result.get(timeout=5) == n
    wait_until(lambda: is_empty(app), timeout=20, every=0.2)
    assert app.transport.dead() == []
    # What ran more often than asked was the last thing its killed process had begun, or
    # that process died with its supervisor.  To RabbitMQ all that a process had not
    # committed is alike.
    if crash.kind == "rabbitmq":
        unburied = {pid for _, pid in killed}
    last = crash.last_started()
    for argument, pids in crash.runs_by_task().items():
        wanted = 2 if int(argument) % 10 == 0 else 1
        assert len(pids) >= wanted
        if wanted == 2 and crash.kind == "rabbitmq":
            # Killed between publishing the retry and acknowledging: both are there.
            continue
        if len(pids) > wanted:
            cut_short = [pid for pid in pids if last[pid] == argument or pid in unburied]
            assert len(pids) - wanted <= len(cut_short), (argument, pids)
