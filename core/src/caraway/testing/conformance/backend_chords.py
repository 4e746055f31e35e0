"""What a result backend that counts the members of chords must keep."""

from __future__ import annotations

from collections.abc import Sequence

from caraway import states
from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability
from caraway.message import ChordPart, ChordStart
from caraway.testing.conformance.backend_case import BackendCase, end_of
from caraway.testing.conformance.processes import ProcessCase
from caraway.testing.conformance.suite import needs, skip


class ChordCase(BackendCase):
    """What the tests of chords share."""

    def part(
        self, chord: object, index: int, size: int, *, member: str = "",
        state: str = states.SUCCESS, payload: bytes | None = None, ttl: float = 60.0,
    ) -> ChordPart:  # fmt: skip
        """The end of the member ``index`` of a chord of ``size``, or of another ``member``."""
        task_id = f"{self.id(chord)}-{member or f'm{index}'}"
        payload = end_of(task_id, state, index) if payload is None else payload
        return ChordPart(self.id(chord), task_id, index, state, payload, size, ttl)

    def parts(self, chord: object, size: int) -> list[ChordPart]:
        """The ends of all members of a chord, in order."""
        return [self.part(chord, index, size) for index in range(size)]

    def report(
        self, *parts: ChordPart, backend: Backend | None = None
    ) -> list[tuple[bytes, ...] | None]:
        """Report members in one call; the answers."""
        answers = (self.backend if backend is None else backend).chord_parts(parts)
        assert len(answers) == len(parts), "not one answer for each part"
        return [None if answer is None else tuple(answer) for answer in answers]


def payloads(parts: Sequence[ChordPart]) -> tuple[bytes, ...]:
    """What the member that completes a chord of these, which are in order, is answered."""
    return tuple(part.payload for part in parts)


