"""The suites turn red on implementations that are broken on purpose.

Each names the tests that must fail on it.  Transports, of which there are many, are in
test_kit_catches_transports.py.
"""

from __future__ import annotations

import json
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from caraway.builtin.memory import MemoryBackend, MemoryScheduleStore
from caraway.builtin.memory.consumer import keep
from caraway.builtin.pools.threads import ThreadsPool
from caraway.errors import DecodeError, EncodeError
from caraway.interfaces import Compressor, Serializer
from caraway.states import READY_STATES
from caraway.testing.conformance import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caraway.interfaces import Job
    from caraway.message import StoredResult

# -- backends --------------------------------------------------------------------------


class OverwritesFinal(MemoryBackend):
    def store(self, results: Sequence[StoredResult]) -> None:
        with self.space.lock:
            for result in results:
                self.space.results.pop(result.task_id, None)
        super().store(results)


class OverwritesWithinABatch(MemoryBackend):
    def store(self, results: Sequence[StoredResult]) -> None:
        super().store(list({result.task_id: result for result in results}.values()))


class KeepsTheFirst(MemoryBackend):
    def store(self, results: Sequence[StoredResult]) -> None:
        known = self.get([result.task_id for result in results])
        super().store([result for result in results if result.task_id not in known])


class ChecksThenWrites(MemoryBackend):
    """The final state is looked for before the lock is taken."""

    def store(self, results: Sequence[StoredResult]) -> None:
        known = self.get([result.task_id for result in results])
        time.sleep(0.01)
        late = [r for r in results if known.get(r.task_id, r).state not in READY_STATES]
        new = [r for r in results if r.task_id not in known]
        with self.space.lock:
            for result in late + new:
                self.space.results.pop(result.task_id, None)
            keep(self.space, late + new, self._clock())


class MissesResults(MemoryBackend):
    """It looks, then waits for what comes after."""

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        found = super().wait(task_ids, 0)
        if found or not timeout:
            return found
        time.sleep(0.001)
        with self.space.lock:
            self.space.result_waiting += 1
            try:
                self.space.stored.wait(timeout)
            finally:
                self.space.result_waiting -= 1
        return super().wait(task_ids, 0)


class WaitsForAnyState(MemoryBackend):
    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        deadline = time.monotonic() + timeout
        while not (found := self.get(task_ids)) and time.monotonic() < deadline:
            time.sleep(0.001)
        return found


class WaitsForAll(MemoryBackend):
    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        deadline = time.monotonic() + timeout
        while len(found := super().wait(task_ids, 0)) < len(task_ids):
            if time.monotonic() > deadline:
                return found
            time.sleep(0.001)
        return found


class NeverExpires(MemoryBackend):
    def store(self, results: Sequence[StoredResult]) -> None:
        from msgspec.structs import replace

        super().store([replace(result, ttl=0.0) for result in results])


class ForgetsToCount(MemoryBackend):
    def forget(self, task_ids: Sequence[str]) -> int:
        super().forget(task_ids)
        return len(task_ids)


class JoinsTwice(MemoryBackend):
    """True for everybody who sees the group whole."""

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        super().join(group_id, member, size, ttl)
        return self.space.joins[group_id].winner is not None


class JoinsByReports(MemoryBackend):
    """Counts reports, not members."""

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        count = len(self.space.joins[group_id].members) if group_id in self.space.joins else 0
        return super().join(group_id, f"{member}-{count}", size, ttl)


class JoinsOnce(MemoryBackend):
    """Who completed the join and died is not told again."""

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        known = self.space.joins.get(group_id)
        whole = known is not None and known.winner is not None
        return super().join(group_id, member, size, ttl) and not whole


class JoinsByCounting(MemoryBackend):
    """Reads the count, then writes it: two threads see the same."""

    counts: ClassVar[dict[str, set[str]]] = {}

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        members = self.counts.get(group_id, set()) | {member}
        time.sleep(0.001)
        self.counts[group_id] = members
        return len(members) >= size


class DeletesHalfAGroup(MemoryBackend):
    def delete_group(self, group_id: str) -> None:
        with self.space.lock:
            self.space.groups.pop(group_id, None)


