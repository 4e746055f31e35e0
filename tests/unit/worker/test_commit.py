"""The committer: order of the steps, and what it does when the store can't."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from caraway.errors import BackendError, CarawayError, TransportUnavailable
from caraway.interfaces import Backend, Consumer, Transport
from caraway.message import Completion, Message, Publication, Settlement, StoredResult
from caraway.worker.commit import Committer


class Store:
    """Notes the calls of all three components, and fails as told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[Any]]] = []
        self.faults: dict[str, list[CarawayError | None]] = {}
        self.refuses: set[str] = set()

    def note(self, name: str, items: Sequence[Any]) -> None:
        faults = self.faults.get(name)
        fault = faults.pop(0) if faults else None
        if fault is not None:
            raise fault
        self.calls.append((name, list(items)))


def completion(tag: int, *, follow_up: bool = False) -> Completion:
    follow_ups = (Publication(Message(b"next"), "celery"),) if follow_up else ()
    return Completion(Settlement(tag), StoredResult(f"id-{tag}", "SUCCESS", b"{}"), follow_ups)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def committer(store: Store) -> Callable[..., Committer]:
    class Broker(Transport):
        def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
            store.note("publish", publications)

        consume = declare = delete = purge = stats = ping = close = None  # type: ignore[assignment]

    class Results(Backend):
        def store(self, results: Any) -> None:
            if any(result.task_id in store.refuses for result in results):
                raise BackendError("too large")
            store.note("store", results)

        get = wait = forget = ping = close = None  # type: ignore[assignment]

    class Lane(Consumer):
        def settle(self, settlements: Any) -> Any:
            store.note("settle", settlements)
            return []

        fetch = wake = close = None  # type: ignore[assignment]

    return lambda **options: Committer(Broker(), Results(), Lane(), **options)


def names(store: Store) -> list[str]:
    return [name for name, _ in store.calls]


def test_results_are_stored_before_follow_ups_before_settlements(
    store: Store, committer: Callable[..., Committer]
) -> None:
    committer().apply([completion(1, follow_up=True)])
    assert names(store) == ["store", "publish", "settle"]


def test_a_store_that_is_away_is_waited_for_and_nothing_is_given_up(
    store: Store, committer: Callable[..., Committer]
) -> None:
    waits: list[float] = []
    made = committer(wait=lambda seconds: waits.append(seconds) or True)
    away = TransportUnavailable("away")
    store.faults["settle"] = [away, away, None]
    assert made.persist([completion(1)], [], away) == 0
    assert waits == [0.05, 0.1, 0.2]
    assert names(store)[-1] == "settle"


def test_waiting_ends_when_told(store: Store, committer: Callable[..., Committer]) -> None:
    made = committer(wait=lambda _: False)
    assert made.persist([completion(1)], [], TransportUnavailable("away")) == 0
    assert store.calls == []


def test_one_result_that_cannot_be_stored_does_not_hold_up_the_others(
    store: Store, committer: Callable[..., Committer]
) -> None:
    store.refuses = {"id-2"}
    told: list[str] = []

    def substitute(bad: Completion, exc: CarawayError) -> Completion:
        told.append(str(exc))
        return Completion(bad.settlement, StoredResult("instead", "FAILURE", b"{}"))

    made = committer(wait=lambda _: True, substitute=substitute)
    batch = [completion(1), completion(2), completion(3)]
    with pytest.raises(BackendError) as failure:
        made.apply(batch)
    made.persist(batch, [], failure.value)
    settled = [s.tag for name, items in store.calls if name == "settle" for s in items]
    stored = [r.task_id for name, items in store.calls if name == "store" for r in items]
    assert sorted(settled) == [1, 2, 3]
    assert sorted(stored) == ["id-1", "id-3", "instead"]
    assert told == ["too large"]


def test_what_was_acknowledged_before_it_ran_settles_nothing(
    store: Store, committer: Callable[..., Committer]
) -> None:
    committer().apply_settled([completion(1, follow_up=True)])
    assert names(store) == ["store", "publish"]