class ChordTests(ChordCase):
    """`Capability.CHORDS`."""

    @needs(Capability.CHORDS)
    def test_who_completes_a_chord_is_answered_with_all_payloads_in_order(self) -> None:
        parts = self.parts("c", 12)
        shuffled = [parts[(7 * index + 5) % 12] for index in range(12)]
        for part in shuffled[:-1]:
            assert self.report(part) == [None]
        assert self.report(shuffled[-1], backend=self.open()) == [payloads(parts)]

    @needs(Capability.CHORDS)
    def test_the_members_of_a_chord_may_end_in_one_call(self) -> None:
        parts = self.parts("c", 300)
        answers = self.report(*reversed(parts))
        assert answers == [None] * 299 + [payloads(parts)]
        assert self.report() == []

    @needs(Capability.CHORDS)
    def test_each_chord_of_a_call_is_answered_by_itself(self) -> None:
        c, d, e = self.parts("c", 2), self.parts("d", 3), self.parts("e", 1)
        answers = self.report(d[2], c[1], d[0], c[0], e[0])
        assert answers == [None, None, None, payloads(c), payloads(e)]
        assert self.report(d[1]) == [payloads(d)]

    @needs(Capability.CHORDS)
    def test_a_chord_of_one_is_complete_at_once(self) -> None:
        (part,) = self.parts("c", 1)
        assert self.report(part) == [(part.payload,)]

    @needs(Capability.CHORDS)
    def test_payloads_are_kept_as_they_are(self) -> None:
        parts = [
            self.part("c", 0, 3, payload=b"\x00'; --\xff\r\n"),
            self.part("c", 1, 3, payload=b"0123456789abcdef" * 65536),
            self.part("c", 2, 3, payload="ü\u2028\U0001f955".encode("utf-16")),
        ]
        assert self.report(*parts) == [None, None, payloads(parts)]

    @needs(Capability.CHORDS)
    def test_failures_are_counted_and_kept_as_any_end(self) -> None:
        ends = (states.FAILURE, states.SUCCESS, states.REVOKED, states.FAILURE)
        parts = [self.part("c", index, 4, state=state) for index, state in enumerate(ends)]
        assert self.report(*parts[1:]) == [None] * 3
        assert self.report(parts[0]) == [payloads(parts)]

    # -- who reports again -------------------------------------------------------------

    @needs(Capability.CHORDS)
    def test_a_chords_member_counts_once_however_often_it_reports(self) -> None:
        a, b, c = self.parts("c", 3)
        other = self.open()
        for _ in range(4):
            assert self.report(a, b, a) == [None, None, None]
            assert self.report(b, backend=other) == [None]
        assert self.report(c) == [payloads([a, b, c])]

    @needs(Capability.CHORDS)
    def test_of_two_ends_of_a_chords_member_the_first_is_kept(self) -> None:
        a, b = self.parts("c", 2)
        late = [
            self.part("c", index, 2, state=states.FAILURE, payload=end_of("late", states.FAILURE))
            for index in range(2)
        ]
        assert self.report(a, late[0]) == [None, None]
        assert self.report(b) == [payloads([a, b])]
        assert self.report(late[1]) == [payloads([a, b])]

    @needs(Capability.CHORDS)
    def test_only_who_completed_a_chord_is_answered_again(self) -> None:
        a, b, c = parts = self.parts("c", 3)
        assert self.report(c, a, b) == [None, None, payloads(parts)]
        other = self.open()
        for _ in range(2):
            assert self.report(a, c) == [None, None]
            assert self.report(b, backend=other) == [payloads(parts)]
            assert self.report(c, b, a, backend=other) == [None, payloads(parts), None]

    @needs(Capability.CHORDS)
    def test_nobody_is_answered_once_the_body_was_sent(self) -> None:
        a, b = parts = self.parts("c", 2)
        assert self.report(a, b) == [None, payloads(parts)]
        self.open().chord_sent([self.id("c")])
        for backend in (self.backend, self.open()):
            assert self.report(b, backend=backend) == [None]
            assert self.report(a, b, backend=backend) == [None, None]

    @needs(Capability.CHORDS)
    def test_a_body_may_be_said_to_be_sent_again(self) -> None:
        c, d = self.parts("c", 2), self.parts("d", 2)
        self.report(*c, *d)
        for _ in range(2):
            self.backend.chord_sent([self.id("c"), self.id("never")])
            self.backend.chord_sent([])
            assert self.report(*c) == [None, None]
        self.backend.chord_sent([self.id("d"), self.id("c"), self.id("d")])
        assert self.report(*c, *d) == [None] * 4

    @needs(Capability.CHORDS)
    def test_sending_one_body_leaves_other_chords_as_they_are(self) -> None:
        c, d, e = self.parts("c", 2), self.parts("d", 2), self.parts("e", 2)
        self.report(*c, *d, e[0])
        self.backend.chord_sent([self.id("c")])
        assert self.report(d[1], e[1]) == [payloads(d), payloads(e)]

    # -- sizes -------------------------------------------------------------------------

    def start(self, chord: object, size: int, ttl: float = 60.0) -> None:
        """Say that a chord's header is about to be published."""
        self.backend.chord_start([ChordStart(self.id(chord), size, ttl)])

    def needs_sizes(self) -> None:
        """Skip the test where sizes aren't kept: that is for stores where others count."""
        if type(self.backend).chord_start is Backend.chord_start:
            raise skip("chord_start keeps nothing: members' ends carry the size")

    @needs(Capability.CHORDS)
    def test_a_size_may_be_kept_before_any_member_ends(self) -> None:
        self.needs_sizes()
        starts = [ChordStart(self.id(chord), size, 60.0) for chord, size in (("c", 3), ("d", 1))]
        self.open().chord_start(starts)
        parts = [self.part("c", index, 0) for index in range(3)]
        d = self.part("d", 0, 0)
        assert self.report(*parts[:2], d) == [None, None, (d.payload,)]
        assert self.report(parts[2]) == [payloads(parts)]

    @needs(Capability.CHORDS)
    def test_a_chord_may_be_started_again(self) -> None:
        a, b = parts = self.parts("c", 2)
        self.start("c", 2)
        assert self.report(a) == [None]
        self.start("c", 2)
        assert self.report(b) == [payloads(parts)]
        self.start("c", 2)
        assert self.report(a, b) == [None, payloads(parts)]
        self.backend.chord_sent([self.id("c")])
        self.start("c", 2)
        assert self.report(a, b) == [None, None]

    @needs(Capability.CHORDS)
    def test_nobody_completes_a_chord_of_unknown_size(self) -> None:
        assert self.report(self.part("c", 0, 0), self.part("c", 1, 0)) == [None, None]

    # -- order -------------------------------------------------------------------------

    @needs(Capability.CHORDS)
    def test_members_of_unknown_index_are_kept_each(self) -> None:
        unknown = [self.part("c", -1, 5, member=f"u{number}") for number in range(3)]
        known = [self.part("c", index, 5) for index in (0, 10)]
        assert self.report(known[1], *unknown) == [None] * 4
        (answer,) = self.report(known[0])
        assert answer is not None
        assert sorted(answer) == sorted(payloads([*known, *unknown]))
        assert [each for each in answer if each in payloads(known)] == list(payloads(known))

    # -- time --------------------------------------------------------------------------

    @needs(Capability.CHORDS)
    def test_each_end_gives_a_chord_its_time_anew(self) -> None:
        parts = [self.part("c", index, 3, ttl=6 * self.unit) for index in range(3)]
        for part in parts[:2]:
            assert self.report(part) == [None]
            self.pass_time(3.5)
        assert self.report(parts[2]) == [payloads(parts)]

    @needs(Capability.CHORDS, Capability.TTL)
    def test_nothing_is_left_of_an_expired_chord(self) -> None:
        self.start("d", 1, ttl=self.unit)
        parts = [self.part("c", index, 2, ttl=self.unit) for index in range(2)]
        assert self.report(parts[0]) == [None]
        self.pass_time(1.5)
        assert self.report(parts[1], self.part("d", 0, 0)) == [None, None]

    # -- all at once -------------------------------------------------------------------

    @needs(Capability.CHORDS)
    def test_of_two_last_members_at_the_same_moment_one_is_answered(self) -> None:
        backends = [self.open(), self.open()]
        for number in range(15):
            parts = self.parts(number, 5)
            assert self.report(*parts[:3]) == [None] * 3

            def last(
                index: int, parts: list[ChordPart] = parts
            ) -> tuple[tuple[bytes, ...] | None, tuple[bytes, ...] | None]:
                first, again = (
                    self.report(parts[3 + index], backend=backends[index])[0] for _ in "ab"
                )
                return first, again

            firsts, agains = zip(*self.at_once(last, 2), strict=True)
            answered = [answer for answer in firsts if answer is not None]
            assert answered == [payloads(parts)], f"{len(answered)} were answered"
            # Asked again: who was answered is, and who came too early isn't later.
            assert agains == firsts

    @needs(Capability.CHORDS)
    def test_calls_that_share_many_chords_complete_each_once(self) -> None:
        backends = [self.open() for _ in range(4)]
        chords = {number: self.parts(number, 8) for number in range(20)}

        def work(index: int) -> list[tuple[bytes, ...]]:
            # Each in an order of its own: locks taken in the order of a call must not cross.
            order = list(chords)[index:] + list(chords)[:index]
            mine = [chords[number][index] for number in (order if index % 2 else order[::-1])]
            answers = self.report(*mine, backend=backends[index % 4])
            return [answer for answer in answers if answer is not None]

        answered = [answer for answers in self.at_once(work, 8) for answer in answers]
        assert sorted(answered) == sorted(payloads(parts) for parts in chords.values())


