"""One owner's way to its deliveries in memory."""

from __future__ import annotations

import time
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING

from caraway.errors import OwnerLost
from caraway.interfaces.transport import Consumer
from caraway.message import Completion, Delivery, Publication, Settlement, StoredResult, Tag
from caraway.states import READY_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caraway.builtin.memory.space import Entry, Holder, Pause, Space


class MemoryConsumer(Consumer):
    """Takes messages of some queues for one owner."""

    def __init__(self, space: Space, holder: Holder, pause: Pause) -> None:
        self.owner = holder.owner
        self.queues = holder.queues
        self._space = space
        self._holder = holder
        self._pause = pause
        self._first = 0
        self._woken = False
        self._closed = False

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        space = self._space
        with space.lock:
            taken = self._take(limit)
            if taken or timeout <= 0:
                return taken
            return self._wait(limit, timeout)

    def _wait(self, limit: int, timeout: float) -> Sequence[Delivery]:
        space = self._space
        pause = self._pause
        deadline = time.monotonic() + timeout
        moved_deadline = pause.monotonic() + timeout
        while not self._woken and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0 or pause.monotonic() >= moved_deadline:
                return ()
            due = space.next_due(self.queues)
            space.waiting += 1
            try:
                space.arrived.wait(pause.length(left, due, space.lease_end))
            finally:
                space.waiting -= 1
            taken = self._take(limit)
            if taken:
                return taken
        self._woken = False
        return ()

    def _take(self, limit: int) -> list[Delivery]:
        """What is ready, up to the limit, evenly from all queues.  Lock held."""
        space = self._space
        pause = self._pause
        now = pause.clock()
        monotonic = pause.monotonic()
        if space.lease_end <= monotonic:
            space.sweep(monotonic)
        owner_id = self.owner.id
        if space.holders.get(owner_id) is not self._holder:
            # What it took now, nobody would ever get back.
            if self._closed:
                return []
            raise OwnerLost(f"owner {owner_id} has no lease any more")
        lines = []
        for name in self.queues:
            line = space.lines.get(name)
            if line is None:
                continue
            if line.delayed and line.delayed[0][0] <= now:
                space.ripen(line, now)
            if line.ready:
                lines.append(line.ready)
        taken: list[Delivery] = []
        if not lines:
            return taken
        if len(lines) > 1:
            self._first = (self._first + 1) % len(lines)
            lines = lines[self._first :] + lines[: self._first]
        held = self._holder.held
        seq = space.seq
        revoked = space.revoked
        left = limit
        while left > 0 and lines:
            share = -(-left // len(lines))
            for ready in lines:
                for _ in range(min(share, left, len(ready))):
                    entry = heappop(ready)[2]
                    entry.attempts += 1
                    seq += 1
                    held[seq] = entry
                    message = entry.message
                    taken.append(
                        Delivery(
                            message,
                            seq,
                            entry.queue,
                            entry.attempts,
                            entry.expires,
                            9 - entry.rank,
                            bool(revoked) and space.is_revoked(message.headers.get("id"), now),
                            "",
                            entry.due,
                        )
                    )
                    left -= 1
            lines = [ready for ready in lines if ready]
        space.seq = seq
        return taken

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        space = self._space
        held = self._holder.held
        fenced: list[Tag] = []
        with space.lock:
            for settlement in settlements:
                entry = held.pop(settlement.tag, None)
                if entry is None:
                    fenced.append(settlement.tag)
                elif settlement.action != "ack":
                    self._return(entry, settlement)
        return fenced

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        space = self._space
        held = self._holder.held
        fenced: list[Tag] = []
        results: list[StoredResult] = []
        publications: list[Publication] = []
        with space.lock:
            now = self._pause.clock()
            for completion in completions:
                settlement = completion.settlement
                entry = held.pop(settlement.tag, None)
                if entry is None:
                    fenced.append(settlement.tag)
                    continue
                if completion.result is not None:
                    results.append(completion.result)
                if completion.publications:
                    publications.extend(completion.publications)
                if settlement.action != "ack":
                    self._return(entry, settlement)
            if results:
                keep(space, results, now)
            if publications:
                space.put(publications, now)
        return fenced

    def _return(self, entry: Entry, settlement: Settlement) -> None:
        """Release or reject what was held.  Lock held."""
        space = self._space
        now = self._pause.clock()
        if settlement.action == "reject":
            space.bury(entry, settlement, now)
        elif settlement.delay > 0:
            if not settlement.counted:
                entry.attempts -= 1
            entry.due = now + settlement.delay
            heappush(space.line(entry.queue).delayed, (entry.due, entry.seq, entry))
            if space.waiting:
                space.arrived.notify_all()
        else:
            space.put_back((entry,), counted=settlement.counted)

    def wake(self) -> None:
        with self._space.lock:
            self._woken = True
            self._space.arrived.notify_all()

    def close(self) -> None:
        space = self._space
        with space.lock:
            self._closed = True
            if space.holders.get(self.owner.id) is self._holder:
                space.end_owner(self.owner.id, counted=False)
            space.arrived.notify_all()


def keep(space: Space, results: Iterable[StoredResult], now: float) -> None:
    """Keep states; a final one stays.  Lock held."""
    kept = space.results
    ends = space.result_ends
    final = False
    for result in results:
        task_id = result.task_id
        known = kept.get(task_id)
        if known is not None and known[0].state in READY_STATES and known[1] > now:
            continue
        until = now + result.ttl if result.ttl > 0 else inf
        kept[task_id] = (result, until)
        if until != inf:
            heappush(ends, (until, task_id))
        final = final or result.state in READY_STATES
    if ends and ends[0][0] <= now:
        space.drop_expired(now)
    if final and space.result_waiting:
        space.stored.notify_all()
