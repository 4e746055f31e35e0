"""The board: shared memory in which lanes say what they do, and the supervisor reads.

A lane writes without a system call, a lock or a pipe; what it wrote survives its death,
because the memory belongs to the supervisor too.  That is what makes it possible to tell,
after a SIGKILL, the task that was running from those that had ended and those that had
not begun.

Layout of one lane's part (little-endian, all offsets fixed)::

    header   tick f64, batch_began f64, fetched u64, done u64, failed u64, 2 x journal u64
    slots    SLOTS x (started f64, hard f64, mark), each of which begins a cache line
    journal  two halves, of each of which the header says how much is in use.  Entries of
             one batch: length u32, then a msgpack `Completion`, or in short:
             u8 1, length of the value u8, ended f64, ttl f64, mark 48s, value 24s

A mark names a run (`mark_of`): flags u8, length of the id u8, then for an integer tag
i64, for another length u8 and text, then the task id.  A short one, which is almost any,
is made before its run, and written with the times in one cache line.

``started`` and ``ended`` are `time.monotonic`, which all processes of one machine share;
0.0 means that the slot is free.  ``journal`` counts the bytes of the journal that are
whole; it is written after them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from time import monotonic, time
from typing import Final

import msgspec
from msgspec import Struct

from caraway.message import Completion, Settlement, StoredResult, Tag
from caraway.protocol.codec import success_record
from caraway.states import SUCCESS

_HEADER: Final = struct.Struct("<ddQQQQQ8x")
_TICK: Final = struct.Struct("<ddQQQ")
_SLOT: Final = struct.Struct("<dd304s")
_SLOT_SHORT: Final = struct.Struct("<dd48s")
_BRIEF: Final = struct.Struct("<IBBdd48s24s")
_BRIEF_REST: Final = struct.Struct("<BBdd48s24s")
_BRIEF_LENGTH: Final = _BRIEF_REST.size
_BRIEF_KIND: Final = 1
"""What no `Completion` begins with."""
_INT: Final = struct.Struct("<BBq")
_EARLY, INTEGER, _TEXT, _DIGITS = 1, 2, 4, 8
int_mark: Final = _INT.pack
"""Begin of a mark: flags, length of the id in bytes, integer tag.  The id follows."""
_LARGEST: Final = 2**63
_SHORT: Final = 48
_SHORT_VALUE: Final = 24
_STARTED: Final = struct.Struct("<d")
_COUNT: Final = struct.Struct("<Q")
_COUNTS: Final = struct.Struct("<QQ")
_LENGTH: Final = struct.Struct("<I")
_JOURNAL_OFFSET: Final = 40
JOURNAL_SIZE: Final = 512 * 1024
"""Bytes of one half of a lane's journal; a batch that fills it is committed early."""


class Running(Struct, frozen=True):
    """One occupied slot, as the supervisor sees it."""

    slot: int
    tag: Tag
    task_id: str
    started: float
    hard: float
    early: bool = False
    """Its message was acknowledged before the run: nobody else has it."""


class Board:
    """The memory of all lanes.  Made by the supervisor before it forks anything."""

    def __init__(self, lanes: int, slots: int) -> None:
        self.slots = slots
        self._size = _HEADER.size + _SLOT.size * slots + 2 * JOURNAL_SIZE
        self._memory = mmap.mmap(-1, self._size * lanes)
        self.lanes = lanes

    def lane(self, index: int) -> LaneBoard:
        """The part of one lane."""
        return LaneBoard(memoryview(self._memory), index * self._size, self.slots)


