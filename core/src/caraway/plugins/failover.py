"""Failover between several brokers: a transport that wraps others.

Messages are published to the first broker that can be reached, until it can't be reached any
more; then to the next one, and so on, round and round.  A message lives in one broker only:
what is in one that went away is delivered when that one is back.  Workers consume from all
of them (`failover_consumer`), so it does no harm that every client chooses for itself; give
them all the same list.

Broadcasts (remote control, events) go by the current broker alone.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from caraway.errors import PublishError, TransportError, TransportUnavailable
from caraway.interfaces.context import Capability
from caraway.interfaces.transport import Broadcast, Consumer, Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from caraway.interfaces.transport import Subscription
    from caraway.message import (
        DeadLetter,
        Delivery,
        Located,
        Notice,
        Owner,
        OwnerId,
        OwnerStats,
        Publication,
        Queue,
        QueueStats,
        Tag,
        Topic,
    )

T = TypeVar("T")


class FailoverTransport(Transport):
    """Several transports as one.

    Args:
        makers: (what to call it, what builds it), the preferred one first.  Each is
            built when it is first tried.
        capabilities: what each of them can do; an atomic commit is none of it, since
            results and messages may be on different brokers.
        retry: seconds for which one that couldn't be built or reached is left alone
            by calls that go to all of them.
    """

    def __init__(
        self,
        makers: Sequence[tuple[str, Callable[[], Transport]]],
        capabilities: frozenset[Capability] = frozenset(),
        *,
        retry: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._makers = list(makers)
        self.capabilities = capabilities - {Capability.ATOMIC_COMMIT}  # type: ignore[misc]
        self._built: dict[int, Transport] = {}
        self._down: dict[int, float] = {}
        self._current = 0
        self._closed = False
        self._retry = retry
        self._monotonic = monotonic

    # -- one of them -------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        left: Sequence[int] = range(len(publications))

        def publish_rest(transport: Transport) -> None:
            nonlocal left
            rest = publications
            if len(left) < len(publications):
                rest = [publications[position] for position in left]
            try:
                transport.publish(rest, timeout=timeout)
            except PublishError as exc:
                left = [left[position] for position in exc.failed]
                if isinstance(exc.__cause__, TransportUnavailable):  # it went away in between
                    raise exc.__cause__ from None
                raise PublishError(*exc.args, failed=left, hint=exc.hint) from exc

        try:
            self.first(publish_rest)
        except TransportUnavailable as exc:
            if len(left) == len(publications):
                raise
            raise PublishError(
                f"{len(left)} of {len(publications)} messages are in no broker: {exc.args[0]}",
                failed=left, hint=exc.hint,
            ) from exc  # fmt: skip

    def consume(self, queues: Sequence[Queue], owner: Owner) -> Consumer:
        from caraway.plugins.failover_consumer import FailoverConsumer

        return FailoverConsumer(self, queues, owner, sweep=self._retry, monotonic=self._monotonic)

    def declare(self, queues: Sequence[Queue]) -> None:
        self.first(lambda transport: transport.declare(queues))

    def ping(self) -> None:
        self.first(lambda transport: transport.ping())

    @property
    def caution(self) -> str:  # type: ignore[override]
        """That of each, once."""
        built = [self.at(index) for index in range(len(self._makers))]
        found = [each.caution for each in built if each is not None and each.caution]
        return "; ".join(dict.fromkeys(found))

    def broadcast(self) -> Broadcast:
        return FailoverBroadcast(self)

    # -- all of them -------------------------------------------------------------------

    def delete(self, queue: str) -> int:
        return sum(self._every(lambda transport: transport.delete(queue)))

    def purge(self, queue: str) -> int:
        return sum(self._every(lambda transport: transport.purge(queue)))

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        total: dict[str, QueueStats] = {}
        for _, several in self._each(lambda transport: transport.stats(queues)):
            for one in several:
                seen = total.get(one.name)
                total[one.name] = one if seen is None else _add(seen, one)
        return [total[name] for name in sorted(total)]

    def renew(self, owners: Sequence[OwnerId]) -> Sequence[OwnerId]:
        # Who renews (the supervisor) need not be who consumes, so it can't know where an
        # owner lives: lost is who is lost everywhere, with every broker asked.
        answers = self._each(lambda transport: transport.renew(owners))
        if len(answers) < len(self._makers):
            return ()
        lost = set.intersection(*(set(answer) for _, answer in answers))
        return [owner for owner in owners if owner in lost]

    def reclaim(self, owner: OwnerId) -> int:
        return sum(n for _, n in self._each(lambda transport: transport.reclaim(owner)))

    def adopt(self, owner: OwnerId, tags: Sequence[Tag], heir: OwnerId) -> Sequence[Delivery]:
        from caraway.plugins.failover_consumer import pack, unpack_tag

        groups: dict[int, list[Tag]] = {}
        for tag in tags:
            index, own = unpack_tag(tag)
            groups.setdefault(index, []).append(own)
        adopted: list[Delivery] = []
        for index, own_tags in groups.items():
            transport = self.at(index) if 0 <= index < len(self) else None
            if transport is not None:
                adopted += pack(index, transport.adopt(owner, own_tags, heir))
        return adopted

    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        self._every(lambda transport: transport.revoke(task_ids, ttl=ttl))

    def revoked(self, task_ids: Sequence[str]) -> set[str]:
        return set().union(*(a for _, a in self._each(lambda t: t.revoked(task_ids))))

    def find(self, task_id: str) -> Sequence[Located]:
        return [x for _, found in self._each(lambda t: t.find(task_id)) for x in found]

    def owners(self) -> Sequence[OwnerStats]:
        merged: dict[str, OwnerStats] = {}
        for _, found in self._each(lambda transport: transport.owners()):
            for one in found:
                seen = merged.get(one.owner.id, one)
                held = one.held if seen is one else seen.held + one.held
                merged[one.owner.id] = replace(seen, held=held)
        return list(merged.values())

    def peek(self, queue: str, *, limit: int = 20) -> Sequence[Located]:
        found = self._each(lambda transport: transport.peek(queue, limit=limit))
        return [x for _, several in found for x in several][:limit]

    def close(self) -> None:
        self._closed = True
        built, self._built = self._built, {}
        for transport in built.values():
            transport.close()

    # -- dead letters: ids are "<number of the broker>/<its id>" -----------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        start, _, last = after.partition("/")
        out: list[DeadLetter] = []
        for index in range(int(start or 0), len(self._makers)):
            transport = self.at(index)
            if transport is None or len(out) >= limit:
                continue
            since = last if after and index == int(start) else ""
            letters = transport.dead(queue, limit=limit - len(out), after=since)
            out += [replace(letter, id=f"{index}/{letter.id}") for letter in letters]
        return out

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return [
            replace(letter, id=f"{index}/{letter.id}")
            for index, transport, own in self._by_broker(ids)
            for letter in transport.dead_get(own)
        ]

    def dead_replay(self, ids: Sequence[str]) -> int:
        return sum(transport.dead_replay(own) for _, transport, own in self._by_broker(ids))

    def dead_drop(self, ids: Sequence[str]) -> int:
        return sum(transport.dead_drop(own) for _, transport, own in self._by_broker(ids))

    # -- for the consumer and the broadcast --------------------------------------------

    def __len__(self) -> int:
        return len(self._makers)

    @property
    def current(self) -> int:
        """Number of the broker that serves."""
        return self._current

    def order(self, first: int | None = None) -> list[int]:
        """All numbers, beginning with ``first`` or the current one."""
        start = self._current if first is None else first
        return [(start + step) % len(self) for step in range(len(self))]

    def lost(self, index: int) -> None:
        """A broker turned out to be out of reach."""
        self._down[index] = self._monotonic()

    def first(self, call: Callable[[Transport], T]) -> T:
        """The call on the current broker; on the next one where that can't be reached.

        Raises:
            TransportUnavailable: none can.
        """
        errors: list[str] = []
        for index in self.order():
            try:
                result = call(self._get(index))
            except TransportUnavailable as exc:
                self._down[index] = self._monotonic()
                errors.append(f"{self._makers[index][0]}: {exc.args[0] if exc.args else exc}")
                continue
            self._down.pop(index, None)
            self._current = index
            return result
        raise TransportUnavailable("none of the brokers can be reached: " + "; ".join(errors))

    # -- inside ------------------------------------------------------------------------

    def _get(self, index: int) -> Transport:
        if self._closed:
            raise TransportError("this transport was closed")
        transport = self._built.get(index)
        if transport is None:
            transport = self._built.setdefault(index, self._makers[index][1]())
            transport.alone = False
        return transport

    def at(self, index: int) -> Transport | None:
        """A broker for a call that goes to all; None for one that was down just now."""
        since = self._down.get(index)
        if since is not None and self._monotonic() - since < self._retry:
            return None
        try:
            transport = self._get(index)
            if since is not None:
                transport.ping()
        except TransportUnavailable:
            self._down[index] = self._monotonic()
            return None
        self._down.pop(index, None)
        return transport

    def _each(self, call: Callable[[Transport], T]) -> list[tuple[int, T]]:
        """The call on every broker that can be reached.

        Raises:
            TransportUnavailable: none can.
        """
        out: list[tuple[int, T]] = []
        for index in range(len(self._makers)):
            transport = self.at(index)
            if transport is None:
                continue
            try:
                out.append((index, call(transport)))
            except TransportUnavailable:
                self._down[index] = self._monotonic()
        if not out:
            raise TransportUnavailable("none of the brokers can be reached")
        return out

    def _every(self, call: Callable[[Transport], T]) -> list[T]:
        """As `_each`, for what isn't done unless every broker did it.

        Raises:
            TransportUnavailable: some can't be reached; the others did it, and may do it
                again when this is repeated.
        """
        answers = dict(self._each(call))
        missing = [name for i, (name, _) in enumerate(self._makers) if i not in answers]
        if missing:
            raise TransportUnavailable(f"done, but not on {', '.join(missing)}: can't be reached")
        return list(answers.values())

    def _by_broker(self, ids: Sequence[str]) -> list[tuple[int, Transport, list[str]]]:
        groups: dict[int, list[str]] = {}
        for name in ids:
            number, slash, own = name.partition("/")
            if slash and number.isdigit() and int(number) < len(self._makers):
                groups.setdefault(int(number), []).append(own)
        out = []
        for index, own_ids in groups.items():
            transport = self.at(index)
            if transport is None:
                raise TransportError(f"{self._makers[index][0]} can't be reached now")
            out.append((index, transport, own_ids))
        return out


class FailoverBroadcast(Broadcast):
    """The channel of the broker that serves.

    A subscription lives in one broker: when that can't be reached any more, it says so, and
    whoever subscribes again does so at the next.
    """

    def __init__(self, transport: FailoverTransport) -> None:
        self._transport = transport

    def publish(self, notices: Sequence[Notice]) -> int | None:
        return self._transport.first(lambda each: each.broadcast().publish(notices))

    def subscribe(self, topics: Iterable[Topic], *, name: str = "") -> Subscription:
        wanted = list(topics)
        return self._transport.first(lambda each: each.broadcast().subscribe(wanted, name=name))


def _add(a: QueueStats, b: QueueStats) -> QueueStats:
    ages = [age for age in (a.oldest, b.oldest) if age is not None]
    counts = [n for n in (a.consumers, b.consumers) if n is not None]
    return replace(
        a,
        ready=a.ready + b.ready,
        delayed=a.delayed + b.delayed,
        held=a.held + b.held,
        oldest=max(ages, default=None),
        consumers=max(counts, default=None),  # a worker is registered with every broker
    )
