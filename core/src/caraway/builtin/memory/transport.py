"""The broker in memory."""

from __future__ import annotations

import weakref
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from caraway.builtin.memory.broadcast import MemoryBroadcast
from caraway.builtin.memory.consumer import MemoryConsumer
from caraway.builtin.memory.space import Entry, Holder, Pause, find_space
from caraway.errors import TransportError
from caraway.interfaces.context import Capability
from caraway.interfaces.transport import Transport
from caraway.message import (
    DeadLetter,
    Delivery,
    Located,
    Message,
    Owner,
    OwnerId,
    OwnerStats,
    Publication,
    Queue,
    QueueStats,
    Tag,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from caraway.builtin.memory.space import Space
    from caraway.interfaces.backend import Backend
    from caraway.interfaces.context import Context
    from caraway.url import Url


class MemoryTransport(Transport):
    """A connection to the queues of one space.

    Args:
        url: ``memory://name``.
        options: none are known.
        context: its clocks are used, so a test's clock moves what is due and leases.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.DELAY,
            Capability.PRIORITY,
            Capability.EXPIRY,
            Capability.BROADCAST,
            Capability.DEAD_LETTERS,
            Capability.LEASE,
            Capability.ADOPT,
            Capability.REVOKE,
            Capability.INSPECT,
            Capability.ATOMIC_COMMIT,
        }
    )

    def __init__(
        self,
        url: Url,
        options: Mapping[str, Any],  # noqa: ARG002 - every factory is given them
        context: Context,
    ) -> None:
        self.space: Space = find_space(url)
        self._clock: Callable[[], float] = context.clock
        self._monotonic: Callable[[], float] = context.monotonic
        self._pause = Pause(context, self.space)
        self._consumers: weakref.WeakSet[MemoryConsumer] = weakref.WeakSet()
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise TransportError("this memory transport is closed", hint="build another one")

    def publish(
        self,
        publications: Sequence[Publication],
        *,
        timeout: float = 5.0,  # noqa: ARG002 - nothing here takes time
    ) -> None:
        if self._closed:
            self._check_open()
        space = self.space
        with space.lock:
            space.put(publications, self._clock())

    def consume(self, queues: Sequence[Queue], owner: Owner) -> MemoryConsumer:
        self._check_open()
        space = self.space
        names = tuple(queue.name for queue in queues)
        with space.lock:
            for name in names:
                space.line(name)
            holder = Holder(owner, names, self._monotonic() + owner.lease)
            if owner.id in space.holders:
                raise TransportError(
                    f"owner {owner.id} is consuming already",
                    hint="an owner id is never used twice: make one with new_owner_id()",
                )
            space.holders[owner.id] = holder
            space.lease_end = min(space.lease_end, holder.until)
            consumer = MemoryConsumer(space, holder, self._pause)
            self._consumers.add(consumer)
        return consumer

    def declare(self, queues: Sequence[Queue]) -> None:
        self._check_open()
        with self.space.lock:
            for queue in queues:
                self.space.line(queue.name)

    def delete(self, queue: str) -> int:
        self._check_open()
        with self.space.lock:
            line = self.space.lines.pop(queue, None)
            count = len(line.ready) + len(line.delayed) if line is not None else 0
            for holder in self.space.holders.values():
                for tag in [t for t, entry in holder.held.items() if entry.queue == queue]:
                    del holder.held[tag]
                    count += 1
            return count

    def purge(self, queue: str) -> int:
        self._check_open()
        with self.space.lock:
            line = self.space.lines.get(queue)
            if line is None:
                return 0
            count = len(line.ready) + len(line.delayed)
            line.ready.clear()
            line.delayed.clear()
            return count

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        self._check_open()
        with self.space.lock:
            names = sorted(queues or self.space.lines)
            return [self._stats(name, self._clock()) for name in names]

    def _stats(self, name: str, now: float) -> QueueStats:
        line = self.space.lines.get(name)
        holders = self.space.holders.values()
        if line is not None:
            self.space.ripen(line, now)
        oldest = min((e.at for _, _, e in line.ready), default=None) if line else None
        return QueueStats(
            name=name,
            ready=len(line.ready) if line else 0,
            delayed=len(line.delayed) if line else 0,
            held=sum(entry.queue == name for h in holders for entry in h.held.values()),
            oldest=None if oldest is None else max(0.0, now - oldest),
            consumers=sum(name in holder.queues for holder in holders),
        )

    def ping(self) -> None:
        self._check_open()

    def close(self) -> None:
        self._closed = True
        for consumer in list(self._consumers):
            consumer.close()

    # -- LEASE, ADOPT ------------------------------------------------------------------

    def renew(self, owners: Sequence[OwnerId]) -> Sequence[OwnerId]:
        self._check_open()
        space = self.space
        lost = []
        with space.lock:
            now = self._monotonic()
            for owner in owners:
                holder = space.holders.get(owner)
                if holder is None:
                    lost.append(owner)
                else:
                    holder.until = now + holder.owner.lease
        return lost

    def reclaim(self, owner: OwnerId) -> int:
        self._check_open()
        with self.space.lock:
            return self.space.end_owner(owner, counted=False)

    def adopt(self, owner: OwnerId, tags: Sequence[Tag], heir: OwnerId) -> Sequence[Delivery]:
        self._check_open()
        space = self.space
        with space.lock:
            giver = space.holders.get(owner)
            taker = space.holders.get(heir)
            if giver is None or taker is None:
                return ()
            now = self._clock()
            adopted = []
            for tag in tags:
                entry = giver.held.pop(tag, None)
                if entry is not None:
                    taker.held[tag] = entry
                    adopted.append(
                        Delivery(
                            message=entry.message,
                            tag=tag,
                            queue=entry.queue,
                            attempt=entry.attempts,
                            expires=entry.expires,
                            priority=9 - entry.rank,
                            revoked=space.is_revoked(entry.message.headers.get("id"), now),
                            due=entry.due,
                        )
                    )
            return adopted

    # -- REVOKE ------------------------------------------------------------------------

    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            revoked = self.space.revoked
            for task_id in [i for i, until in revoked.items() if until <= now]:
                del revoked[task_id]
            revoked.update(dict.fromkeys(task_ids, now + ttl))

    def revoked(self, task_ids: Sequence[str]) -> set[str]:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            return {task_id for task_id in task_ids if self.space.is_revoked(task_id, now)}

    # -- DEAD_LETTERS ------------------------------------------------------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        self._check_open()
        seen = int(after) if after.isdecimal() else 0
        with self.space.lock:
            letters = (
                letter
                for key, (letter, _) in self.space.dead.items()
                if key > seen and queue in ("", letter.queue)
            )
            return list(islice(letters, limit))

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        self._check_open()
        with self.space.lock:
            dead = self.space.dead
            return [dead[key][0] for key in _keys(ids) if key in dead]

    def dead_replay(self, ids: Sequence[str]) -> int:
        self._check_open()
        with self.space.lock:
            return self.space.replay(_keys(ids))

    def dead_drop(self, ids: Sequence[str]) -> int:
        self._check_open()
        with self.space.lock:
            return sum(self.space.dead.pop(key, None) is not None for key in _keys(ids))

    # -- INSPECT -----------------------------------------------------------------------

    def find(self, task_id: str) -> Sequence[Located]:
        self._check_open()
        space = self.space
        with space.lock:
            now = self._clock()
            found = []
            for line in space.lines.values():
                space.ripen(line, now)
                ready = sorted(line.ready, key=lambda item: item[:2])
                for ahead, (_, _, entry) in enumerate(ready):
                    if _is(entry.message, task_id):
                        found.append(_located(entry, "ready", ahead=ahead))
                for _, _, entry in line.delayed:
                    if _is(entry.message, task_id):
                        found.append(_located(entry, "delayed"))
            for owner, holder in space.holders.items():
                found.extend(
                    _located(entry, "held", owner=owner)
                    for entry in holder.held.values()
                    if _is(entry.message, task_id)
                )
            for letter, _ in space.dead.values():
                if _is(letter.message, task_id):
                    found.append(
                        Located(
                            message=letter.message,
                            queue=letter.queue,
                            place=letter.kind,
                            attempt=letter.attempt,
                            reason=letter.reason,
                        )
                    )
            return found

    def owners(self) -> Sequence[OwnerStats]:
        self._check_open()
        space = self.space
        with space.lock:
            monotonic = self._monotonic()
            now = self._clock()
            space.sweep(monotonic)
            return [
                OwnerStats(
                    owner=holder.owner,
                    queues=holder.queues,
                    held=len(holder.held),
                    expires=now + holder.until - monotonic,
                )
                for holder in space.holders.values()
            ]

    def peek(self, queue: str, *, limit: int = 20) -> Sequence[Located]:
        self._check_open()
        space = self.space
        with space.lock:
            line = space.lines.get(queue)
            if line is None:
                return ()
            space.ripen(line, self._clock())
            ready = sorted(line.ready, key=lambda item: item[:2])[:limit]
            return [
                _located(entry, "ready", ahead=ahead) for ahead, (_, _, entry) in enumerate(ready)
            ]

    # -- BROADCAST, ATOMIC_COMMIT ------------------------------------------------------

    def broadcast(self) -> MemoryBroadcast:
        self._check_open()
        return MemoryBroadcast(self.space)

    def shares_store(self, backend: Backend) -> bool:
        return getattr(backend, "space", None) is self.space


def _keys(ids: Iterable[str]) -> list[int]:
    """Dead letters' keys; what can't be one is left out."""
    return [int(name) for name in ids if name.isdecimal()]


def _is(message: Message, task_id: str) -> bool:
    return bool(message.headers.get("id") == task_id)


def _located(
    entry: Entry,
    place: Literal["ready", "delayed", "held"],
    *,
    owner: OwnerId = "",
    ahead: int | None = None,
) -> Located:
    return Located(
        message=entry.message,
        queue=entry.queue,
        place=place,
        due=entry.due,
        expires=entry.expires,
        attempt=entry.attempts,
        owner=owner,
        ahead=ahead,
    )
