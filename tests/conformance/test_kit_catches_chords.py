"""The suite of chords turns red on backends that count them wrongly.

Each names the tests that must fail on it, and each of the suite's tests is named.
"""

from __future__ import annotations

import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from msgspec.structs import replace

from caraway.builtin.memory import MemoryBackend
from caraway.errors import BackendError
from caraway.states import SUCCESS
from caraway.testing.conformance import run
from caraway.testing.conformance.backend_chords import ChordTests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caraway.message import ChordPart, ChordStart

    Answer = Sequence[bytes] | None


class Changed(MemoryBackend):
    """Counts another part than the one that was reported."""

    def change(self, part: ChordPart) -> ChordPart:
        return part

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        return super().chord_parts([self.change(part) for part in parts])


class OrdersByArrival(Changed):
    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, index=0)


class OrdersByText(MemoryBackend):
    """10 comes before 2."""

    def _count(self, part: ChordPart, now: float) -> Answer:
        if super()._count(part, now) is None:
            return None
        ends = self.space.chords[part.group_id].ends.values()
        return [payload for _, payload in sorted(ends, key=lambda end: str(end[0]))]


class AnswersEachChord(MemoryBackend):
    """One answer for each chord of a call, not for each part."""

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        answers: dict[str, Answer] = {}
        for part, answer in zip(parts, super().chord_parts(parts), strict=True):
            answers[part.group_id] = answer or answers.get(part.group_id)
        return list(answers.values())


class AnswersACallAtItsEnd(MemoryBackend):
    """Keeps all of a call, then looks what is complete: each of its parts is."""

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        whole = {
            part.group_id: answer
            for part, answer in zip(parts, super().chord_parts(parts), strict=True)
            if answer is not None
        }
        return [whole.get(part.group_id) for part in parts]


class TakesACallForOneChord(Changed):
    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        self.group = parts[0].group_id if parts else ""
        return super().chord_parts(parts)

    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, group_id=self.group)


class LooksBeforeItCounts(MemoryBackend):
    """Completes when one more comes than there are."""

    def _count(self, part: ChordPart, now: float) -> Answer:
        chord = self.space.chords.get(part.group_id)
        known = len(chord.ends) if chord is not None else 0
        answer = super()._count(part, now)
        return answer if known >= part.size else None


class ReadsPayloads(Changed):
    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, payload=part.payload.decode(errors="replace").encode())


class CountsSuccesses(MemoryBackend):
    def _count(self, part: ChordPart, now: float) -> Answer:
        return super()._count(part, now) if part.state == SUCCESS else None


class DropsFailures(Changed):
    """Counts them, but they have no value to keep."""

    def change(self, part: ChordPart) -> ChordPart:
        return part if part.state == SUCCESS else replace(part, payload=b"")


class CountsReports(Changed):
    reports = 0

    def change(self, part: ChordPart) -> ChordPart:
        self.reports += 1
        return replace(part, task_id=f"{part.task_id}-{self.reports}")


class KeepsTheLastEnd(MemoryBackend):
    def _count(self, part: ChordPart, now: float) -> Answer:
        chord = self.space.chords.get(part.group_id)
        if chord is not None and part.task_id in chord.ends:
            chord.ends[part.task_id] = (part.index, part.payload)
        return super()._count(part, now)


class AnswersOnce(MemoryBackend):
    """Who completed the chord and died is not answered again."""

    def _count(self, part: ChordPart, now: float) -> Answer:
        chord = self.space.chords.get(part.group_id)
        whole = chord is not None and chord.winner is not None
        answer = super()._count(part, now)
        return None if whole else answer


class AnswersAnybody(MemoryBackend):
    """Whoever reports to a chord that is whole."""

    def _count(self, part: ChordPart, now: float) -> Answer:
        chord = self.space.chords.get(part.group_id)
        if chord is not None and chord.winner is not None:
            chord.winner = part.task_id
        return super()._count(part, now)


