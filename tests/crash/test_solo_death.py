"""A solo worker that is killed: its guardian settles what it leaves.

The lease is a minute long here, so that nothing but the guardian can be the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

LONG_LEASE = pytest.mark.parametrize("crash", [{"CRASH_LEASE": "60"}], indirect=True)


@LONG_LEASE
def test_what_it_ran_and_what_it_held_run_elsewhere(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    first = crash.worker(1, "solo")
    running = app.send_task("crash_app.work", ["long", 3])
    wait_until(lambda: crash.starts()["long"] == 1)
    crash.worker(1, "solo")
    first.kill()
    wait_until(lambda: crash.starts()["long"] == 2, timeout=15)
    assert running.get(timeout=20) == "long"


@LONG_LEASE
def test_poison_is_counted(crash: Any, wait_until: Callable[..., Any]) -> None:
    app = crash.client()
    poison = app.send_task("crash_app.kills_itself", ["poison"])
    for run in range(1, 4):
        worker = crash.worker(1, "solo")
        worker.wait(30)
        assert crash.starts()["poison"] == run
        wait_until(lambda: app.transport.stats(["celery"])[0].held == 0)
    if crash.kind == "rabbitmq":
        # Where the broker gives back what the dead held, the next one to get it judges it.
        crash.worker(1, "solo")
    with pytest.raises(Exception, match="lost"):
        poison.get(timeout=20)
    (letter,) = wait_until(app.transport.dead, timeout=10)  # the result may come before it
    assert letter.message.headers["id"] == poison.id
    assert crash.starts()["poison"] == 3


@LONG_LEASE
def test_a_child_of_a_task_that_lives_on_hides_no_death(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    """It has all that was open in its parent, the channel to the guardian too."""
    app = crash.client()
    first = crash.worker(1, "solo")
    app.send_task("crash_app.forks_a_child_that_stays", ["child"])
    wait_until(lambda: crash.starts()["child"] >= 1)
    running = app.send_task("crash_app.work", ["long", 3])
    wait_until(lambda: crash.starts()["long"] == 1)
    crash.worker(1, "solo")
    first.kill()
    wait_until(lambda: crash.starts()["long"] == 2, timeout=15)
    assert running.get(timeout=20) == "long"


@LONG_LEASE
def test_a_second_signal_gives_back_what_runs(crash: Any, wait_until: Callable[..., Any]) -> None:
    app = crash.client()
    worker = crash.worker(1, "solo")
    app.send_task("crash_app.work", ["long", 60])
    wait_until(lambda: crash.starts()["long"] == 1)
    worker.terminate()
    time.sleep(1.0)  # two signals at once are one
    worker.terminate()
    assert worker.wait(20) == 0
    if crash.kind == "rabbitmq":  # which shows nobody what waits
        assert app.transport.stats(["celery"])[0].ready == 1
        return
    (waiting,) = app.transport.peek("celery")
    assert waiting.attempt == 0, "our stop isn't the task's fault"
