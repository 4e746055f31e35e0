"""Dead lanes are settled once, whatever fails in between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import (
    StoreCorrupt,
    TaskRevokedError,
    TimeLimitExceeded,
    TransportUnavailable,
)
from caraway.interfaces import Capability, Consumer
from caraway.message import Completion, Owner, Settlement, StoredResult, Tag, new_owner_id
from caraway.worker.board import Running
from caraway.worker.burials import Burials
from caraway.worker.undertaker import Remains, Undertaker


class Grave:
    """A broker with the messages of a lane that died."""

    def __init__(self) -> None:
        url = f"memory://grave-{new_owner_id()}"
        self.app = Caraway("grave", broker=url, backend=url, set_as_current=False)
        self.failures: list[BaseException] = []
        app, failures = self.app, self.failures

        @app.task(name="work")
        def work(n: int) -> int:
            return n

        class Watched(app.Task):  # type: ignore[name-defined, misc]
            def on_failure(self, exc: Any, *_: Any) -> None:
                failures.append(exc)

        @app.task(name="watched", base=Watched)
        def watched() -> None:
            pass

        @app.task(name="rude", base=type("Rude", (app.Task,), {"on_failure": _exits}))
        def rude() -> None:
            pass

        self.opened = 0
        self.undertaker = Undertaker(self.app, self.heir, 3, "grave@test")

    def heir(self) -> Consumer:
        self.opened += 1
        return self.app.transport.consume((), Owner(id=new_owner_id()))

    def dead_lane(self, *names: str) -> tuple[str, list[Any], Sequence[Any]]:
        """Owner, results and deliveries of a lane that fetched these tasks and died."""
        results = [
            self.app.tasks[name].apply_async((1,) if name == "work" else ()) for name in names
        ]
        owner = Owner(id=new_owner_id())
        consumer = self.app.transport.consume(tuple(self.app.queues()), owner)
        return owner.id, results, consumer.fetch(len(names), 0.0)

    def depths(self) -> tuple[int, int]:
        (stats,) = self.app.transport.stats(["celery"])
        return stats.ready, stats.held


def _exits(*_: Any) -> None:
    raise SystemExit("a handler that ends the process")


def running(delivery: Any, started: float = 1.0, *, early: bool = False) -> Running:
    return Running(0, delivery.tag, delivery.message.headers["id"], started, 0.0, early)


def done(delivery: Any) -> Completion:
    task_id = delivery.message.headers["id"]
    return Completion(
        Settlement(delivery.tag), StoredResult(task_id, "SUCCESS", b'{"status":"SUCCESS"}')
    )


@pytest.fixture
def grave() -> Iterator[Grave]:
    made = Grave()
    yield made
    made.app.close()


def fail_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, exc: Exception) -> None:
    """Have a method fail the first time, after it did its work."""
    original = getattr(owner, name)
    faults = [exc]

    def call(*args: Any, **kwargs: Any) -> Any:
        if faults and name != "adopt":
            raise faults.pop()
        answer = original(*args, **kwargs)
        if faults:
            raise faults.pop()
        return answer

    monkeypatch.setattr(owner, name, call)


def test_the_three_kinds_are_told_apart(grave: Grave) -> None:
    owner, _, (ended, ran, waited) = grave.dead_lane("work", "work", "work")
    remains = Remains(owner, "signal 9", [done(ended)], [running(ran)], {})
    assert grave.undertaker.bury(remains) == 1
    attempts = {p.message.headers["id"]: p.attempt for p in grave.app.transport.peek("celery")}
    assert attempts == {ran.message.headers["id"]: 1, waited.message.headers["id"]: 0}
    assert grave.app.backend.get([ended.message.headers["id"]])


def test_a_commit_that_fails_is_repeated_and_judged_once(
    grave: Grave, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was adopted by the first try can't be adopted again by the second."""
    owner, (result, watched), deliveries = grave.dead_lane("work", "watched")
    ended, ran = deliveries
    verdicts = {(ran.tag, 1.0): ("time limit", 2.0)}
    remains = Remains(owner, "signal 9", [done(ended)], [running(ran)], verdicts)
    heir = grave.undertaker._heir()
    fail_once(monkeypatch, heir, "commit", TransportUnavailable("away"))
    with pytest.raises(TransportUnavailable):
        grave.undertaker.bury(remains)
    assert grave.undertaker.bury(remains) == 0
    assert grave.app.backend.get([result.id])[result.id].state == "SUCCESS"
    assert watched.state == "FAILURE"
    assert grave.depths() == (0, 0)
    assert len(grave.failures) == 1, "handlers are called once"


