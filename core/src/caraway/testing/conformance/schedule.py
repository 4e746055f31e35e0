"""The suite of schedule stores.

Each sentence of `caraway.interfaces.schedule` has a test here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.interfaces.context import Capability
from caraway.interfaces.schedule import ScheduleRecord
from caraway.testing.conformance.suite import Suite, needs

if TYPE_CHECKING:
    from caraway.interfaces.schedule import ScheduleStore


class ScheduleCase(Suite):
    """Base of the schedule stores' tests."""

    kind = "schedule"

    @property
    def store(self) -> ScheduleStore:
        """The test's first connection."""
        found: ScheduleStore = self.subject
        return found

    def record(self, label: str, run_at: float = 0.0, count: int = 0) -> ScheduleRecord:
        """A record that only this test uses."""
        return ScheduleRecord(f"{self.unique}-{label}", run_at, count, "crontab: 5 4 * * *")

    def mine(self, store: ScheduleStore | None = None) -> dict[str, ScheduleRecord]:
        """This test's records."""
        chosen = self.store if store is None else store
        loaded = chosen.load()
        return {name: record for name, record in loaded.items() if name.startswith(self.unique)}

    @property
    def fence(self) -> int:
        """A fence that holds: that of a leader, where there are leaders."""
        if Capability.LEADER not in self.declared():
            return 0
        fence = self.store.lead(f"{self.unique}-leader", 1000 * self.unit)
        assert fence > 0, "somebody else leads: use a store that nobody does"
        return fence

    def save(self, *records: ScheduleRecord) -> None:
        """Save, as leader where there are leaders; forgotten at the end."""
        names = [record.name for record in records]
        store = self.store
        self._cleanups.append(lambda: store.remove(names))
        assert self.store.save(records, fence=self.fence) is True

    def teardown_method(self, method: object = None) -> None:
        if "subject" in self.__dict__:
            for label in ("leader", "a", "b", "c"):
                self.store.resign(f"{self.unique}-{label}")
        super().teardown_method(method)


class RecordTests(ScheduleCase):
    """`ScheduleStore.load`, ``save``, ``remove``."""

    def test_records_are_loaded_as_they_were_saved(self) -> None:
        records = [self.record("x", 1_750_000_000.123456, 7), self.record("ünï 'q\"")]
        self.save(*records)
        assert self.mine(self.open()) == {record.name: record for record in records}

    def test_a_record_saved_again_is_replaced(self) -> None:
        self.save(self.record("x", 1.0, 1), self.record("y", 1.0, 1))
        self.save(self.record("x", 2.0, 2))
        counts = {name: record.total_run_count for name, record in self.mine().items()}
        assert counts == {f"{self.unique}-x": 2, f"{self.unique}-y": 1}

    def test_removed_records_are_forgotten(self) -> None:
        self.save(self.record("x"), self.record("y"))
        for _ in range(2):
            self.store.remove([f"{self.unique}-x", f"{self.unique}-never"])
        assert list(self.mine(self.open())) == [f"{self.unique}-y"]

    def test_records_outlive_their_connection(self) -> None:
        first = self.store
        self._cleanups.append(lambda: first.remove([f"{self.unique}-x"]))
        store = self.open()
        assert store.save([self.record("x")], fence=self.fence)
        store.close()
        assert list(self.mine(self.open())) == [f"{self.unique}-x"]

    def test_what_was_loaded_does_not_change_what_is_stored(self) -> None:
        self.save(self.record("x"))
        loaded = self.store.load()
        if isinstance(loaded, dict):
            loaded.clear()
        assert list(self.mine()) == [f"{self.unique}-x"]

    def test_hundreds_of_records_are_kept(self) -> None:
        records = [self.record(str(index), float(index), index) for index in range(500)]
        self.save(*records)
        assert self.mine() == {record.name: record for record in records}

    def test_closing_is_idempotent(self) -> None:
        store = self.open()
        store.close()
        store.close()


class LeaderTests(ScheduleCase):
    """`Capability.LEADER`."""

    def lead(self, label: str, store: ScheduleStore | None = None, units: float = 10) -> int:
        """Ask for leadership."""
        chosen = self.store if store is None else store
        return chosen.lead(f"{self.unique}-{label}", units * self.unit)

    @needs(Capability.LEADER)
    def test_one_leads_and_others_do_not(self) -> None:
        fence = self.lead("a")
        assert fence > 0
        assert self.lead("b", self.open()) == 0
        assert self.lead("c") == 0

    @needs(Capability.LEADER)
    def test_the_fence_stays_the_same_while_one_renews(self) -> None:
        other = self.open()
        fence = self.lead("a", units=2)
        for _ in range(4):
            self.pass_time(1)
            assert self.lead("a", units=2) == fence
            assert self.lead("b", other) == 0

    @needs(Capability.LEADER)
    def test_when_its_time_is_over_another_may_lead_with_a_greater_fence(self) -> None:
        fence = self.lead("a", units=1)
        self.pass_time(1.5)
        newer = self.lead("b", self.open())
        assert newer > fence
        assert self.lead("a") == 0

    @needs(Capability.LEADER)
    def test_who_resigns_leaves_the_place_at_once(self) -> None:
        fence = self.lead("a")
        for _ in range(2):
            self.store.resign(f"{self.unique}-a")
        newer = self.lead("b", self.open())
        assert newer > fence

    @needs(Capability.LEADER)
    def test_only_the_leader_can_resign(self) -> None:
        self.lead("a")
        self.open().resign(f"{self.unique}-b")
        assert self.lead("b") == 0

    @needs(Capability.LEADER)
    def test_an_older_fence_keeps_nothing(self) -> None:
        old = self.lead("a", units=1)
        self._cleanups.append(
            lambda: self.store.remove([f"{self.unique}-{label}" for label in "xy"])
        )
        assert self.store.save([self.record("x", 1.0, 1)], fence=old) is True
        self.pass_time(1.5)
        new = self.lead("b", self.open())
        stale = [self.record("x", 2.0, 2), self.record("y")]
        assert self.store.save(stale, fence=old) is False
        assert self.mine()[f"{self.unique}-x"].total_run_count == 1
        assert f"{self.unique}-y" not in self.mine()
        assert self.store.save([self.record("x", 3.0, 3)], fence=new) is True
        assert self.mine()[f"{self.unique}-x"].total_run_count == 3

    @needs(Capability.LEADER)
    def test_of_many_who_ask_at_once_one_leads(self) -> None:
        stores = [self.open() for _ in range(8)]
        labels = "abcdefgh"
        for _ in range(5):
            fences = self.at_once(lambda index: self.lead(labels[index], stores[index]), 8)
            assert sum(fence > 0 for fence in fences) == 1
            for label in labels:
                self.store.resign(f"{self.unique}-{label}")


class ScheduleSuite(RecordTests, LeaderTests):
    """All duties and extensions of a schedule store."""