class AnswersTheConnection(MemoryBackend):
    """Knows who completed a chord only where that was reported."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.mine: set[str] = set()

    def _count(self, part: ChordPart, now: float) -> Answer:
        chord = self.space.chords.get(part.group_id)
        whole = chord is not None and chord.winner is not None
        answer = super()._count(part, now)
        if answer is not None and not whole:
            self.mine.add(part.group_id)
        return answer if part.group_id in self.mine else None


class NeverSent(MemoryBackend):
    def chord_sent(self, group_ids: Sequence[str]) -> None:
        pass


class ForgetsThatItSent(MemoryBackend):
    """Drops all that it knows: the members complete the chord again."""

    def chord_sent(self, group_ids: Sequence[str]) -> None:
        super().chord_sent(group_ids)
        self.space.chords_sent.clear()


class SentOnce(MemoryBackend):
    def chord_sent(self, group_ids: Sequence[str]) -> None:
        for group_id in group_ids:
            del self.space.chords[group_id]
        super().chord_sent(group_ids)


class SentTwiceIsNotSent(MemoryBackend):
    def chord_sent(self, group_ids: Sequence[str]) -> None:
        again = [each for each in group_ids if each in self.space.chords_sent]
        super().chord_sent(group_ids)
        for group_id in again:
            del self.space.chords_sent[group_id]


class SentAll(MemoryBackend):
    def chord_sent(self, group_ids: Sequence[str]) -> None:
        super().chord_sent([*group_ids, *self.space.chords])


class KeepsNoSizes(MemoryBackend):
    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        pass


class KeepsOneSize(MemoryBackend):
    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        super().chord_start(starts[:1])


class StartsAnew(MemoryBackend):
    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        for start in starts:
            self.space.chords.pop(start.group_id, None)
        super().chord_start(starts)


class StartsWhatWasSent(MemoryBackend):
    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        for start in starts:
            self.space.chords_sent.pop(start.group_id, None)
        super().chord_start(starts)


class TakesUnknownForReached(Changed):
    """``ended >= size`` is true of 0, too."""

    def change(self, part: ChordPart) -> ChordPart:
        return part if part.size else replace(part, size=1)


class KeysByIndex(Changed):
    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, task_id=f"{part.group_id}-{part.index}")


class UnknownIndexesMixTheRest(MemoryBackend):
    """With one that can't be placed, all come as they ended."""

    def _count(self, part: ChordPart, now: float) -> Answer:
        answer = super()._count(part, now)
        if answer is None:
            return None
        ends = self.space.chords[part.group_id].ends.values()
        return [end[1] for end in ends] if any(end[0] == inf for end in ends) else answer


class EndsWithItsFirst(Changed):
    """A chord's time is that of the first end."""

    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, ttl=0.0) if part.group_id in self.space.chords else part


class NeverEnds(Changed):
    def change(self, part: ChordPart) -> ChordPart:
        return replace(part, ttl=0.0)


class SizesNeverEnd(MemoryBackend):
    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        super().chord_start([replace(start, ttl=0.0) for start in starts])


class CountsThenLooks(MemoryBackend):
    """Two steps: the two that came last both see the chord whole."""

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        super().chord_parts(parts)
        time.sleep(0.002)
        with self.space.lock:
            for part in parts:
                chord = self.space.chords[part.group_id]
                if chord.winner is not None:
                    chord.winner = part.task_id
        return super().chord_parts(parts)


class LooksThenCounts(MemoryBackend):
    """Two steps: the two that came last both see that one is missing, and nobody ever
    completes the chord."""

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        known = {part.group_id: self.space.chords.get(part.group_id) for part in parts}
        ended = {group: len(chord.ends) if chord else 0 for group, chord in known.items()}
        time.sleep(0.002)
        answers = []
        for part, answer in zip(parts, super().chord_parts(parts), strict=True):
            ended[part.group_id] += 1
            answers.append(answer if ended[part.group_id] >= part.size else None)
        return answers


class LocksEachChord(MemoryBackend):
    """A call takes the locks of its chords in its own order, and holds them."""

    locks: ClassVar[dict[str, threading.Lock]] = {}

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Answer]:
        held: list[threading.Lock] = []
        try:
            for part in parts:
                lock = self.locks.setdefault(part.group_id, threading.Lock())
                if not lock.acquire(timeout=0.5):
                    raise BackendError("deadlock found when trying to get lock")
                held.append(lock)
                time.sleep(0.001)
            return super().chord_parts(parts)
        finally:
            for lock in held:
                lock.release()


