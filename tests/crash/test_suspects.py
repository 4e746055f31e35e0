"""Who is taken for poison on RabbitMQ, which doesn't say of what a dead lane held what ran.

Everything that comes back from a dead lane is a suspect until it has run; only runs that
didn't end may count against one.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.brokers("rabbitmq"), pytest.mark.timeout(240)]

QUEUES = pytest.mark.parametrize(
    "crash",
    [{"CARAWAY_TASK_DEFAULT_QUEUE_TYPE": kind} for kind in ("classic", "quorum")],
    ids=("classic", "quorum"),
    indirect=True,
)


def client(crash: Any) -> Any:
    app = crash.client()
    app.conf.task_default_queue_type = crash.env["CARAWAY_TASK_DEFAULT_QUEUE_TYPE"]
    return app


def all_in_state(app: Any, results: list[Any], state: str) -> Callable[[], bool]:
    ids = [result.id for result in results]

    def look() -> bool:
        stored = app.backend.get(ids)
        return len(stored) == len(ids) and all(s.state == state for s in stored.values())

    return look


def next_lane(crash: Any, worker: Any, last: int, wait_until: Callable[..., Any]) -> int:
    """The lane that took this one's place, once it has done something."""
    wait_until(lambda: (found := crash.lanes(worker)) and found != [last])
    (lane,) = crash.lanes(worker)
    wait_until(lambda: sum(pid == lane for _, _, pid in crash.lines()) > 20)
    return int(lane)


@QUEUES
@pytest.mark.parametrize("lanes", [1, 2])
def test_poison_takes_none_of_the_innocent_around_it_along(
    crash: Any, lanes: int, wait_until: Callable[..., Any]
) -> None:
    app = client(crash)
    work = app.signature("crash_app.work")
    kills = app.signature("crash_app.kills_itself")
    signatures = []
    for n in range(200):
        if n % 40 == 20:
            signatures.append(kills.clone(args=(f"poison{n}",)))
        signatures.append(work.clone(args=(n, 0.004)))
    published = list(app.publish(signatures))
    poison = [r for r, s in zip(published, signatures, strict=True) if "kills" in s.task]
    innocent = [r for r, s in zip(published, signatures, strict=True) if "kills" not in s.task]
    crash.worker(lanes)

    wait_until(all_in_state(app, innocent, "SUCCESS"), timeout=120, every=0.2)
    wait_until(all_in_state(app, poison, "FAILURE"), timeout=60, every=0.2)

    starts = crash.starts()
    # One that was fetched beside another is in doubt for a run that it didn't have.
    assert {starts[f"poison{n}"] for n in range(20, 200, 40)} <= {2, 3}
    dead = sorted(letter.message.headers["id"] for letter in app.transport.dead(limit=1000))
    assert dead == sorted(result.id for result in poison)
    stats = app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.delayed) == (0, 0)


@QUEUES
def test_workers_that_die_again_and_again_take_no_message_for_poison(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    quorum = crash.env["CARAWAY_TASK_DEFAULT_QUEUE_TYPE"] == "quorum"
    tasks, kills = (500, 5) if quorum else (2400, 30)
    app = client(crash)
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, 0.005)) for n in range(tasks)]))
    worker = crash.worker(2)
    for _ in range(kills):
        # As the kernel does when memory is short, or an orchestrator whose patience is over:
        # at any time of a worker's life, whatever runs just then.
        seen = len(crash.lines())
        wait_until(lambda: len(crash.lines()) > seen + 60, timeout=60)  # noqa: B023 - at once
        time.sleep(chance.uniform(0.0, 0.2))
        for pid in [worker.pid, *crash.lanes(worker)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        worker.wait()
        worker = crash.worker(2)

    end = all_in_state(app, results, "SUCCESS")
    wait_until(lambda: app.transport.dead() or end(), timeout=90, every=0.5)
    assert app.transport.dead() == []
    starts = crash.starts()
    assert all(starts[str(n)] for n in range(tasks))
    stats = app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.delayed) == (0, 0)


@QUEUES
def test_a_suspect_has_its_turn_beside_a_queue_that_is_never_empty(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = client(crash)
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, 0.03)) for n in range(250)]))
    worker = crash.worker(1)
    wait_until(lambda: crash.starts()["20"])
    (lane,) = crash.lanes(worker)
    os.kill(lane, signal.SIGKILL)
    # What the lane had with it are suspects now; of the others there are plenty.
    for _ in range(4):
        lane = next_lane(crash, worker, lane, wait_until)
        os.kill(lane, signal.SIGKILL)

    wait_until(all_in_state(app, results, "SUCCESS"), timeout=60, every=0.2)
    assert app.transport.dead() == []
    runs = crash.lines()
    order = [argument for kind, argument, _ in runs if kind == "e"]
    # The first suspects don't wait for the end of the queue.
    first = [n for n in map(str, range(21, 24)) if crash.starts()[n]]
    assert all(order.index(n) < 200 for n in first)
