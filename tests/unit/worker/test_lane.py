"""A lane on the memory broker, with an executor that runs jobs when the test says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from caraway import Task
from caraway.errors import StoreCorrupt, TransportUnavailable
from caraway.interfaces.pool import Job
from caraway.message import Completion, Settlement
from caraway.worker.attendant import Attendant, try_commit
from caraway.worker.job import TaskJob
from caraway.worker.lane import Lane, completed
from caraway.worker.lane_config import LOST, RECYCLE, STOPPED

from .lane_kit import Case, Held, inline


def away(*_: Any) -> Any:
    raise TransportUnavailable("away")


def test_a_batch_is_run_and_committed(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(3)]
    lane, executor = case.lane()
    lane.turn()
    executor.run(3)
    lane.commit()
    assert [r.result for r in results] == [0, 1, 2]
    assert case.depths() == (0, 0)
    assert not lane.in_flight


def test_what_has_not_begun_is_given_back_uncounted(case: Case) -> None:
    for n in range(3):
        case.app.tasks["work"].delay(n)
    lane, executor = case.lane()
    lane.turn()
    executor.begin()
    assert lane.give_back() == 2
    lane.commit()
    assert case.depths() == (2, 1)
    assert [p.attempt for p in case.app.transport.peek("celery")] == [0, 0]


def test_what_was_acknowledged_early_and_has_not_begun_is_not_lost(case: Case) -> None:
    """A long task before it makes the lane give it back, or the lane is stopped."""
    results = [case.app.tasks["once"].delay(n) for n in range(3)]
    lane, executor = case.lane()
    lane.turn()
    assert case.depths() == (0, 0), "acknowledged before it runs"
    executor.run()
    lane.give_back()
    lane.commit()
    assert case.depths() == (2, 0), "sent again"
    assert dict(lane.counts) == {("once", "SUCCESS"): [1, pytest.approx(0.0, abs=1.0)]}
    lane.turn()
    executor.run(2)
    lane.commit()
    assert [r.result for r in results] == [0, 1, 2]
    assert case.ran == [0, 1, 2]


def test_a_thread_that_may_not_wait_leaves_what_cannot_be_committed(case: Case) -> None:
    result = case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    executor.run()
    apply = lane.committer.apply
    lane.committer.apply = away
    with pytest.raises(TransportUnavailable):
        try_commit(lane)
    assert result.state == "PENDING"
    assert lane.board.done == 0
    lane.committer.apply = apply
    assert try_commit(lane)
    assert result.get(timeout=1) == 1
    assert lane.board.done == 1
    assert not try_commit(lane), "there is nothing more"


def test_an_error_of_ours_in_a_commit_loses_no_outcome(case: Case) -> None:
    result = case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    executor.run()
    apply = lane.committer.apply

    def broken(_: Any) -> Any:
        raise RuntimeError("a bug")

    lane.committer.apply = broken
    with pytest.raises(RuntimeError):
        lane.commit()
    lane.committer.apply = apply
    lane.commit()
    assert result.get(timeout=1) == 1


def test_early_outcomes_that_cannot_be_stored_stay_alone(case: Case) -> None:
    late, early = case.app.tasks["work"].delay(1), case.app.tasks["once"].delay(2)
    lane, executor = case.lane()
    lane.turn()
    executor.run(2)
    apply = lane.committer.apply_settled
    lane.committer.apply_settled = away  # type: ignore[method-assign]
    try_commit(lane)
    assert (late.state, early.state) == ("SUCCESS", "PENDING")
    lane.committer.apply_settled = apply  # type: ignore[method-assign]
    try_commit(lane)
    assert early.state == "SUCCESS"
    assert lane.board.done == 2


def test_a_run_that_ends_while_it_is_given_back_keeps_its_outcome(case: Case) -> None:
    result = case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    job = executor.begin()
    assert lane.give_back(running=True) == 1
    executor.report(job, executor.begun[-1][1])
    lane.commit()
    assert result.get(timeout=1) == 1
    assert case.depths() == (0, 0)


def test_a_run_that_was_given_back_is_fenced_when_it_ends_late(case: Case) -> None:
    case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    job = executor.begin()
    lane.give_back(running=True)
    lane.commit()
    assert case.depths() == (1, 0)
    executor.report(job, executor.begun[-1][1])
    lane.commit()
    assert lane.fenced == 1
    assert case.depths() == (1, 0)


def test_a_requeued_message_under_the_same_tag_is_a_message_like_others(case: Case) -> None:
    result = case.app.tasks["again"].delay(1)
    lane, executor = case.lane()
    for _ in range(3):
        lane.turn()
        executor.run()
        lane.commit()
    assert result.get(timeout=1) == 1


def test_a_message_that_cannot_be_judged_is_parked_and_the_others_run(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(3)]
    lane, executor = case.lane()

    def fails(delivery: Any, *rest: Any) -> Any:
        if delivery.message.headers["id"] == results[1].id:
            raise RecursionError("too deep")
        return TaskJob(delivery, *rest)

    monkeypatch.setattr("caraway.worker.intake.TaskJob", fails)
    lane.turn()
    executor.run(2)
    lane.commit()
    (letter,) = case.app.transport.dead()
    assert letter.kind == "parked"
    assert "too deep" in letter.reason
    assert case.ran == [0, 2]
    assert case.depths() == (0, 0)


def test_a_lane_ends_after_its_number_of_tasks(case: Case) -> None:
    for n in range(5):
        case.app.tasks["work"].delay(n)

    class Eager(Held):
        def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
            super().execute(jobs, report)
            self.run(len(jobs))

    lane, _ = case.lane(Eager(), max_tasks=3)
    assert lane.run() == RECYCLE
    assert case.ran == [0, 1, 2]
    assert case.depths() == (2, 0)


def test_a_lost_lease_ends_the_lane_and_its_outcomes_are_fenced(case: Case) -> None:
    for n in range(2):
        case.app.tasks["work"].delay(n)
    lane, executor = case.lane()
    lane.turn()
    executor.run()
    case.app.transport.reclaim(lane.config.owner.id)
    assert lane.run() == LOST
    assert lane.fenced == 1
    assert case.depths() == (2, 0)


def test_a_stop_gives_back_and_finishes(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(2)]
    lane, executor = case.lane(shutdown_timeout=5.0)
    lane.turn()
    executor.run()
    lane.stop()
    assert lane.run() == STOPPED
    assert results[0].state == "SUCCESS"
    assert case.depths() == (1, 0)


def test_outcomes_that_a_hard_stop_leaves_stay_in_the_journal_and_under_the_lease(
    case: Case,
) -> None:
    """So that whoever buries the lane commits them, and nothing runs twice."""
    case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    executor.run()
    lane.committer.apply = away
    lane.stop(hard=True)
    lane.run()
    assert [c.result.task_id for c in lane.board.journal() if c.result]
    assert case.depths() == (0, 1)


def test_an_outcome_that_can_never_be_stored_becomes_one_that_says_so(case: Case) -> None:
    bad, good = case.app.tasks["work"].delay(1), case.app.tasks["work"].delay(2)
    lane, executor = case.lane()
    lane.turn()
    executor.run(2)
    apply = lane.committer.apply

    def picky(completions: Sequence[Completion]) -> Any:
        if any(c.result and c.result.task_id == bad.id and c.result.state == "SUCCESS"
               for c in completions):  # fmt: skip
            raise StoreCorrupt("no room for this one")
        return apply(completions)

    lane.committer.apply = picky
    lane.commit()
    assert good.state == "SUCCESS"
    assert bad.state == "FAILURE"
    assert "no room" in str(bad.result)


def test_the_journal_of_concurrent_runs_holds_what_is_not_committed(case: Case) -> None:
    for n in range(3):
        case.app.tasks["work"].delay(n)
    lane, executor = case.lane()
    lane.turn()
    executor.run(2)
    assert len(list(lane.board.journal())) == 2
    lane.commit()
    executor.run()
    (entry,) = lane.board.journal()
    assert entry.settlement.tag == executor.begun[-1][0].delivery.tag
    assert lane.board.running() == []


def test_a_delivery_done_before_runs_again_where_its_callbacks_may_be_missing(
    case: Case,
) -> None:
    """Where results and messages have stores of their own, a process may die after the one
    and before the other."""
    task = case.app.tasks["work"]
    plain = task.delay(1)
    linked = task.apply_async((2,), link=task.si(7))
    lane, executor = case.lane()
    lane.committer.apply = lane.committer.apply_in_steps
    lane.turn()
    executor.run(2)
    # Killed after the results: nobody published, nobody settled.
    done = [completion or completed(job, 0.0) for job, completion in lane.done]
    case.app.backend.store([c.result for c in done if c.result])
    consumer = lane.consumer
    tags = [c.settlement.tag for c in done]
    consumer.settle([Settlement(tag, "release") for tag in tags])
    second, executor = case.lane()
    second.intake._atomic = False
    second.turn()
    assert [job.delivery.message.headers["id"] for job in executor.waiting] == [linked.id]
    executor.run()
    second.commit()
    assert plain.get(timeout=1) == 1
    assert case.depths() == (1, 0), "the callback is on its way"


def test_hostile_orders_leave_the_attendant_listening(case: Case) -> None:
    from caraway.worker.channel import Channel

    lane, _ = case.lane()
    ours, theirs = Channel.pair()
    channel = Channel(ours)
    attendant = Attendant(lane, Channel(theirs))
    for order in (
        {"do": "time_limit", "task": "work", "hard": "soon"},
        {"do": "rate_limit", "task": "work", "rate": "often"},
        {"do": "revoke"},
        {"do": "share", "share": None},
        {"do": ["?"]},
    ):
        channel.send(**order)
    channel.send(do="time_limit", task="work", hard=3)
    attendant._attend()
    plan = lane.intake.plan("work")
    assert plan is not None
    assert plan.hard == 3.0
    channel.close()
    attendant._attend()
    assert lane.draining, "its supervisor is gone"
    attendant._channel.close()  # type: ignore[union-attr]


def test_a_solo_lane_gives_back_what_a_hard_stop_cuts_short(case: Case) -> None:
    case.app.tasks["work"].delay(1)
    lane, executor = case.lane()
    lane.turn()
    job = executor.waiting[0]
    job.started = 1.0
    lane.stop(hard=True)
    attendant = Attendant(lane, None, enforce_hard=True)
    attendant._look(2.0)
    attendant._look(2.1)
    assert case.depths() == (1, 0)
    assert [exc.__name__ for _, exc in executor.interrupted] == ["Terminated"]


def test_behind_long_tasks_in_all_threads_nothing_waits(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(4)]
    lane, executor = case.lane(Held(slots=2))
    lane.pace.observe(1, 0.0001, 0)  # they are taken to be quick
    lane.pace.observe(4, 0.0004, 0)
    lane.turn()
    assert case.depths() == (0, 4)
    attendant = Attendant(lane, None)
    receded: list[None] = []
    lane.consumer.recede = lambda: receded.append(None)  # type: ignore[method-assign]
    running, executor.waiting = executor.waiting[:2], executor.waiting[2:]

    running[0].started = 10.0
    attendant._look(20.0)
    running[1].started = 19.99
    attendant._look(20.0)
    assert len(lane.in_flight) == 4, "a slot is free, or may be soon"

    attendant._look(20.1)
    lane.commit()
    assert case.depths() == (2, 2)
    assert [p.attempt for p in case.app.transport.peek("celery")] == [0, 0]
    assert lane.want() == 0
    assert not receded
    attendant._look(20.2)
    assert receded
    # When they have ended, it takes what is there.
    executor.waiting = running
    executor.run(2)
    lane.turn()
    executor.run(len(executor.waiting))
    lane.turn()
    executor.run(len(executor.waiting))
    lane.commit()
    assert sorted(r.result for r in results) == [0, 1, 2, 3]


def test_who_waits_for_more_behind_long_tasks_is_woken(case: Case) -> None:
    case.app.tasks["work"].delay(1)
    lane, executor = case.lane(Held(slots=1))
    lane.turn()
    executor.waiting.pop().started = 10.0
    lane.waiting = 2
    woken: list[None] = []
    lane.consumer.wake = lambda: woken.append(None)  # type: ignore[method-assign]
    Attendant(lane, None)._look(20.0)
    assert woken


# -- commit and fetch in one -----------------------------------------------------------


def exchanging(lane: Lane, fails: int = 0) -> list[tuple[int, int]]:
    """Have a lane exchange with a broker that can't the first times; what it asked for:
    outcomes, and most messages."""
    asked: list[tuple[int, int]] = []

    def exchange(completions: Sequence[Completion], limit: int) -> Any:
        asked.append((len(completions), limit))
        if len(asked) <= fails:
            raise TransportUnavailable("away")
        answers = lane.consumer.commit(completions), lane.consumer.fetch(limit, 0)
        return lambda: answers

    lane.committer.exchange = exchange
    return asked


def drive(lane: Lane, case: Case) -> None:
    """Turn until nothing waits: one turn more would wait for something new."""
    while case.depths()[0]:
        lane.turn()
    lane.commit()


def test_what_comes_with_a_commit_is_run(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(30)]
    lane = inline(case)
    asked = exchanging(lane)
    drive(lane, case)
    assert [r.result for r in results] == list(range(30))
    assert len(asked) >= 3
    assert lane.board.fetched == lane.board.done == 30
    assert not lane.in_flight
    assert lane.pace._full == 0, "the last fetch brought less than was wanted"


def test_an_exchange_takes_no_more_than_the_lane_may_run(case: Case) -> None:
    for n in range(30):
        case.app.tasks["work"].delay(n)
    lane = inline(case, max_tasks=12)
    exchanging(lane)
    assert lane.run() == RECYCLE
    assert case.ran == list(range(12))
    assert case.depths() == (18, 0)


def test_an_exchange_that_fails_is_tried_again_as_a_commit(case: Case) -> None:
    results = [case.app.tasks["work"].delay(n) for n in range(10)]
    lane = inline(case)
    exchanging(lane, fails=2)
    drive(lane, case)
    assert [r.result for r in results] == list(range(10))
    assert case.ran == list(range(10))


def test_a_draining_lane_exchanges_nothing(case: Case) -> None:
    for n in range(5):
        case.app.tasks["work"].delay(n)
    lane = inline(case)
    asked = exchanging(lane)
    lane.turn()
    lane.stop()
    assert lane.run() == STOPPED
    assert asked == []
    assert case.depths() == (4, 0)


def test_what_is_read_beforehand_and_what_is_not_come_to_the_same(case: Case) -> None:
    """A large body, or one that asks for more than its result, takes the longer way."""
    app = case.app
    given: list[Any] = []

    @app.task(name="take")
    def take(value: Any) -> int:
        given.append(value)
        return len(value)

    small, large = "s", "l" * 5000
    results = [take.delay(small), take.delay(large), take.apply_async((small,), parent_id="p")]
    ignored = take.apply_async((small,), ignore_result=True)
    lane = inline(case)
    drive(lane, case)
    assert given == [small, large, small, small]
    assert [r.get(timeout=1) for r in results] == [1, 5000, 1]
    assert ignored.state == "PENDING"
    metas = [app.backend.get([r.id])[r.id].payload for r in results[:2]]
    keys = [list(app.registry.serializer("json").loads(meta)) for meta in metas]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_events_may_be_switched_between_a_fetch_and_its_runs(
    case: Case, plain: bool, first: bool
) -> None:
    from caraway.worker.events import switch

    told: list[Any] = []

    class Telling(Task[Any, Any]):
        def on_success(self, retval: Any, *_: Any) -> None:
            told.append(retval)

    case.app.task(name="tell", base=None if plain else Telling)(lambda n: n + 1)
    results = [case.app.tasks["tell"].delay(n) for n in range(3)]
    lane, executor = case.lane(events=first)
    lane.turn()
    executor.run()
    switch(lane, on=not first)
    executor.run()
    switch(lane, on=first)
    executor.run()
    lane.commit()
    assert [r.get(timeout=1) for r in results] == [1, 2, 3]
    assert told == ([] if plain else [1, 2, 3])
