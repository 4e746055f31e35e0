"""The board: shared memory in which lanes say what they do, and the supervisor reads.

A lane writes without a system call, a lock or a pipe; what it wrote survives its death,
because the memory belongs to the supervisor too.  That is what makes it possible to tell,
after a SIGKILL, the task that was running from those that had ended and those that had
not begun.

Layout of one lane's part (little-endian, all offsets fixed)::

    header   tick f64, batch_began f64, fetched u64, done u64, failed u64, journal u64
    slots    SLOTS x (started f64, hard f64, early u8, tag 96s, task id 160s)
    journal  entries of one batch: length u32, then a msgpack `Completion`

``started`` is `time.monotonic`, which all processes of one machine share; 0.0 means that
the slot is free.  ``journal`` counts the bytes of the journal that are whole; it is
written after them.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from caraway.message import Completion, Tag

_HEADER: Final = struct.Struct("<ddQQQQ")
_TICK: Final = struct.Struct("<ddQQQ")
_SLOT: Final = struct.Struct("<dd?96s160s")
_STARTED: Final = struct.Struct("<d")
_COUNT: Final = struct.Struct("<Q")
_LENGTH: Final = struct.Struct("<I")
_JOURNAL_OFFSET: Final = 40
JOURNAL_SIZE: Final = 512 * 1024
"""Bytes of journal a lane has; a batch that fills it is committed early."""


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
        self._size = _HEADER.size + _SLOT.size * slots + JOURNAL_SIZE
        self._memory = mmap.mmap(-1, self._size * lanes)
        self.lanes = lanes

    def lane(self, index: int) -> LaneBoard:
        """The part of one lane."""
        return LaneBoard(memoryview(self._memory), index * self._size, self.slots)


class LaneBoard:
    """One lane's part.  Written by the lane only, except by `clear`.

    Attributes:
        used: bytes of the journal that are in use; set to 0 once all of it is committed,
            by the thread that records, the next entry begins it anew.  Until then it says
            what is known: committing that again is fenced off.
        fetched, done, failed: counters, told with the next `tick`.
    """

    __slots__ = (
        "_base", "_encoder", "_journal", "_journal_end", "_memory", "_slots",
        "done", "failed", "fetched", "slots",
        "used",
    )  # fmt: skip

    def __init__(self, memory: memoryview, base: int, slots: int) -> None:
        self._memory = memory
        self._base = base
        self._slots = base + _HEADER.size
        self._journal = self._slots + _SLOT.size * slots
        self._journal_end = self._journal + JOURNAL_SIZE
        self.used = 0
        self._encoder = msgspec.msgpack.Encoder()
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
        tag: Tag,
        task_id: str,
        early: bool = False,  # noqa: FBT001, FBT002 - by position: once per task
    ) -> None:
        """Say that a run begins in this slot.

        Args:
            slot: which.
            now: `time.monotonic`.
            hard: seconds the run may take, 0.0 for no limit.
            tag: of the delivery.
            task_id: for the result, should the process die.
            early: the message is acknowledged already.
        """
        _SLOT.pack_into(
            self._memory, self._slots + slot * _SLOT.size,
            now, hard, early, b"i%d" % tag if type(tag) is int else b"s" + str(tag).encode(),
            task_id.encode(),
        )  # fmt: skip

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
            data = self._encoder.encode(completion)
        except (TypeError, ValueError, OverflowError, RecursionError):
            return False  # e.g. a header with an integer of more than 64 bits
        offset = self._journal + self.used
        end = offset + 4 + len(data)
        if end > self._journal_end:
            return False
        if not self.used:
            _COUNT.pack_into(self._memory, self._base + _JOURNAL_OFFSET, 0)
        _LENGTH.pack_into(self._memory, offset, len(data))
        self._memory[offset + 4 : end] = data
        self.used += 4 + len(data)
        _COUNT.pack_into(self._memory, self._base + _JOURNAL_OFFSET, self.used)
        return True

    # -- the supervisor ----------------------------------------------------------------

    def clear(self) -> None:
        """Make the part ready for another lane."""
        end = self._journal
        self._memory[self._base : end] = bytes(end - self._base)
        self.used = 0

    def seen(self) -> LaneView:
        """What the lane last said."""
        tick, began, fetched, done, failed, _ = _HEADER.unpack_from(self._memory, self._base)
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
            started, hard, early, tag, task_id = _SLOT.unpack(seen)
            if started and tag[0]:
                found.append(
                    Running(
                        slot,
                        _tag_from(tag),
                        task_id.rstrip(b"\0").decode("utf-8", "replace"),
                        started,
                        hard,
                        early,
                    )
                )
        return found

    def journal(self) -> Iterator[Completion]:
        """The completions that were written down and not committed."""
        (used,) = _COUNT.unpack_from(self._memory, self._base + _JOURNAL_OFFSET)
        decoder = msgspec.msgpack.Decoder(Completion)
        offset, end = self._journal, self._journal + min(used, JOURNAL_SIZE)
        while offset + 4 <= end:
            (length,) = _LENGTH.unpack_from(self._memory, offset)
            data = self._memory[offset + 4 : offset + 4 + length]
            offset += 4 + length
            if offset > end:
                return
            try:
                yield decoder.decode(data)
            except msgspec.MsgspecError:
                return


class LaneView(Struct, frozen=True):
    """A lane's header: when it last ticked, since when its batch runs, its counters."""

    tick: float
    batch_began: float
    fetched: int
    done: int
    failed: int


def _tag_from(data: bytes) -> Tag:
    # A leading byte tells the two kinds of tag apart.
    text = data.rstrip(b"\0")
    return int(text[1:]) if text[:1] == b"i" else text[1:].decode("utf-8", "replace")
