"""One owner's consumer over several brokers: the worker's half of failover.

It is registered with every broker that can be reached.  It waits at one of them, the
current one, and every few seconds looks into the others, so that messages that were left
behind, or that a client publishes elsewhere, are run too; where it finds some, it stays.

Tags are ``<number of the broker>:<its tag>``.  A settlement whose broker is away waits here
and is made when that one is back; if its lease ended meanwhile, the message runs again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from caraway.errors import CarawayError, TransportError, TransportUnavailable
from caraway.interfaces.transport import Consumer
from caraway.message import Delivery, Owner, Queue, Settlement, Tag, new_owner_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.plugins.failover import FailoverTransport


def pack_tag(index: int, tag: Tag) -> str:
    """A broker's tag as this consumer's: ``2:17``, ``2:'a text'``."""
    return f"{index}:{tag}" if isinstance(tag, int) else f"{index}:'{tag}"


def unpack_tag(tag: Tag) -> tuple[int, Tag]:
    """What `pack_tag` made; (-1, tag) for anything else."""
    number, colon, own = str(tag).partition(":")
    if not colon or not number.isdigit():
        return -1, tag
    if own.startswith("'"):
        return int(number), own[1:]
    return (int(number), int(own)) if own.lstrip("-").isdigit() else (-1, tag)


def pack(index: int, deliveries: Sequence[Delivery]) -> list[Delivery]:
    """Deliveries of one broker with tags of this consumer."""
    return [replace(delivery, tag=pack_tag(index, delivery.tag)) for delivery in deliveries]


class FailoverConsumer(Consumer):
    """See the module.

    Args:
        transport: over all brokers.
        queues: as for `Transport.consume`.
        owner: registered with every broker.
        sweep: seconds between two looks into the brokers that aren't the current one.

    Raises:
        TransportUnavailable: no broker can be reached.
    """

    def __init__(
        self,
        transport: FailoverTransport,
        queues: Sequence[Queue],
        owner: Owner,
        *,
        sweep: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.owner = owner
        self.queues = [queue.name for queue in queues]
        self._transport = transport
        self._wanted = list(queues)
        self._parts: dict[int, Consumer] = {}
        self._used: set[int] = set()
        self._owed: dict[int, list[Settlement]] = {}
        self._sweep = sweep
        self._monotonic = monotonic
        self._swept = monotonic() - sweep  # the first fetch looks everywhere
        self._closed = False
        self._current = transport.current
        for index in transport.order():
            self._open(index)
        if not self._parts:
            raise TransportUnavailable("none of the brokers can be reached")

    # -- the contract ------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        if self._closed:
            raise TransportError("this consumer was closed")
        now = self._monotonic()
        if now - self._swept >= self._sweep:
            self._swept = now
            found = self._look_around(limit)
            if found:
                return found
        pause = min(timeout, max(self._swept + self._sweep - now, 0.0)) if timeout else 0.0
        for index in self._transport.order(self._current):
            taken = self._fetch(index, limit, pause)
            if taken is not None:
                self._current = index
                return taken
        raise TransportUnavailable("none of the brokers can be reached")

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        fenced: list[Tag] = []
        groups: dict[int, list[Settlement]] = {}
        for settlement in settlements:
            index, tag = unpack_tag(settlement.tag)
            if not 0 <= index < len(self._transport):
                fenced.append(settlement.tag)
                continue
            groups.setdefault(index, []).append(replace(settlement, tag=tag))
        for index, own in groups.items():
            part = self._parts.get(index)
            if part is None:
                self._owed.setdefault(index, []).extend(own)
                continue
            try:
                lost = part.settle(own)
            except TransportUnavailable:
                # Not raised: work of the brokers that are there must go on.
                self._owed.setdefault(index, []).extend(own)
                self._transport.lost(index)
                continue
            fenced += [pack_tag(index, tag) for tag in lost]
        return fenced

    def recede(self) -> None:
        for part in list(self._parts.values()):
            part.recede()

    def wake(self) -> None:
        for part in list(self._parts.values()):
            part.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._pay()
        for part in self._parts.values():
            with suppress(TransportUnavailable):  # its lease will end by itself
                part.close()

    # -- inside ------------------------------------------------------------------------

    def _open(self, index: int) -> Consumer | None:
        """The consumer at one broker; None if that can't be reached."""
        part = self._parts.get(index)
        if part is not None:
            return part
        inner = self._transport.at(index)
        if inner is None:
            return None
        owner = self.owner
        if index in self._used:
            # An owner that was lost stays lost, and ids are never used twice.
            owner = replace(owner, id=new_owner_id())
        try:
            part = inner.consume(self._wanted, owner)
        except TransportUnavailable:
            self._transport.lost(index)
            return None
        self._used.add(index)
        self._parts[index] = part
        return part

    def _fetch(self, index: int, limit: int, timeout: float) -> list[Delivery] | None:
        """What one broker has; None if it can't be reached."""
        part = self._open(index)
        if part is None:
            return None
        try:
            return pack(index, part.fetch(limit, timeout))
        except TransportUnavailable:
            self._transport.lost(index)
            return None

    def _look_around(self, limit: int) -> list[Delivery]:
        """Settle what is owed, keep other brokers' leases, and take what they have."""
        self._pay()
        for index in self._transport.order(self._current)[1:]:
            if self._transport.at(index) is None:
                continue
            self._renew(index)
            taken = self._fetch(index, limit, 0)
            if taken:
                self._current = index
                return taken
        return []

    def _renew(self, index: int) -> None:
        """Whoever renews the worker's owner can't know of one that was made anew here."""
        part, inner = self._parts.get(index), self._transport.at(index)
        if part is None or inner is None:
            return
        try:
            gone = part.owner.id in inner.renew([part.owner.id])
        except TransportUnavailable:
            self._transport.lost(index)
            return
        if gone:
            del self._parts[index]
            with suppress(CarawayError):
                part.close()

    def _pay(self) -> None:
        for index, owed in list(self._owed.items()):
            part = self._parts.get(index)
            if part is None or self._transport.at(index) is None:
                continue
            try:
                part.settle(owed)  # what is fenced off runs again, elsewhere
            except TransportUnavailable:
                self._transport.lost(index)
                continue
            del self._owed[index]