class LeaksErrors(MemoryBackend):
    def _check_open(self) -> None:
        if self._closed:
            raise OSError("bad file descriptor")


# -- schedule stores -------------------------------------------------------------------


class TwoLeaders(MemoryScheduleStore):
    def lead(self, candidate: str, ttl: float) -> int:
        return super().lead(candidate, ttl) or self._space.fence


class FenceStandsStill(MemoryScheduleStore):
    def lead(self, candidate: str, ttl: float) -> int:
        return min(super().lead(candidate, ttl), 1)


class FenceAlwaysGrows(MemoryScheduleStore):
    def lead(self, candidate: str, ttl: float) -> int:
        if super().lead(candidate, ttl) == 0:
            return 0
        self._space.fence += 1
        return self._space.fence


class IgnoresFences(MemoryScheduleStore):
    def save(self, records: Any, *, fence: int = 0) -> bool:
        return super().save(records, fence=10**9)


class SavesTheFirst(MemoryScheduleStore):
    """Writes before it looks at the fence."""

    def save(self, records: Any, *, fence: int = 0) -> bool:
        super().save(records[:1], fence=10**9)
        return super().save(records, fence=fence)


class AnybodyResigns(MemoryScheduleStore):
    def resign(self, candidate: str) -> None:
        super().resign(self._space.leader)


class LeadsForEver(MemoryScheduleStore):
    def lead(self, candidate: str, ttl: float) -> int:
        return super().lead(candidate, 1e9)


class LendsItsRecords(MemoryScheduleStore):
    def load(self) -> Any:
        return self._space.records


# -- serializers and compressors -------------------------------------------------------


class Sound(Serializer):
    """Plain JSON, not broken: the others differ from it by their fault."""

    name = "check"
    content_type = "application/x-check"

    def dumps(self, value: Any) -> bytes:
        try:
            return json.dumps(value).encode()
        except (TypeError, ValueError) as exc:
            raise EncodeError(str(exc)) from exc

    def loads(self, data: bytes) -> Any:
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as exc:
            raise DecodeError(str(exc)) from exc


class RaisesAsItLikes(Sound):
    def dumps(self, value: Any) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        return json.loads(data)


class SaysNothing(Sound):
    def dumps(self, value: Any) -> bytes:
        try:
            return super().dumps(value)
        except EncodeError as exc:
            raise EncodeError("can't") from exc


class WritesRepr(Sound):
    def dumps(self, value: Any) -> bytes:
        return json.dumps(value, default=repr).encode()


class MakesFloats(Sound):
    def loads(self, data: bytes) -> Any:
        value = super().loads(data)
        return float(value) if type(value) is int else value


class GivesText(Sound):
    def dumps(self, value: Any) -> bytes:
        return super().dumps(value).decode()  # type: ignore[return-value]


class MendsWhatIsCut(Sound):
    def loads(self, data: bytes) -> Any:
        for end in (b"", b"]", b"}]", b'"}]'):
            try:
                return super().loads(data + end)
            except DecodeError:
                continue
        raise DecodeError("not JSON")


class PassesGarbage(Compressor):
    name = "check"
    content_type = "application/x-check"

    def compress(self, data: bytes) -> bytes:
        return zlib.compress(data)

    def decompress(self, data: bytes) -> bytes:
        try:
            return zlib.decompressobj().decompress(data)
        except zlib.error:
            return data


class StopsEarly(PassesGarbage):
    """Doesn't see that the end is missing."""

    def decompress(self, data: bytes) -> bytes:
        try:
            return zlib.decompressobj().decompress(data)
        except zlib.error as exc:
            raise DecodeError(str(exc)) from exc


class DoesNothing(PassesGarbage):
    def compress(self, data: bytes) -> bytes:
        return data

    def decompress(self, data: bytes) -> bytes:
        return data


# -- pools -----------------------------------------------------------------------------


class Around:
    """An executor with one fault: the rest is that of the pool ``threads``."""

    inline = False

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.slots = inner.slots

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class ReportsTwice(Around):
    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        def twice(job: Job, value: Any) -> None:
            report(job, value)
            report(job, value)

        self._inner.execute(jobs, twice)


class LosesAJob(Around):
    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self._inner.execute(jobs[:400], report)