class ChordProcessTests(ChordCase, ProcessCase):
    """The same between processes."""

    @needs(Capability.SHARED, Capability.CHORDS)
    def test_of_many_processes_exactly_one_completes_a_chord(self) -> None:
        size, chords = 3, 40
        said = self.race(
            "chord", [{"index": index, "size": size, "chords": chords} for index in range(size)]
        )
        answered = [
            (line, index) for index, lines in enumerate(said) for line in lines if line[-2:] != " 0"
        ]
        wanted = [f"{self.id(number)} {size}" for number in range(chords)]
        assert sorted(line for line, _ in answered) == sorted(wanted)
        for line, completer in answered:
            # It is dead by now: its message comes to another process.
            parts = self.parts(line.split()[0].removeprefix(f"{self.unique}-"), size)
            answers: list[tuple[bytes, ...] | None] = [None] * size
            answers[completer] = payloads(parts)
            assert self.report(*parts) == answers

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.CHORDS)
    def test_a_members_end_outlives_who_reported_it(self) -> None:
        victim = self.victim("chord", index=0, size=2, chords=1000)
        victim.wait_for(1, self.patience)
        victim.tell("go")
        victim.wait_for(20, self.patience)
        victim.kill()
        for line in victim.said()[1:]:
            if line != "done":
                parts = self.parts(line.split()[0].removeprefix(f"{self.unique}-"), 2)
                assert self.report(parts[1]) == [payloads(parts)]