IN_ORDER = "who_completes_a_chord_is_answered_with_all_payloads_in_order"
IN_ONE_CALL = "the_members_of_a_chord_may_end_in_one_call"
EACH_CHORD = "each_chord_of_a_call_is_answered_by_itself"
OF_ONE = "a_chord_of_one_is_complete_at_once"
PAYLOADS = "payloads_are_kept_as_they_are"
FAILURES = "failures_are_counted_and_kept_as_any_end"
ONCE = "a_chords_member_counts_once_however_often_it_reports"
FIRST = "of_two_ends_of_a_chords_member_the_first_is_kept"
AGAIN = "only_who_completed_a_chord_is_answered_again"
SENT = "nobody_is_answered_once_the_body_was_sent"
SENT_AGAIN = "a_body_may_be_said_to_be_sent_again"
OTHERS = "sending_one_body_leaves_other_chords_as_they_are"
SIZE = "a_size_may_be_kept_before_any_member_ends"
STARTED_AGAIN = "a_chord_may_be_started_again"
UNKNOWN_SIZE = "nobody_completes_a_chord_of_unknown_size"
UNKNOWN_INDEX = "members_of_unknown_index_are_kept_each"
ANEW = "each_end_gives_a_chord_its_time_anew"
EXPIRED = "nothing_is_left_of_an_expired_chord"
LAST_TWO = "of_two_last_members_at_the_same_moment_one_is_answered"
MANY = "calls_that_share_many_chords_complete_each_once"

CASES: dict[type[MemoryBackend], tuple[str, ...]] = {
    OrdersByArrival: (IN_ORDER, IN_ONE_CALL, UNKNOWN_INDEX),
    OrdersByText: (IN_ORDER, IN_ONE_CALL),
    AnswersEachChord: (IN_ONE_CALL, EACH_CHORD),
    AnswersACallAtItsEnd: (IN_ONE_CALL, EACH_CHORD, AGAIN),
    TakesACallForOneChord: (EACH_CHORD, OTHERS, MANY),
    LooksBeforeItCounts: (IN_ORDER, OF_ONE),
    ReadsPayloads: (PAYLOADS,),
    CountsSuccesses: (FAILURES,),
    DropsFailures: (FAILURES,),
    CountsReports: (ONCE, AGAIN),
    KeepsTheLastEnd: (FIRST,),
    AnswersOnce: (FIRST, AGAIN, OTHERS, STARTED_AGAIN, LAST_TWO),
    AnswersAnybody: (AGAIN,),
    AnswersTheConnection: (AGAIN,),
    NeverSent: (SENT, SENT_AGAIN),
    ForgetsThatItSent: (SENT, SENT_AGAIN),
    SentOnce: (SENT_AGAIN,),
    SentTwiceIsNotSent: (SENT_AGAIN,),
    SentAll: (OTHERS,),
    KeepsNoSizes: (SIZE,),
    KeepsOneSize: (SIZE,),
    StartsAnew: (STARTED_AGAIN,),
    StartsWhatWasSent: (STARTED_AGAIN,),
    TakesUnknownForReached: (UNKNOWN_SIZE,),
    KeysByIndex: (UNKNOWN_INDEX,),
    UnknownIndexesMixTheRest: (UNKNOWN_INDEX,),
    EndsWithItsFirst: (ANEW,),
    NeverEnds: (EXPIRED,),
    SizesNeverEnd: (EXPIRED,),
    CountsThenLooks: (LAST_TWO, AGAIN),
    LooksThenCounts: (LAST_TWO,),
    LocksEachChord: (MANY,),
}


@pytest.mark.parametrize("broken", CASES, ids=lambda broken: broken.__name__)
def test_a_backend_that_counts_wrongly_fails_the_tests_that_are_about_it(
    broken: type[MemoryBackend],
) -> None:
    report = run(
        "backend",
        broken,
        lambda path: f"memory://{path.name}",
        only=lambda name: name.removeprefix("test_") in CASES[broken],
        patience=1.0,
    )
    assert sorted(check.name for check in report.failed) == sorted(CASES[broken])


def test_each_test_of_chords_has_a_backend_that_fails_it() -> None:
    names = {name.removeprefix("test_") for name in vars(ChordTests) if name.startswith("test_")}
    assert {name for expected in CASES.values() for name in expected} == names
