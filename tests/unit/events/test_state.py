"""What events add up to, in whatever order they come."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any

import pytest

from caraway.events import State

NODE = "w@test"


def task(kind: str, at: float, uuid: str = "1", hostname: str = NODE, **fields: Any) -> Any:
    return {
        "type": f"task-{kind}", "uuid": uuid, "hostname": hostname, "timestamp": at,
        "local_received": at, "clock": int(at), **fields,
    }  # fmt: skip


def beat(kind: str = "heartbeat", hostname: str = NODE, **fields: Any) -> Any:
    now = time.time()
    return {
        "type": f"worker-{kind}", "hostname": hostname, "timestamp": now, "local_received": now,
        "freq": 2.0, "pid": 7, "clock": 1, **fields,
    }  # fmt: skip


LIFE = [
    task("sent", 1, hostname="gen1@client", name="add", queue="q", args="(1,)"),
    task("received", 2, name="add", args="(1,)", retries=0),
    task("started", 3),
    task("succeeded", 4, result="2", runtime=0.5),
]


@pytest.mark.parametrize("order", list(itertools.permutations(LIFE)))
def test_a_task_ends_up_the_same_whatever_comes_first(order: Any) -> None:
    state = State()
    for event in order:
        state.event(event)

    found = state.tasks["1"]
    assert (found.state, found.name, found.result, found.runtime) == ("SUCCESS", "add", "2", 0.5)
    assert (found.sent, found.received, found.started, found.succeeded) == (1, 2, 3, 4)
    assert found.client == "gen1@client"
    assert found.worker is state.workers[NODE]
    assert found.ready
    assert found.queue == "q"


@pytest.mark.parametrize(
    ("kind", "name"),
    [("sent", "PENDING"), ("received", "RECEIVED"), ("started", "STARTED"), ("failed", "FAILURE"),
     ("retried", "RETRY"), ("revoked", "REVOKED"), ("rejected", "REJECTED"),
     ("succeeded", "SUCCESS"), ("progress", "PROGRESS")],
)  # fmt: skip
def test_each_event_has_its_state(kind: str, name: str) -> None:
    state = State()
    state.event(task(kind, 1))
    assert state.tasks["1"].state == name


def test_a_retried_task_runs_again() -> None:
    state = State()
    states = []
    for number, kind in enumerate(("received", "started", "retried", "received", "started"), 1):
        state.event(task(kind, number))
        states.append(state.tasks["1"].state)
    assert states == ["RECEIVED", "STARTED", "RETRY", "RECEIVED", "STARTED"]


def test_events_of_one_moment_go_on_and_not_back() -> None:
    state = State()
    for kind in ("succeeded", "received", "started"):
        state.event(task(kind, 5.0))
    assert state.tasks["1"].state == "SUCCESS"


def test_a_client_whose_clock_is_ahead_turns_nothing_back() -> None:
    state = State()
    state.event(task("started", 3))
    state.event(task("sent", 100, hostname="gen1@client", name="add"))
    assert (state.tasks["1"].state, state.tasks["1"].name) == ("STARTED", "add")


def test_a_cancelled_run_is_no_state() -> None:
    state = State()
    state.event(task("started", 3))
    state.event(task("cancelled", 4))
    assert state.tasks["1"].state == "STARTED"


def test_workers_are_alive_while_they_tell() -> None:
    joined: list[str] = []
    left: list[str] = []
    state = State(
        on_node_join=lambda worker: joined.append(worker.hostname),
        on_node_leave=lambda worker: left.append(worker.hostname),
    )
    state.event(beat("online", active=1, sw_ident="caraway"))
    state.event(beat(active=2, processed=9, loadavg=[1.0, 2.0, 3.0]))

    (worker,) = state.alive_workers()
    assert (worker.active, worker.processed, worker.sw_ident) == (2, 9, "caraway")
    assert (worker.status_string, worker.id) == ("ONLINE", f"{NODE}.7")
    worker.heartbeats = [time.time() - 4.5]
    assert list(state.alive_workers()) == []
    state.event(beat("offline"))
    assert (joined, left, dict(state.workers)) == ([NODE], [NODE], {})
    assert worker.status_string == "OFFLINE"


def test_a_wrong_clock_is_told_and_does_not_kill(caplog: pytest.LogCaptureFixture) -> None:
    state = State()
    with caplog.at_level(logging.WARNING):
        state.event(beat(timestamp=time.time() - 1000))
    assert state.workers[NODE].alive
    assert "clocks" in caplog.text


def test_tasks_are_listed_by_time_type_and_worker() -> None:
    state = State()
    for number, (name, node) in enumerate((("a", NODE), ("b", NODE), ("a", "x@test"))):
        state.event(task("received", number, str(number), node, name=name))

    assert [uuid for uuid, _ in state.tasks_by_timestamp()] == ["2", "1", "0"]
    assert [uuid for uuid, _ in state.tasks_by_time(limit=1, reverse=False)] == ["0"]
    assert [uuid for uuid, _ in state.tasks_by_type("a")] == ["2", "0"]
    assert [uuid for uuid, _ in state.tasks_by_worker(NODE, limit=1)] == ["1"]
    assert [uuid for uuid, _ in state.itertasks()] == ["0", "1", "2"]
    assert state.task_types() == ["a", "b"]
    assert state.tasks["0"].info() == {}
    assert state.tasks["0"].as_dict()["worker"] == NODE


def test_what_is_kept_is_bounded_and_the_oldest_goes_first() -> None:
    state = State(max_tasks_in_memory=10, max_workers_in_memory=2)
    for number in range(30):
        state.event(task("received", number, str(number), f"{number}@test"))
    assert list(state.tasks) == [str(number) for number in range(20, 30)]
    assert list(state.workers) == ["28@test", "29@test"]
    assert (state.event_count, state.task_count) == (30, 30)


def test_what_has_ended_can_be_forgotten() -> None:
    state = State()
    state.event(task("received", 1, "waits"))
    state.event(task("succeeded", 1, "ended"))

    counted = state.freeze_while(lambda: len(state.tasks), clear_after=True)

    assert (counted, list(state.tasks), state.event_count) == (2, ["waits"], 0)
    state.clear(ready=False)
    assert not state.tasks


def test_strange_events_pass() -> None:
    seen: list[Any] = []
    state = State(lambda _, event: seen.append(event))
    strange: list[Any] = [
        {}, {"type": 5}, {"type": "task-received"}, {"type": "worker-heartbeat"},
        {"type": "task-started", "uuid": 5}, {"type": "custom", "uuid": "1"},
        {"type": "worker-heartbeat", "hostname": "w", "freq": "often", "timestamp": "now"},
        {"type": "task-started", "uuid": "1", "timestamp": None, "clock": "x"},
    ]  # fmt: skip
    for event in strange:
        state.event(event)
    assert len(seen) == len(strange)
    assert state.tasks["1"].state == "STARTED"
