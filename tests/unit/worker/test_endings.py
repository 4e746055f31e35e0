"""Runs that are ended from outside: who is told, who is killed, and what comes of the run."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway import Caraway, signals, states
from caraway.errors import Retry, SoftTimeLimitExceeded, TaskRevokedError, Terminated
from caraway.interfaces import Capability
from caraway.message import Delivery, Message, new_owner_id
from caraway.outcome import terminated_by
from caraway.worker.board import Running
from caraway.worker.endings import GRACE, Endings
from caraway.worker.entries import interrupted
from caraway.worker.job import TaskJob, TaskPlan

RUN = Running(0, 7, "me", 1.0, 0.0)
KEY = (7, 1.0)


class Lane:
    """A lane with runs, which notes what it is told."""

    def __init__(self, *runs: Running) -> None:
        self.runs = list(runs)
        self.dead = False
        self.overdue: dict[Any, Any] = {}
        self.verdicts: dict[Any, Any] = {}
        self.told: list[dict[str, Any]] = []
        self.board = self.channel = self

    def running(self) -> list[Running]:
        return self.runs

    def send(self, **message: Any) -> bool:
        self.told.append(message)
        return True


class Supervisor:
    """Notes whom it kills, and what it tells all lanes."""

    def __init__(self, *lanes: Lane, processes: bool = True, adopts: bool = True) -> None:
        self.lanes = dict(enumerate(lanes))
        self.processes = processes
        self.killed: list[Any] = []
        self.told: list[dict[str, Any]] = []
        self.capabilities = {Capability.ADOPT} if adopts else set()
        self.app = self.transport = self

    def kill(self, lane: Any) -> None:
        self.killed.append(lane)

    def tell_lanes(self, **message: Any) -> None:
        self.told.append(message)


def endings(worker: Supervisor) -> Endings:
    return Endings(worker)  # type: ignore[arg-type]


def test_a_signal_that_kills_kills_the_lane_that_has_the_task_and_no_other() -> None:
    ours, others = Lane(RUN), Lane(Running(0, 8, "other", 1.0, 0.0))
    worker = Supervisor(ours, others, processes=False)

    endings(worker).terminate({"me"}, 9)

    assert worker.killed == [ours]
    assert ours.verdicts == {KEY: ("terminated", 9.0)}
    assert (ours.told, others.told, worker.told) == ([], [], [])


def test_where_messages_come_back_to_others_these_are_told_before_the_kill() -> None:
    worker = Supervisor(Lane(RUN), adopts=False)
    endings(worker).terminate({"me"}, 9)
    assert worker.told == [{"do": "ended", "runs": {"me": ["terminated", 9]}}]


def test_a_task_that_is_told_to_end_has_its_time() -> None:
    lane = Lane(RUN)
    worker = Supervisor(lane)
    ends = endings(worker)

    ends.terminate({"me"}, 15)
    now = time.monotonic()

    assert lane.told == [{"do": "terminate", "ids": ["me"], "signum": 15}]
    ends.look(lane, [RUN], now + GRACE / 2)  # type: ignore[arg-type]
    ends.terminate({"me"}, 15)
    assert worker.killed == [], "told again, it has no more time than it had"
    ends.look(lane, [RUN], now + GRACE)  # type: ignore[arg-type]
    assert worker.killed == [lane]
    assert lane.verdicts == {KEY: ("terminated", 15.0)}


def test_a_task_that_ended_in_time_costs_the_next_one_nothing() -> None:
    lane = Lane(RUN)
    worker = Supervisor(lane)
    ends = endings(worker)
    ends.terminate({"me"}, 15)
    again = Running(0, 7, "me", 2.0, 0.0)

    ends.look(lane, [again], time.monotonic() + 2 * GRACE)  # type: ignore[arg-type]

    assert (worker.killed, lane.overdue) == ([], {})


@pytest.mark.parametrize(("signum", "processes"), [(10, True), (15, False)])
def test_nobody_is_killed_who_need_not_be(signum: int, processes: bool) -> None:
    lane = Lane(RUN)
    worker = Supervisor(lane, processes=processes)
    endings(worker).terminate({"me"}, signum)
    assert (lane.overdue, len(lane.told)) == ({}, 1)


# -- the run -------------------------------------------------------------------------------


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://endings-{new_owner_id()}"
    made = Caraway("endings", broker=url, backend=url, set_as_current=False)
    yield made
    made.close()


@pytest.fixture
def job(app: Caraway) -> Callable[..., TaskJob]:
    def make(work: Callable[[], Any], **options: Any) -> TaskJob:
        task = app.task(name="work", **options)(work)
        body = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
        message = Message(body, {"task": "work", "id": "me"}, "application/json", "utf-8", {})
        plan = TaskPlan(app, task, None, "w@here")
        plan.begin = lambda *_: None
        made = TaskJob(Delivery(message, 1, "q", 1), plan, 0.0, 0.0, is_async=False)
        made.interrupted, made.signum = "terminated", 15
        return made

    return make


def raises(make: Callable[[], BaseException]) -> Callable[[], Any]:
    def work() -> None:
        raise make()

    return work


@pytest.mark.parametrize(
    "error",
    [terminated_by(15), lambda: ValueError("instead"), lambda: Retry("again", None, 5)],
    ids=["it let it through", "it made another of it", "it wants to run again"],
)
def test_a_terminated_run_is_revoked_whatever_it_raises(
    job: Callable[..., TaskJob], error: Any
) -> None:
    heard: list[tuple[Any, Any]] = []

    def hear(terminated: bool, signum: Any, **_: Any) -> None:
        heard.append((terminated, signum))

    made = job(raises(error))
    signals.task_revoked.connect(hear)
    try:
        completion = made.run()
    finally:
        signals.task_revoked.disconnect(hear)

    assert made.state == states.REVOKED
    assert completion.result is not None
    assert b"TaskRevokedError" in completion.result.payload
    assert completion.settlement.action == "ack"
    assert completion.publications == ()
    assert heard == [(True, 15)]


def test_a_task_that_returns_all_the_same_has_succeeded(job: Callable[..., TaskJob]) -> None:
    made = job(lambda: 5)
    made.run()
    assert made.state == states.SUCCESS


def test_a_termination_is_no_failure_to_handlers_and_autoretry(
    job: Callable[..., TaskJob],
) -> None:
    failures: list[Any] = []

    def failed(**_: Any) -> None:
        failures.append(1)

    made = job(raises(terminated_by(9)), autoretry_for=(Exception,))
    signals.task_failure.connect(failed)
    try:
        made.run()
    finally:
        signals.task_failure.disconnect(failed)
    assert (made.state, failures) == (states.REVOKED, [])


def test_an_exception_that_comes_too_late_for_the_task_is_a_revocation_all_the_same(
    job: Callable[..., TaskJob],
) -> None:
    made = job(lambda: 5)
    completion = interrupted(made, terminated_by(15)())
    assert completion.result is not None
    assert completion.result.state == made.state == states.REVOKED


def test_what_is_raised_says_by_which_signal_and_can_be_sent_on() -> None:
    made = terminated_by(15)
    assert made is terminated_by(15)
    assert issubclass(made, Terminated)
    assert (made().signum, Terminated().signum, made.__name__) == (15, None, "Terminated")
    assert type(pickle.loads(pickle.dumps(made("x")))) is Terminated
    assert TaskRevokedError("revoked").signum is None
    assert not issubclass(SoftTimeLimitExceeded, Terminated)