class ReportsNone(Around):
    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self._inner.execute(jobs, lambda job, _: report(job, None))


class SharesSlots(Around):
    class _Job:
        def __init__(self, job: Job) -> None:
            self.job = job
            self.is_async = job.is_async
            self.slot = 0

        def run(self) -> Any:
            self.job.slot = 0
            return self.job.run()

        async def arun(self) -> Any:
            self.job.slot = 0
            return await self.job.arun()

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        wrapped = [self._Job(job) for job in jobs]
        self._inner.execute(wrapped, lambda outer, value: report(outer.job, value))


class WithdrawsNothing(Around):
    def withdraw(self) -> Sequence[Job]:
        return ()


class RunsWhatWasWithdrawn(Around):
    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self.__dict__["report"] = report
        self._inner.execute(jobs, report)

    def withdraw(self) -> Sequence[Job]:
        taken = self._inner.withdraw()
        self._inner.execute(taken, self.__dict__["report"])
        return list(taken)


class SaysItStopped(Around):
    def stop(self, timeout: float) -> bool:
        self._inner.stop(0 if timeout < 1 else timeout)
        return True


class DoesNotWait(Around):
    def stop(self, timeout: float) -> bool:
        return bool(self._inner.stop(0))


class InterruptsTheDead(Around):
    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        self._inner.interrupt(job, exc)
        return True


class LeavesThreads(Around):
    def start(self) -> None:
        self._inner.start()
        threading.Thread(target=time.sleep, args=(4.0,), daemon=True).start()


class AwaitsOneByOne(Around):
    """Each async job gets a loop of its own, in its turn."""

    class _Job:
        is_async = False

        def __init__(self, job: Job) -> None:
            self.job = job
            self.slot = 0

        def run(self) -> Any:
            import asyncio

            self.job.slot = self.slot
            return asyncio.run(self.job.arun()) if self.job.is_async else self.job.run()

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        wrapped = [self._Job(job) for job in jobs]
        self._inner.execute(wrapped, lambda outer, value: report(outer.job, value))


def pool_with(executor: type[Around]) -> Any:
    """A pool whose executors have this fault."""

    class Pool(ThreadsPool):
        def executor(self) -> Any:
            return executor(super().executor())

    from caraway.interfaces import Executor

    Executor.register(Around)
    return Pool


# -- the cases -------------------------------------------------------------------------

