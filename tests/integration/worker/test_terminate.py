"""Tasks that are terminated while they run, by each kind of signal."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from caraway.errors import TaskRevokedError

pytestmark = pytest.mark.timeout(90)
Wait = Callable[..., Any]


@pytest.fixture
def revoked(site: Any) -> dict[str, Any]:
    """Events ``task-revoked`` as they come: id -> (terminated, signum)."""
    heard: dict[str, Any] = {}

    def hear(event: dict[str, Any]) -> None:
        heard[event["uuid"]] = (event["terminated"], event["signum"])

    site.hear({"task-revoked": hear})
    return heard


def is_revoked(result: Any) -> None:
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=20)
    assert result.state == "REVOKED"


def is_empty(site: Any) -> bool:
    return sum(queue.ready + queue.held for queue in site.app.transport.stats()) == 0


def test_a_task_ends_as_the_signal_says(
    site: Any, wait_until: Wait, revoked: dict[str, Any]
) -> None:
    site.worker("-c", "3", "-E")
    tidy = site.send("tidy", "tidy", 60)
    hurries = site.send("hurries", "hurries")
    hogs = site.send("hogs", 30)
    for file in ("tidy", "hurries", "hogging"):
        wait_until((site.path / file).exists)
    control = site.app.control

    began = time.monotonic()
    control.revoke(tidy.id, terminate=True)
    is_revoked(tidy)
    assert (site.path / "tidy-15").exists(), "it could clean up"
    control.revoke(hurries.id, terminate=True, signal="USR1")
    assert hurries.get(timeout=20) == "in time"
    # It holds the interpreter's lock: no exception reaches it.
    ((answer,),) = (
        each.values()
        for each in control.revoke(hogs.id, terminate=True, signal="SIGKILL", reply=True)
    )
    is_revoked(hogs)

    assert answer == {"ok": f"terminated {hogs.id}"}
    assert time.monotonic() - began < 15
    wait_until(lambda: is_empty(site))
    wait_until(lambda: revoked == {tidy.id: (True, 15), hogs.id: (True, 9)})
    assert "terminated by SIGKILL" in site.log


def test_a_task_that_takes_no_notice_is_killed_after_a_while(site: Any, wait_until: Wait) -> None:
    site.worker("-c", "1")
    stubborn = site.send("stubborn", "runs", 60)
    waits = site.send("add", 1, 2)
    wait_until((site.path / "runs").exists)
    began = time.monotonic()

    site.app.control.revoke(stubborn.id, terminate=True, signal="TERM")

    is_revoked(stubborn)
    assert time.monotonic() - began > 4.0
    assert waits.get(timeout=20) == 3
    assert (site.path / "runs").read_text() == "x"


def test_what_ran_beside_a_killed_task_runs_elsewhere_and_is_not_counted(
    site: Any, wait_until: Wait, revoked: dict[str, Any]
) -> None:
    # Every further delivery would be one too many.
    worker = {"CARAWAY_TASK_MAX_DELIVERIES": "1"}
    site.worker("-P", "threads", "-c", "3", "-E", env=worker)
    killed = site.send("stubborn", "killed", 60)
    beside = site.send("stubborn", "beside", 2.0)
    early = site.send("stubborn_early", "early", 60)
    for file in ("killed", "beside", "early"):
        wait_until((site.path / file).exists)

    site.app.control.revoke([killed.id, early.id], terminate=True, signal="SIGQUIT")

    is_revoked(killed)
    is_revoked(early)
    assert beside.get(timeout=20) == "end"
    assert (site.path / "killed").read_text() == (site.path / "early").read_text() == "x"
    assert (site.path / "beside").read_text() == "xx"
    wait_until(lambda: is_empty(site))
    wait_until(lambda: revoked == {killed.id: (True, 3), early.id: (True, 3)})


def test_a_solo_worker_insists_where_it_can_kill_nobody(site: Any, wait_until: Wait) -> None:
    site.worker("-P", "solo")
    stubborn = site.send("stubborn", "runs", 60, 1)
    wait_until((site.path / "runs").exists)

    site.app.control.revoke(stubborn.id, terminate=True, signal="SIGKILL")

    is_revoked(stubborn)
    assert site.send("add", 1, 2).get(timeout=20) == 3
