"""A lane behind a long queue: it commits and fetches while its tasks run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from caraway.builtin.memory.consumer import MemoryConsumer
from caraway.errors import OwnerLost, TransportUnavailable
from caraway.message import Completion
from caraway.worker.attendant import BUSY, CALM, Attendant, try_commit
from caraway.worker.lane import Lane
from caraway.worker.lane_config import LOST, RECYCLE, STOPPED

from .lane_kit import Case, inline


class Broker:
    """Between a lane and its broker: what was asked, and how many had run when the answer
    was waited for.

    Args:
        lane: opened.
    """

    def __init__(self, case: Case, lane: Lane) -> None:
        self.case, self.lane = case, lane
        self.waited: list[tuple[int, int]] = []
        self.failing: list[BaseException] = []
        self.on_wait: Any = None
        lane.committer.exchange = self.exchange

    def exchange(self, completions: Sequence[Completion], limit: int) -> Any:
        failing = self.failing.pop(0) if self.failing else None
        begun = len(self.case.ran)
        consumer = self.lane.consumer
        answers: Any = None if failing else (consumer.commit(completions), consumer.fetch(limit, 0))

        def wait() -> Any:
            self.waited.append((len(completions), len(self.case.ran) - begun))
            if self.on_wait is not None:
                self.on_wait()
            if failing is not None:
                raise failing
            return answers

        return wait

    @property
    def beside(self) -> int:
        """How many tasks ran beside a commit."""
        return sum(ran for committed, ran in self.waited if committed)


def deep(case: Case, lane: Lane, count: int) -> tuple[Broker, list[Any]]:
    """A long queue, and the lane a good way into it: something is pending, one batch is at
    hand."""
    results = [case.app.tasks["work"].delay(n) for n in range(count)]
    lane.pace.limit = 5
    broker = Broker(case, lane)
    while lane.pending is None or not lane.pending.commits[0]:
        assert case.depths()[0], "it never got ahead"
        lane.turn()
    return broker, results


def to_the_end(case: Case, lane: Lane) -> None:
    while case.depths()[0] or lane.ahead:
        lane.turn()
        if not case.depths()[0]:
            lane.commit()  # a turn would wait for more
    assert lane.pending is None
    assert not lane.ahead
    assert not lane.in_flight


def check(case: Case, results: list[Any]) -> None:
    assert [r.result for r in results] == list(range(len(results)))
    assert case.ran == list(range(len(results)))
    assert case.depths() == (0, 0)


def test_behind_a_long_queue_tasks_run_beside_the_commit(case: Case) -> None:
    lane = inline(case)
    broker, results = deep(case, lane, 200)
    to_the_end(case, lane)
    check(case, results)
    assert broker.beside > 50
    assert lane.board.fetched == lane.board.done == 200
    assert lane.counts["work", "SUCCESS"][0] == 200


def test_a_short_queue_has_nobody_ahead(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(30)]
    lane = inline(case)
    lane.pace.limit = 5
    broker = Broker(case, lane)
    to_the_end(case, lane)
    check(case, results)
    assert broker.waited
    assert not broker.beside


def test_all_that_ended_stands_in_the_journal_until_it_is_committed(case: Case) -> None:
    lane = inline(case)
    broker, results = deep(case, lane, 100)
    noted: list[tuple[set[Any], set[Any]]] = []

    def look() -> None:
        ended = {job.delivery.tag for job in lane.in_flight.values() if job.seconds}
        noted.append((ended, {c.settlement.tag for c in lane.board.journal()}))

    broker.on_wait = look
    to_the_end(case, lane)
    check(case, results)
    assert all(ended <= journal for ended, journal in noted)
    assert max(len(ended) for ended, _ in noted) == 10, "two batches"


@pytest.mark.parametrize("which", [0, 1])
def test_a_commit_that_fails_while_others_run_is_tried_again(case: Case, which: int) -> None:
    lane = inline(case)
    broker, results = deep(case, lane, 100)
    asked = len(broker.waited)
    broker.failing = [None] * which + [TransportUnavailable("away")]  # type: ignore[list-item]
    to_the_end(case, lane)
    check(case, results)
    assert not broker.failing
    # It is careful for a while: one half of the journal speaks of all that is uncommitted.
    failed = asked + 1 + which
    assert not any(ran for _, ran in broker.waited[failed + 1 : failed + 5])


def test_an_exchange_that_cannot_be_begun_is_tried_again(case: Case) -> None:
    lane = inline(case)
    broker, results = deep(case, lane, 200)
    exchange = broker.exchange
    calls: list[int] = []

    def refusing(completions: Sequence[Completion], limit: int) -> Any:
        calls.append(len(completions))
        if len(calls) in (1, 12):
            raise TransportUnavailable("away")
        return exchange(completions, limit)

    lane.committer.exchange = refusing
    to_the_end(case, lane)
    check(case, results)
    assert len(calls) > 12


def test_an_owner_that_is_lost_meanwhile_starts_over(case: Case) -> None:
    lane = inline(case)
    broker, _ = deep(case, lane, 100)
    lane.consumer.commit = lane.committer.apply = lost  # type: ignore[method-assign]
    lane.consumer.fetch = lost  # type: ignore[method-assign]
    broker.exchange = lost  # type: ignore[method-assign]
    assert lane.pending is not None
    lane.pending.end = lost
    assert lane.run() == LOST


def lost(*_: Any) -> Any:
    raise OwnerLost("the lease ended")


def test_a_stop_gives_back_what_was_fetched_ahead(case: Case) -> None:
    lane = inline(case)
    _, results = deep(case, lane, 100)
    lane.stop()
    assert lane.run() == STOPPED
    ran = len(case.ran)
    assert case.depths() == (100 - ran, 0)
    assert [r.result for r in results[:ran]] == list(range(ran))
    second = inline(case)
    to_the_end(case, second)
    check(case, results)


def test_the_attendant_commits_what_a_long_task_holds_up(case: Case) -> None:
    lane = inline(case)
    attendant = Attendant(lane, None)
    assert attendant.rest() == CALM
    seen: list[Any] = []
    _, results = deep(case, lane, 100)

    def during(n: int) -> int:
        case.ran.append(n)
        if not seen and lane.pending is not None and lane.pending.commits[0]:
            (running,) = [j for j in lane.in_flight.values() if j.started and not j.seconds]
            before = sum(case.depths())
            assert attendant.rest() == CALM
            attendant._look(running.started + 0.03)  # what has ended is committed
            assert lane.pending is None
            assert lane.ahead
            held = case.depths()[1]
            assert held > 1
            attendant._look(running.started + 1.0)  # what waits is given back
            assert not lane.ahead
            assert case.depths()[1] == 1, "it alone is held"
            assert attendant.rest() == BUSY
            seen.append(before)
        return n

    case.app.tasks["work"].run = during
    lane.intake._plans.clear()
    to_the_end(case, lane)
    assert seen
    assert sorted(case.ran) == list(range(100))
    assert [r.result for r in results] == list(range(100))


def test_a_commit_that_fails_in_the_attendants_hands_is_left_to_the_loop(case: Case) -> None:
    lane = inline(case)
    broker, results = deep(case, lane, 100)
    broker.failing = [TransportUnavailable("away")]
    while broker.failing:
        lane.turn()
    assert lane.pending is not None
    pending = lane.pending.commits[0]
    with pytest.raises(TransportUnavailable):
        try_commit(lane)
    assert lane.pending is None
    assert [job for job, _ in lane.done][: len(pending)] == [job for job, _ in pending]
    assert not lane.pace.deep
    to_the_end(case, lane)
    check(case, results)


def test_a_full_journal_ends_what_is_pending(case: Case, monkeypatch: Any) -> None:
    lane = inline(case)
    _, results = deep(case, lane, 100)
    note, record = type(lane.board).note, type(lane.board).record
    full: list[int] = []

    def never(*_: Any) -> bool:
        full.append(1)
        return False

    monkeypatch.setattr(type(lane.board), "note", never)
    monkeypatch.setattr(type(lane.board), "record", never)
    lane.turn()
    assert full
    assert lane.pending is None
    monkeypatch.setattr(type(lane.board), "note", note)
    monkeypatch.setattr(type(lane.board), "record", record)
    to_the_end(case, lane)
    check(case, results)


def test_a_lane_with_few_tasks_to_run_is_not_ahead(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(100)]
    lane = inline(case, max_tasks=90)
    lane.pace.limit = 5
    broker = Broker(case, lane)
    assert lane.run() == RECYCLE
    assert broker.waited
    assert not broker.beside
    assert case.depths() == (10, 0)
    assert [r.result for r in results[:90]] == list(range(90))


def test_only_where_a_lane_can_be_ahead_of_one_queue_it_takes_so_many(
    case: Case, monkeypatch: Any
) -> None:
    assert not inline(case).pace.patient
    monkeypatch.setattr(MemoryConsumer, "exchange", lambda *_: None)
    assert inline(case).pace.patient
    assert not case.lane()[0].pace.patient, "its executor has many slots"
    assert not inline(case, queues=tuple(case.app.queues(["celery", "more"]))).pace.patient


def test_what_is_acknowledged_early_is_not_fetched_ahead(case: Case) -> None:
    for n in range(100):
        case.app.tasks["once"].delay(n)
    lane = inline(case)
    lane.pace.limit = 5
    broker = Broker(case, lane)
    to_the_end(case, lane)
    assert case.ran == list(range(100))
    assert not broker.beside


def test_a_limit_of_the_users_is_kept(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(100)]
    lane = inline(case, prefetch_limit=5)
    broker = Broker(case, lane)
    to_the_end(case, lane)
    check(case, results)
    assert lane.pace.limit == 5
    assert not broker.beside
