"""One named space: everything the memory components of one URL share.

One lock guards a whole space, so whatever happens under it is atomic for everybody:
this is what makes the commit of results, follow-ups and settlements one.  Methods whose
docstring says "lock held" are called with it.
"""

from __future__ import annotations

import os
import threading
import time
from heapq import heapify, heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from caraway.message import (
    DeadLetter,
    Message,
    Owner,
    OwnerId,
    Publication,
    Settlement,
    StoredResult,
    Tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from caraway.builtin.memory.broadcast import MemorySubscription
    from caraway.interfaces.context import Context
    from caraway.interfaces.schedule import ScheduleRecord
    from caraway.url import Url


class Entry:
    """A message in a queue; its place is the container that it is in."""

    __slots__ = ("at", "attempts", "due", "expires", "message", "queue", "rank", "seq")

    def __init__(
        self,
        message: Message,
        queue: str,
        seq: int,
        rank: int,
        due: float,
        expires: float,
        at: float,
    ) -> None:
        self.message = message
        self.queue = queue
        self.seq = seq
        self.rank = rank
        self.due = due
        self.expires = expires
        self.at = at
        self.attempts = 0


class Line:
    """One queue: a heap of what is ready by (rank, age), one of what isn't due."""

    __slots__ = ("delayed", "ready")

    def __init__(self) -> None:
        self.ready: list[tuple[int, int, Entry]] = []
        self.delayed: list[tuple[float, int, Entry]] = []


class Holder:
    """A live owner: what it holds, and until when (on the monotonic clock)."""

    __slots__ = ("held", "owner", "queues", "until")

    def __init__(self, owner: Owner, queues: tuple[str, ...], until: float) -> None:
        self.owner = owner
        self.queues = queues
        self.until = until
        self.held: dict[Tag, Entry] = {}


class Join:
    """The members of a group that have ended."""

    __slots__ = ("members", "until", "winner")

    def __init__(self, until: float) -> None:
        self.members: set[str] = set()
        self.until = until
        self.winner: str | None = None


class Chord:
    """The members of a chord that have ended: index and payload of each."""

    __slots__ = ("ends", "size", "until", "winner")

    def __init__(self) -> None:
        self.ends: dict[str, tuple[float, bytes]] = {}
        self.size = 0
        self.until = inf
        self.winner: str | None = None


class Space:
    """All that the components of one memory URL share."""

    def __init__(self, name: str) -> None:
        self.name = name
        # Reentrant: a signal's handler may wake the very thread that holds it.
        self.lock = threading.RLock()
        # messages
        self.arrived = threading.Condition(self.lock)
        self.waiting = 0
        self.seq = 0
        self.lines: dict[str, Line] = {}
        self.holders: dict[OwnerId, Holder] = {}
        self.lease_end = inf
        self.revoked: dict[str, float] = {}
        self.dead: dict[int, tuple[DeadLetter, Entry]] = {}
        self.subscriptions: list[MemorySubscription] = []
        # results
        self.stored = threading.Condition(self.lock)
        self.result_waiting = 0
        self.results: dict[str, tuple[StoredResult, float]] = {}
        self.result_ends: list[tuple[float, str]] = []
        self.groups: dict[str, tuple[bytes, float]] = {}
        self.joins: dict[str, Join] = {}
        self.chords: dict[str, Chord] = {}
        self.chords_sent: dict[str, float] = {}
        # schedules
        self.records: dict[str, ScheduleRecord] = {}
        self.leader = ""
        self.leader_until = 0.0
        self.fence = 0

    def nudge(self) -> None:
        """Let everybody who waits look again, because a clock was moved."""
        with self.lock:
            self.arrived.notify_all()
            self.stored.notify_all()

    # -- messages ----------------------------------------------------------------------

    def line(self, queue: str) -> Line:
        """The queue of this name, made if need be.  Lock held."""
        line = self.lines.get(queue)
        if line is None:
            line = self.lines[queue] = Line()
        return line

    def put(self, publications: Iterable[Publication], now: float) -> None:
        """Append messages to their queues and wake who waits.  Lock held."""
        seq = self.seq
        lines = self.lines
        for item in publications:
            name = item.queue or item.routing_key
            line = lines.get(name)
            if line is None:
                line = self.line(name)
            seq += 1
            priority = item.priority
            rank = 9 - priority if 0 <= priority <= 9 else (0 if priority > 9 else 9)
            due = item.due
            entry = Entry(item.message, name, seq, rank, due, item.expires, now)
            if due > now:
                heappush(line.delayed, (due, seq, entry))
            else:
                heappush(line.ready, (rank, seq, entry))
        self.seq = seq
        if self.waiting:
            self.arrived.notify_all()

    def put_back(self, entries: Iterable[Entry], *, counted: bool) -> int:
        """Return held messages to the head of their queues.  Lock held."""
        count = 0
        for entry in entries:
            if not counted:
                entry.attempts -= 1
            heappush(self.line(entry.queue).ready, (entry.rank, entry.seq, entry))
            count += 1
        if count and self.waiting:
            self.arrived.notify_all()
        return count

    def bury(self, entry: Entry, settlement: Settlement, now: float) -> None:
        """Put a rejected message among the dead letters.  Lock held."""
        self.seq += 1
        letter = DeadLetter(
            id=str(self.seq),
            message=entry.message,
            queue=entry.queue,
            reason=settlement.reason,
            kind="parked" if settlement.parked else "dead",
            attempt=entry.attempts,
            at=now,
        )
        self.dead[self.seq] = (letter, entry)

    def replay(self, keys: Iterable[int]) -> int:
        """Move dead letters to the tail of their queue; how many.  Lock held."""
        count = 0
        for key in keys:
            buried = self.dead.pop(key, None)
            if buried is None:
                continue
            entry = buried[1]
            self.seq += 1
            entry.seq = self.seq
            entry.attempts = 0
            entry.due = 0.0
            heappush(self.line(entry.queue).ready, (entry.rank, entry.seq, entry))
            count += 1
        if count and self.waiting:
            self.arrived.notify_all()
        return count

    def end_owner(self, owner: OwnerId, *, counted: bool) -> int:
        """Take all from an owner and forget it; how many it held.  Lock held."""
        holder = self.holders.pop(owner, None)
        if holder is None:
            return 0
        held = list(holder.held.values())
        # What the owner's consumer still refers to must be empty: it is fenced off.
        holder.held.clear()
        if self.waiting:
            self.arrived.notify_all()
        return self.put_back(held, counted=counted)

    def sweep(self, monotonic: float) -> None:
        """End the owners whose lease has passed.  Lock held."""
        for owner in [o for o, holder in self.holders.items() if holder.until <= monotonic]:
            self.end_owner(owner, counted=True)
        self.lease_end = min((holder.until for holder in self.holders.values()), default=inf)

    def ripen(self, line: Line, now: float) -> None:
        """Move what is due to the ready ones.  Lock held."""
        delayed = line.delayed
        ready = line.ready
        while delayed and delayed[0][0] <= now:
            entry = heappop(delayed)[2]
            heappush(ready, (entry.rank, entry.seq, entry))

    def next_due(self, queues: Sequence[str]) -> float:
        """When the next delayed message of these queues is due.  Lock held."""
        lines = (self.lines.get(name) for name in queues)
        return min((line.delayed[0][0] for line in lines if line and line.delayed), default=inf)

    def is_revoked(self, task_id: object, now: float) -> bool:
        """Whether this task is revoked.  Lock held."""
        if not isinstance(task_id, str):
            return False
        until = self.revoked.get(task_id)
        if until is None:
            return False
        if until <= now:
            del self.revoked[task_id]
            return False
        return True

    # -- results -----------------------------------------------------------------------

    def drop_expired(self, now: float) -> int:
        """Drop the results whose time is over; how many.  Lock held."""
        count = 0
        while self.result_ends and self.result_ends[0][0] <= now:
            task_id = heappop(self.result_ends)[1]
            known = self.results.get(task_id)
            if known is not None and known[1] <= now:
                del self.results[task_id]
                count += 1
        if len(self.result_ends) > 2 * len(self.results) + 1000:
            # States stored again leave their older ends behind.
            self.result_ends = [(end, i) for i, (_, end) in self.results.items() if end != inf]
            heapify(self.result_ends)
        return count


class Pause:
    """How a waiting call waits: in real time, or as a test's clock says.

    A call's timeout ends at the earlier of real time and the context's monotonic clock:
    a test that moves the clock ends the wait, and one that forgets to doesn't hang.
    """

    __slots__ = ("clock", "monotonic", "real", "told")

    def __init__(self, context: Context, space: Space) -> None:
        self.clock: Callable[[], float] = context.clock
        self.monotonic: Callable[[], float] = context.monotonic
        self.real = context.clock is time.time and context.monotonic is time.monotonic
        watch = getattr(context.clock, "watch", None)
        self.told = watch is not None
        if watch is not None:
            watch(space.nudge)

    def length(self, left: float, due: float, lease_end: float) -> float:
        """Seconds of real time to wait before looking again."""
        if self.real:
            return max(0.0, min(left, due - self.clock(), lease_end - self.monotonic()))
        return left if self.told else min(left, 0.02)


_spaces: dict[str, Space] = {}
_lock = threading.Lock()


def find_space(url: Url) -> Space:
    """The space that this URL names: its host and path."""
    name = f"{url.host or ''}{url.path or ''}".rstrip("/")
    with _lock:
        space = _spaces.get(name)
        if space is None:
            space = _spaces[name] = Space(name)
        return space


def discard(name: str = "") -> None:
    """Forget the space of this name; components that have it open keep it to themselves."""
    with _lock:
        _spaces.pop(name, None)


def _start_empty_in_child() -> None:
    global _lock  # noqa: PLW0603 - a lock that was held at the fork never opens again
    _lock = threading.Lock()
    _spaces.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_empty_in_child)