CASES: list[tuple[str, Any, list[str]]] = [
    (
        "backend",
        OverwritesFinal,
        [
            "a_final_state_never_gives_way",
            "of_many_who_store_at_once_the_first_final_stands",
        ],
    ),
    ("backend", OverwritesWithinABatch, ["a_final_state_never_gives_way_within_one_batch"]),
    ("backend", KeepsTheFirst, ["a_later_passing_state_replaces_an_earlier_one"]),
    ("backend", ChecksThenWrites, ["of_many_who_store_at_once_the_first_final_stands"]),
    ("backend", MissesResults, ["no_result_is_missed_between_looking_and_waiting"]),
    (
        "backend",
        WaitsForAnyState,
        [
            "a_state_that_is_not_final_does_not_end_the_wait",
            "waiting_for_what_is_final_returns_at_once",
        ],
    ),
    (
        "backend",
        WaitsForAll,
        [
            "waiting_for_what_is_final_returns_at_once",
            "a_result_stored_by_another_connection_ends_the_wait",
        ],
    ),
    (
        "backend",
        NeverExpires,
        ["an_expired_result_is_left_out", "an_expired_final_state_gives_way"],
    ),
    ("backend", ForgetsToCount, ["forgetting_drops_and_counts"]),
    ("backend", JoinsTwice, ["after_the_join_only_its_completer_is_told_again"]),
    ("backend", JoinsByReports, ["members_count_once_however_often_they_report"]),
    ("backend", JoinsOnce, ["after_the_join_only_its_completer_is_told_again"]),
    ("backend", JoinsByCounting, ["of_sixteen_threads_exactly_one_completes_the_join"]),
    ("backend", DeletesHalfAGroup, ["deleting_a_group_is_idempotent_and_drops_its_join"]),
    ("backend", LeaksErrors, ["a_closed_connection_says_so_in_our_words"]),
    (
        "schedule",
        TwoLeaders,
        ["one_leads_and_others_do_not", "of_many_who_ask_at_once_one_leads"],
    ),
    (
        "schedule",
        FenceStandsStill,
        [
            "when_its_time_is_over_another_may_lead_with_a_greater_fence",
            "who_resigns_leaves_the_place_at_once",
        ],
    ),
    ("schedule", FenceAlwaysGrows, ["the_fence_stays_the_same_while_one_renews"]),
    ("schedule", IgnoresFences, ["an_older_fence_keeps_nothing"]),
    ("schedule", SavesTheFirst, ["an_older_fence_keeps_nothing"]),
    ("schedule", AnybodyResigns, ["only_the_leader_can_resign"]),
    (
        "schedule",
        LeadsForEver,
        ["when_its_time_is_over_another_may_lead_with_a_greater_fence"],
    ),
    ("schedule", LendsItsRecords, ["what_was_loaded_does_not_change_what_is_stored"]),
    (
        "serializer",
        RaisesAsItLikes,
        [
            "what_can_not_be_written_is_an_encode_error_that_says_what",
            "hostile_bytes_are_decode_errors",
            "odd_values_are_written_or_refused_properly",
        ],
    ),
    (
        "serializer",
        SaysNothing,
        ["what_can_not_be_written_is_an_encode_error_that_says_what"],
    ),
    (
        "serializer",
        WritesRepr,
        ["what_can_not_be_written_is_an_encode_error_that_says_what"],
    ),
    ("serializer", MakesFloats, ["plain_values_come_back_equal"]),
    (
        "serializer",
        GivesText,
        ["plain_values_come_back_equal", "text_is_what_its_encoding_says"],
    ),
    ("serializer", MendsWhatIsCut, ["cut_bytes_do_not_load_as_the_whole"]),
    ("compressor", PassesGarbage, ["hostile_bytes_are_decode_errors"]),
    ("compressor", StopsEarly, ["hostile_bytes_are_decode_errors"]),
    (
        "compressor",
        DoesNothing,
        ["hostile_bytes_are_decode_errors", "what_repeats_becomes_smaller"],
    ),
    (
        "pool",
        ReportsTwice,
        ["each_job_is_run_and_reported_once_with_what_it_returned", "one_job_is_run_and_reported"],
    ),
    ("pool", LosesAJob, ["each_job_is_run_and_reported_once_with_what_it_returned"]),
    (
        "pool",
        ReportsNone,
        ["each_job_is_run_and_reported_once_with_what_it_returned", "one_job_is_run_and_reported"],
    ),
    ("pool", SharesSlots, ["running_jobs_have_slots_of_their_own"]),
    ("pool", WithdrawsNothing, ["jobs_that_have_not_begun_are_taken_back"]),
    (
        "pool",
        RunsWhatWasWithdrawn,
        ["jobs_that_have_not_begun_are_taken_back", "a_job_is_either_reported_or_withdrawn"],
    ),
    ("pool", SaysItStopped, ["stopping_gives_up_after_its_timeout"]),
    ("pool", DoesNotWait, ["stopping_waits_for_what_runs"]),
    ("pool", InterruptsTheDead, ["a_job_that_has_ended_is_not_interrupted"]),
    ("pool", LeavesThreads, ["starting_and_stopping_leaves_no_threads"]),
    ("pool", AwaitsOneByOne, ["async_jobs_run_at_the_same_time_on_one_loop"]),
]


@pytest.mark.parametrize(
    ("kind", "broken", "expected"), CASES, ids=[case[1].__name__ for case in CASES]
)
def test_a_broken_implementation_fails_the_tests_that_are_about_it(
    kind: str, broken: Any, expected: list[str]
) -> None:
    factory = pool_with(broken) if kind == "pool" else broken
    stored = kind in ("backend", "schedule")
    report = run(
        kind,
        factory,
        (lambda path: f"memory://{path.name}") if stored else None,
        only=lambda name: name.removeprefix("test_") in expected,
        patience=1.0,
    )
    assert sorted(check.name for check in report.failed) == sorted(expected)


def test_the_sound_serializer_that_broken_ones_are_made_of_passes() -> None:
    assert run("serializer", Sound).ok