class LaneBoard:
    """One lane's part.  Written by the lane only, except by `clear`.

    Attributes:
        used: bytes of the half of the journal that are in use; set to 0 once all of it is
            committed, by the thread that records, the next entry begins it anew.  Until
            then it says what is known: committing that again is fenced off.
        fetched, done, failed: counters, told with the next `tick`.
    """

    __slots__ = (
        "_base", "_count", "_encode", "_half", "_journal", "_memory", "_slots",
        "done", "failed", "fetched", "slots",
        "used",
    )  # fmt: skip

    def __init__(self, memory: memoryview, base: int, slots: int) -> None:
        self._memory = memory
        self._base = base
        self._slots = base + _HEADER.size
        self._half = self._slots + _SLOT.size * slots
        self.used = 0
        self._use(0)
        self._encode = msgspec.msgpack.Encoder().encode
        self.slots = slots
        self.fetched = self.done = self.failed = 0

    # -- the lane ----------------------------------------------------------------------

    def tick(self, now: float, batch_began: float) -> None:
        """Say that the lane lives; called once per batch or wait."""
        # Not the journal's count: another thread may be writing an entry.
        _TICK.pack_into(
            self._memory, self._base, now, batch_began, self.fetched, self.done, self.failed
        )

    def start(
        self,
        slot: int,
        now: float,
        hard: float,
        mark: bytes,
    ) -> None:
        """Say that a run begins in this slot.

        Args:
            slot: which.
            now: `time.monotonic`.
            hard: seconds the run may take, 0.0 for no limit.
            mark: of the run, see `mark_of`.
        """
        (_SLOT_SHORT if len(mark) <= _SHORT else _SLOT).pack_into(
            self._memory, self._slots + slot * _SLOT.size, now, hard, mark
        )

    def end(self, slot: int) -> None:
        """Say that the run in this slot ended."""
        _STARTED.pack_into(self._memory, self._slots + slot * _SLOT.size, 0.0)

    def record(self, completion: Completion) -> bool:
        """Write a completion down before its commit; False if the journal is full, or
        can't hold it.  One thread at a time.

        Should the lane die before the commit, the supervisor commits it instead, so
        that a task that had ended doesn't run again.
        """
        if completion.settlement.action == "release":
            # Nothing is lost without it; and its message may come back under the same
            # tag, of which an old entry must not speak.
            return True
        try:
            data = self._encode(completion)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return False  # e.g. a header with an integer of more than 64 bits
        offset = self._journal + self.used
        end = offset + 4 + len(data)
        if end > self._journal + JOURNAL_SIZE:
            return False
        if not self.used:
            _COUNT.pack_into(self._memory, self._count, 0)
        _LENGTH.pack_into(self._memory, offset, len(data))
        self._memory[offset + 4 : end] = data
        self.used += 4 + len(data)
        _COUNT.pack_into(self._memory, self._count, self.used)
        return True

    def note(self, mark: bytes, value: bytes, ended: float, ttl: float) -> bool:
        """Write a plain success down, as `record` would; False if it must be told to
        `record` whole, because it isn't short, or the journal is full.

        Args:
            mark: of the run, see `mark_of`.
            value: what it returned, as JSON.
            ended: `time.monotonic`.
            ttl: of its result, seconds.
        """
        size = len(value)
        used = self.used
        end = used + _BRIEF.size
        if size > _SHORT_VALUE or len(mark) > _SHORT or end > JOURNAL_SIZE:
            return False
        memory, count = self._memory, self._count
        if not used:
            _COUNT.pack_into(memory, count, 0)
        _BRIEF.pack_into(
            memory, self._journal + used, _BRIEF_LENGTH, _BRIEF_KIND, size, ended, ttl, mark, value
        )
        self.used = end
        _COUNT.pack_into(memory, count, end)
        return True

    def turn(self) -> None:
        """Note what follows in the other half of the journal: what it says is committed,
        and what this one says is going to be."""
        self._use(1 if self._journal == self._half else 0)

    def _use(self, half: int) -> None:
        self._journal = self._half + half * JOURNAL_SIZE
        self._count = self._base + _JOURNAL_OFFSET + half * _COUNT.size
        self.used = 0

    # -- the supervisor ----------------------------------------------------------------

    def clear(self) -> None:
        """Make the part ready for another lane."""
        end = self._half
        self._memory[self._base : end] = bytes(end - self._base)
        self._use(0)

    def seen(self) -> LaneView:
        """What the lane last said."""
        tick, began, fetched, done, failed, _, _ = _HEADER.unpack_from(self._memory, self._base)
        return LaneView(tick, began, fetched, done, failed)

    def running(self) -> list[Running]:
        """The occupied slots."""
        found = []
        memory = self._memory
        for slot in range(self.slots):
            offset = self._slots + slot * _SLOT.size
            if not _STARTED.unpack_from(memory, offset)[0]:
                continue
            # The lane writes on meanwhile: what isn't twice the same is half of one run
            # and half of the next.  The next look will see the next.
            seen = bytes(memory[offset : offset + _SLOT.size])
            if seen != memory[offset : offset + _SLOT.size]:
                continue
            started, hard, mark = _SLOT.unpack(seen)
            run = _run_from(mark)
            if started and run is not None:
                found.append(Running(slot, run[0], run[1], started, hard, run[2]))
        return found

    def journal(self) -> Iterator[Completion]:
        """The completions that were written down and not committed."""
        counts = _COUNTS.unpack_from(self._memory, self._base + _JOURNAL_OFFSET)
        for half, used in enumerate(counts):
            yield from self._entries(self._half + half * JOURNAL_SIZE, used)

    def _entries(self, offset: int, used: int) -> Iterator[Completion]:
        decoder = msgspec.msgpack.Decoder(Completion)
        end = offset + min(used, JOURNAL_SIZE)
        while offset + 4 <= end:
            (length,) = _LENGTH.unpack_from(self._memory, offset)
            data = self._memory[offset + 4 : offset + 4 + length]
            offset += 4 + length
            if offset > end:
                return
            try:
                yield _success_from(data) if data[0] == _BRIEF_KIND else decoder.decode(data)
            except (msgspec.MsgspecError, struct.error, ValueError):
                return


