"""Remote control and events of real workers, busy ones too."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any


def caraway(site: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "caraway", *words],
        cwd=site.path, capture_output=True, text=True, timeout=60,
        env={**site.env, "CARAWAY_BROKER_URL": f"sqlite:///{site.path}/broker.db"},
    )  # fmt: skip


def ready(site: Any, wait_until: Callable[..., Any], lanes: int) -> None:
    wait_until(lambda: sum(bool(s.queues) for s in site.app.transport.owners()) == lanes)


def test_a_busy_worker_answers_everything_and_at_once(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    from caraway.control.commands import COMMANDS
    from caraway.worker import control  # noqa: F401 - fills the table

    site.worker("-c", "1")
    ready(site, wait_until, 1)
    running = site.send("nap", 30.0)
    inspect = site.app.control.inspect(timeout=20)
    (item,) = wait_until(lambda: (inspect.active() or {"": []}).popitem()[1])
    (node,) = inspect.ping()

    assert (item["id"], item["name"], item["args"]) == (running.id, "site_app.nap", [30.0])
    assert item["hostname"] == node
    assert abs(time.time() - item["time_start"]) < 30
    assert item["delivery_info"]["routing_key"] == "celery"
    assert inspect.query_task(running.id)[node][running.id][0] == "active"
    began = time.monotonic()
    for name, info in COMMANDS.items():
        if info.kind == "inspect" and name != "objgraph":
            more = {"ids": [], "from_node": "x", "taskinfoitems": []}
            assert inspect.ask(name, **more), name
    # A round ends with the last answer: 20 s each would be far more.
    assert time.monotonic() - began < 20
    assert site.app.control.inspect(["nobody@there"], timeout=20).ping() is None
    assert site.app.control.inspect(pattern="*@nowhere", timeout=20).ping() is None
    assert site.app.control.inspect(pattern=node[:4] + "*", timeout=20).ping() is not None
    site.app.control.revoke(running.id, terminate=True)


def test_a_lane_that_holds_the_gil_is_told_of_all_the_same(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    site.worker("-c", "1")
    ready(site, wait_until, 1)
    result = site.send("hogs", 3)
    inspect = site.app.control.inspect(timeout=20)
    wait_until(lambda: (site.path / "hogging").exists())

    (found,) = inspect.active().values()
    assert [(each["id"], each["name"]) for each in found] == [(result.id, "site_app.hogs")]


def test_queues_are_consumed_and_left_while_it_runs(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    site.worker("-c", "2")
    ready(site, wait_until, 2)
    control = site.app.control
    result = site.send("add", 1, 2, queue="more")

    (answer,) = control.add_consumer("more", reply=True, timeout=20)
    assert result.get(timeout=20) == 3
    (queues,) = control.inspect(timeout=20).active_queues().values()
    assert [queue["name"] for queue in queues] == ["celery", "more"]

    control.cancel_consumer("celery", reply=True, timeout=20)
    control.cancel_consumer("more", reply=True, timeout=20)
    wait_until(lambda: all(not s.queues for s in site.app.transport.owners()))
    result = site.send("add", 2, 2)
    control.add_consumer("celery", reply=True, timeout=20)
    assert result.get(timeout=20) == 4
    (said,) = answer.values()
    assert said == {"ok": "add consumer more"}


def test_stamps_are_revoked_in_lanes_that_start_later_too(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    from caraway.errors import TaskRevokedError

    site.worker("-c", "1")
    ready(site, wait_until, 1)
    site.app.control.revoke_by_stamped_headers({"customer": ["7"]}, reply=True, timeout=20)
    site.app.control.pool_restart(reply=True, timeout=20)
    stamped = {"stamped_headers": ["customer"], "customer": 7}
    gone = site.send("add", 1, 2, **stamped)
    other = site.send("add", 1, 2, stamped_headers=["customer"], customer=8)

    assert other.get(timeout=20) == 3
    wait_until(lambda: gone.state == "REVOKED")
    try:
        gone.get(timeout=1)
    except TaskRevokedError:
        pass


def test_monitors_see_workers_and_their_tasks(site: Any, wait_until: Callable[..., Any]) -> None:
    state = site.app.events.State()
    site.hear({"*": state.event})
    worker = site.worker("-c", "2", "-E", "--heartbeat-interval", "0.5")
    ready(site, wait_until, 2)
    done = site.send("add", 1, 2)
    killed = site.send("nap", 30, time_limit=0.5)
    running = site.send("nap", 30)

    def states() -> list[str]:
        ids = (done.id, killed.id, running.id)
        return [state.tasks[each].state if each in state.tasks else "" for each in ids]

    wait_until(lambda: states() == ["SUCCESS", "FAILURE", "STARTED"])
    (node,) = wait_until(lambda: list(state.alive_workers()))
    wait_until(lambda: node.active == 1)
    assert (node.freq, node.sw_ident) == (0.5, "caraway")
    assert (state.tasks[done.id].result, state.tasks[done.id].name) == ("3", "site_app.add")
    assert "TimeLimitExceeded" in state.tasks[killed.id].exception
    site.app.control.disable_events(reply=True, timeout=20)
    site.send("add", 1, 2).get(timeout=20)
    assert state.task_count == 3
    worker.send_signal(signal.SIGQUIT)
    wait_until(lambda: not state.workers)


def test_solo_workers_talk_too(site: Any, wait_until: Callable[..., Any]) -> None:
    state = site.app.events.State()
    told: list[tuple[str, Any]] = []

    def hear(event: dict[str, Any]) -> None:
        state.event(event)
        told.append((event["type"], event.get("uuid")))

    site.hear({"*": hear})
    site.worker("-P", "solo", "--heartbeat-interval", "0.2")
    control = site.app.control
    ready(site, wait_until, 1)
    control.enable_events(reply=True, timeout=20)
    result = site.send("nap", 5.0)
    # Of the events, not of the state: that is another one as soon as the nap is over.
    wait_until(lambda: ("task-started", result.id) in told)
    assert ("task-succeeded", result.id) not in told
    ((item,),) = control.inspect(timeout=20).active().values()
    assert item["name"] == "site_app.nap"
    assert list(state.alive_workers())
    control.add_consumer("more", reply=True, timeout=20)
    assert site.send("add", 1, 1, queue="more").get(timeout=20) == 2


def test_the_command_line_reaches_workers_and_commands_of_ones_own(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    worker = site.worker("-c", "1", "-E", "--heartbeat-interval", "0.2")
    ready(site, wait_until, 1)

    listed = caraway(site, "-A", "site_app", "inspect", "--list").stdout
    assert "widgets" in listed
    assert "hello" not in listed
    (answer,) = json.loads(
        caraway(site, "inspect", "-A", "site_app", "widgets", "-j").stdout
    ).values()
    assert answer == 7
    unknown = caraway(site, "inspect", "widgit", "n=1")
    assert (unknown.returncode, "unknown command" in unknown.stdout) == (0, True)
    wrong = caraway(site, "inspect", "pinng")
    assert (wrong.returncode, "'ping'" in wrong.stderr) == (2, True)
    seen = caraway(site, "events", "--dump", "--json", "--limit", "2", "--type", "worker-*").stdout
    assert {json.loads(line)["type"] for line in seen.splitlines()} == {"worker-heartbeat"}
    refused = caraway(site, "control", "autoscale", "4", "1", "-t", "20")
    assert (refused.returncode, "--autoscale" in refused.stdout) == (1, True)
    assert caraway(site, "control", "shutdown", "-d", "*@*", "-t", "20").returncode == 0
    assert worker.wait(20) == 0
