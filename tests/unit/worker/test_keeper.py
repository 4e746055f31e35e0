"""The keeper renews leases whatever happens around it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from caraway.errors import TransportUnavailable
from caraway.worker.keeper import Keeper
from caraway.worker.status import _broker_error
from caraway.worker.undertaker import Remains


class Broker:
    """Renews, and fails as told."""

    def __init__(self) -> None:
        self.faults: list[BaseException] = []
        self.lost: list[str] = []
        self.renewed = threading.Semaphore(0)

    @property
    def transport(self) -> Broker:
        return self

    def renew(self, owners: Sequence[str]) -> Sequence[str]:
        if self.faults:
            raise self.faults.pop(0)
        self.renewed.release()
        return [owner for owner in owners if owner in self.lost]


class Hangs:
    """An undertaker whose work calls a handler that doesn't return."""

    owner = "heir"

    def __init__(self) -> None:
        self.release = threading.Event()

    def bury(self, remains: Remains) -> int:
        self.release.wait(30.0)
        return 1


@pytest.fixture
def kept() -> Iterator[tuple[Keeper, Broker, list[str], Hangs]]:
    broker, lost, undertaker = Broker(), [], Hangs()
    keeper = Keeper(broker, undertaker, 0.03, lost.extend)  # type: ignore[arg-type]
    yield keeper, broker, lost, undertaker
    undertaker.release.set()
    keeper.finish(5.0)


def wait(renewed: threading.Semaphore, count: int) -> bool:
    return all(renewed.acquire(timeout=10.0) for _ in range(count))


def test_it_goes_on_after_whatever_a_renewal_raises(kept: Any) -> None:
    keeper, broker, _, _ = kept
    broker.faults = [TransportUnavailable("away"), RuntimeError("a bug")]
    keeper.watch("a")
    keeper.start()
    assert wait(broker.renewed, 2)
    assert keeper.broker_errors == 2
    assert keeper.is_alive()


def test_a_burial_that_hangs_keeps_no_lease_from_being_renewed(kept: Any) -> None:
    keeper, broker, _, undertaker = kept
    keeper.watch("a")
    keeper.start()
    keeper.bury(Remains("dead", "", [], [], {}))
    assert wait(broker.renewed, 5)
    undertaker.release.set()
    keeper.finish(5.0)
    assert keeper.reclaimed == 1


def test_a_chore_that_exits_ends_nothing(kept: Any) -> None:
    keeper, broker, _, _ = kept
    called = threading.Event()

    def chore() -> None:
        called.set()
        raise SystemExit

    keeper.chores.append(chore)
    keeper.watch("a")
    keeper.start()
    assert called.wait(10.0)
    assert wait(broker.renewed, 2)


def test_lost_owners_are_told_once_and_the_heir_is_not_one_of_the_lanes(kept: Any) -> None:
    keeper, broker, lost, _ = kept
    broker.lost = ["a", "heir"]
    keeper.watch("a")
    keeper.watch("b")
    keeper.start()
    assert wait(broker.renewed, 4)
    assert lost == ["a"]


def test_a_broker_that_hangs_is_seen(kept: Any) -> None:
    keeper, _, _, _ = kept
    keeper.start()
    look: Callable[..., str] = _broker_error
    assert look(keeper, 3000.0, keeper.renewed + 2000.0) == ""
    assert "hangs" in look(keeper, 3000.0, keeper.renewed + 9000.0)
