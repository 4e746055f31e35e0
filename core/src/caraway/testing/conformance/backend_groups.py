"""What a result backend may be able to do: groups, and many processes."""

from __future__ import annotations

from caraway.interfaces.context import Capability
from caraway.testing.conformance.backend_case import BackendCase, meta
from caraway.testing.conformance.processes import ProcessCase
from caraway.testing.conformance.suite import needs


class GroupTests(BackendCase):
    """`Capability.GROUPS`."""

    @needs(Capability.GROUPS)
    def test_a_group_is_restored_as_it_was_saved(self) -> None:
        self.backend.save_group(self.id("g"), b"\x00[1, 2]\xff", 0.0)
        assert self.open().restore_group(self.id("g")) == b"\x00[1, 2]\xff"
        self.backend.save_group(self.id("g"), b"new", 0.0)
        assert self.backend.restore_group(self.id("g")) == b"new"

    @needs(Capability.GROUPS)
    def test_unknown_and_expired_groups_are_none(self) -> None:
        assert self.backend.restore_group(self.id("never")) is None
        self.backend.save_group(self.id("g"), b"x", self.unit)
        assert self.backend.restore_group(self.id("g")) == b"x"
        self.pass_time(1.5)
        assert self.backend.restore_group(self.id("g")) is None

    @needs(Capability.GROUPS)
    def test_deleting_a_group_is_idempotent_and_drops_its_join(self) -> None:
        self.backend.save_group(self.id("g"), b"x", 0.0)
        assert self.backend.join(self.id("g"), "m1", 2, 0.0) is False
        for _ in range(2):
            self.backend.delete_group(self.id("g"))
        assert self.backend.restore_group(self.id("g")) is None
        assert self.backend.join(self.id("g"), "m2", 2, 0.0) is False

    @needs(Capability.GROUPS)
    def test_the_last_member_to_join_is_told_so(self) -> None:
        other = self.open()
        for index in range(9):
            backend = other if index % 2 else self.backend
            assert backend.join(self.id("g"), f"m{index}", 10, 0.0) is False
        assert other.join(self.id("g"), "m9", 10, 0.0) is True

    @needs(Capability.GROUPS)
    def test_members_count_once_however_often_they_report(self) -> None:
        for _ in range(5):
            assert self.backend.join(self.id("g"), "m0", 3, 0.0) is False
            assert self.backend.join(self.id("g"), "m1", 3, 0.0) is False
        assert self.backend.join(self.id("g"), "m2", 3, 0.0) is True

    @needs(Capability.GROUPS)
    def test_after_the_join_only_its_completer_is_told_again(self) -> None:
        assert self.backend.join(self.id("g"), "m0", 2, 0.0) is False
        assert self.backend.join(self.id("g"), "m1", 2, 0.0) is True
        assert self.backend.join(self.id("g"), "m0", 2, 0.0) is False
        assert self.open().join(self.id("g"), "m1", 2, 0.0) is True
        assert self.backend.join(self.id("g"), "m0", 2, 0.0) is False

    @needs(Capability.GROUPS)
    def test_a_group_of_one_joins_at_once(self) -> None:
        assert self.backend.join(self.id("g"), "m0", 1, 0.0) is True

    @needs(Capability.GROUPS)
    def test_groups_join_each_for_itself(self) -> None:
        assert self.backend.join(self.id("g"), "m0", 2, 0.0) is False
        assert self.backend.join(self.id("h"), "m1", 2, 0.0) is False
        assert self.backend.join(self.id("g"), "m1", 2, 0.0) is True

    @needs(Capability.GROUPS)
    def test_of_sixteen_threads_exactly_one_completes_the_join(self) -> None:
        backends = [self.open() for _ in range(4)]
        for number in range(10):
            group = self.id(f"g{number}")

            def join(index: int, group: str = group) -> bool:
                answer: bool = backends[index % 4].join(group, f"m{index}", 16, 60.0)
                return answer

            assert sum(self.at_once(join, 16)) == 1

    @needs(Capability.GROUPS)
    def test_a_join_ends_with_its_time(self) -> None:
        assert self.backend.join(self.id("g"), "m0", 2, self.unit) is False
        self.pass_time(1.5)
        assert self.backend.join(self.id("g"), "m1", 2, self.unit) is False


class ProcessTests(BackendCase, ProcessCase):
    """What `Capability.SHARED` and `Capability.PERSISTENT` promise."""

    @needs(Capability.SHARED, Capability.PERSISTENT)
    def test_what_was_stored_outlives_who_stored_it(self) -> None:
        victim = self.victim("store")
        victim.wait_for(20, self.patience)
        victim.kill()
        stored = victim.said()
        found = self.backend.get(stored)
        assert sorted(found) == sorted(stored)
        assert {i: result.payload for i, result in found.items()} == {
            i: meta("SUCCESS", i) for i in stored
        }

    @needs(Capability.SHARED)
    def test_a_result_stored_by_another_process_ends_the_wait(self) -> None:
        self.use_real_time()
        ids = [self.id(number) for number in range(5)]
        waiting = [self.spawn(self.backend.wait, [i], self.patience * 3) for i in ids]
        self.victim("store")
        for task_id, waiter in zip(ids, waiting, strict=True):
            assert list(waiter.result(self.patience)) == [task_id]

    @needs(Capability.SHARED, Capability.GROUPS)
    def test_of_many_processes_exactly_one_completes_a_join(self) -> None:
        self.use_real_time()
        self.backend.ping()
        members, groups = 3, 40
        said = self.race(
            "join",
            [
                {"member": f"m{index}", "size": members, "groups": groups}
                for index in range(members)
            ],
        )
        completed = [line for lines in said for line in lines]
        assert sorted(completed) == sorted(self.id(number) for number in range(groups))