def test_an_adoption_of_which_nobody_knows_holds_nothing_back(
    grave: Grave, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, _, (ran,) = grave.dead_lane("work")
    fail_once(monkeypatch, grave.app.transport, "adopt", TransportUnavailable("no answer"))
    remains = Remains(owner, "signal 9", [], [running(ran)], {})
    with pytest.raises(TransportUnavailable):
        grave.undertaker.bury(remains)
    grave.undertaker.bury(remains)
    assert grave.depths() == (1, 0)
    assert grave.opened == 2


def test_a_heir_that_lost_its_lease_is_replaced(grave: Grave) -> None:
    owner, (result,), (ended,) = grave.dead_lane("work")
    grave.app.transport.reclaim(grave.undertaker._heir().owner.id)
    grave.undertaker.bury(Remains(owner, "signal 9", [done(ended)], [], {}))
    assert grave.app.backend.get([result.id])[result.id].state == "SUCCESS"
    assert grave.depths() == (0, 0)


def test_what_was_given_back_before_the_end_has_not_failed(grave: Grave) -> None:
    """A thread still ran it when its lane stopped; its message went to another lane."""
    owner, (result,), (ran,) = grave.dead_lane("work")
    grave.app.transport.reclaim(owner)
    grave.undertaker.bury(Remains(owner, "exit code 0", [], [running(ran)], {}))
    assert result.state == "PENDING"


def test_what_was_acknowledged_early_fails_so_that_nobody_waits_for_ever(grave: Grave) -> None:
    owner, (result,), (ran,) = grave.dead_lane("work")
    grave.app.transport.reclaim(owner)
    grave.app.transport.purge("celery")
    grave.undertaker.bury(Remains(owner, "signal 9", [], [running(ran, early=True)], {}))
    assert result.state == "FAILURE"


def test_a_lane_that_we_killed_costs_its_other_tasks_no_delivery(grave: Grave) -> None:
    owner, (guilty, _), deliveries = grave.dead_lane("work", "work")
    verdicts = {(deliveries[0].tag, 1.0): ("time limit", 2.0)}
    both = [running(delivery) for delivery in deliveries]
    grave.undertaker.bury(Remains(owner, "signal 9", [], both, verdicts, blameless=True))
    assert type(guilty.result).__name__ == "TimeLimitExceeded"
    (other,) = grave.app.transport.peek("celery")
    assert other.attempt == 0


def test_an_outcome_that_cannot_be_stored_holds_up_no_other(
    grave: Grave, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, (bad, good), deliveries = grave.dead_lane("work", "work")
    heir = grave.undertaker._heir()
    commit: Callable[[Sequence[Completion]], Sequence[Tag]] = heir.commit

    def picky(completions: Sequence[Completion]) -> Sequence[Tag]:
        if any(c.result is not None and c.result.task_id == bad.id for c in completions):
            raise StoreCorrupt("no room for this one")
        return commit(completions)

    monkeypatch.setattr(heir, "commit", picky)
    grave.undertaker.bury(Remains(owner, "signal 9", [done(d) for d in deliveries], [], {}))
    assert good.state == "SUCCESS"
    (letter,) = grave.app.transport.dead()
    assert letter.message.headers["id"] == bad.id


def test_a_condemned_run_fails_even_if_the_first_try_does(
    grave: Grave, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, (result,), (ran,) = grave.dead_lane("work")
    fail_once(monkeypatch, grave.undertaker._heir(), "commit", TransportUnavailable("away"))
    burials = Burials(grave.undertaker)
    verdicts = {(ran.tag, 1.0): ("time limit", 2.0)}
    burials.condemn(Remains(owner, "time limit", [], [running(ran)], verdicts))
    with pytest.raises(Exception, match=r"2\.0|TimeLimit"):
        result.get(timeout=10)
    burials.finish(5.0)
    assert grave.depths() == (0, 0)


def test_a_handler_that_exits_ends_no_thread_of_the_supervisor(grave: Grave) -> None:
    owner, (rude, work), deliveries = grave.dead_lane("rude", "work")
    verdicts = {(deliveries[0].tag, 1.0): ("terminated", 0.0)}
    burials = Burials(grave.undertaker)
    burials.bury(Remains(owner, "signal 9", [], [running(deliveries[0])], verdicts))
    burials.bury(Remains(owner, "signal 9", [done(deliveries[1])], [], {}))
    burials.finish(5.0)
    assert rude.state == "REVOKED"
    assert grave.depths()[1] == 0
    assert work.id


def test_one_grave_that_waits_holds_up_no_other(grave: Grave) -> None:
    waits = threading.Event()
    calls: list[str] = []

    class Slow:
        """An undertaker whose first grave can't be dug yet."""

        def bury(self, remains: Remains) -> int:
            calls.append(remains.owner)
            if remains.owner == "stuck" and not waits.is_set():
                raise TransportUnavailable("away")
            if remains.owner == "next":
                waits.set()
            return 1

    burials = Burials(Slow())  # type: ignore[arg-type]
    burials.bury(Remains("stuck", "", [], [], {}))
    burials.bury(Remains("next", "", [], [], {}))
    assert waits.wait(5.0)
    burials.finish(10.0)
    assert calls == ["stuck", "next", "stuck"]
    assert burials.reclaimed == 2


@pytest.mark.parametrize(
    ("why", "state", "error"),
    [
        ("time limit", "FAILURE", TimeLimitExceeded),
        ("terminated", "REVOKED", TaskRevokedError),
    ],
)
def test_what_was_ended_is_told_where_its_message_goes_to_somebody_else(
    grave: Grave, why: str, state: str, error: type[BaseException]
) -> None:
    transport: Any = grave.app.transport
    cls = type(transport)
    transport.__class__ = type(
        "Sole", (cls,), {"capabilities": cls.capabilities - {Capability.ADOPT}}
    )
    owner, (result, other), (ran, beside) = grave.dead_lane("work", "work")

    verdicts = {(ran.tag, 1.0): (why, 2.5)}
    runs = [running(ran), running(beside)]
    grave.undertaker.bury(Remains(owner, "signal 9", [], runs, verdicts))

    assert result.state == state
    assert isinstance(result.result, error)
    assert other.state == "PENDING"