class LaneView(Struct, frozen=True):
    """A lane's header: when it last ticked, since when its batch runs, its counters."""

    tick: float
    batch_began: float
    fetched: int
    done: int
    failed: int


def mark_of(tag: Tag, task_id: str, *, early: bool = False) -> bytes:
    """What names a run on the board.

    Args:
        tag: of the delivery.
        task_id: for the result, should the process die.
        early: the message is acknowledged already.
    """
    name = task_id.encode("utf-8", "surrogatepass")[:160]
    if type(tag) is int and -_LARGEST <= tag < _LARGEST:
        return int_mark(INTEGER | early, len(name), tag) + name
    text = str(tag).encode("utf-8", "replace")[:96]
    kind = _TEXT if type(tag) is str else _TEXT | _DIGITS
    return bytes((early | kind, len(name), len(text))) + text + name


def _run_from(mark: bytes) -> tuple[Tag, str, bool] | None:
    """Tag, task id, and whether it is acknowledged; None for no mark."""
    flags, length = mark[0], mark[1]
    tag: Tag
    if flags & INTEGER:
        at = _INT.size
        tag = _INT.unpack_from(mark)[2]
    elif flags & _TEXT:
        at = 3 + mark[2]
        tag = mark[3:at].decode("utf-8", "replace")
        if flags & _DIGITS:
            tag = int(tag)
    else:
        return None
    name = mark[at : at + length]
    try:
        task_id = name.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:  # a long one is cut off
        task_id = name.decode("utf-8", "replace")
    return tag, task_id, bool(flags & _EARLY)


def _success_from(data: memoryview) -> Completion:
    """The completion of a short entry."""
    _, size, ended, ttl, mark, value = _BRIEF_REST.unpack(data)
    run = _run_from(mark)
    if run is None:
        raise ValueError("no mark")
    tag, task_id, _ = run
    payload = success_record(task_id, value[:size], ended + time() - monotonic())
    return Completion(Settlement(tag), StoredResult(task_id, SUCCESS, payload, ttl))
