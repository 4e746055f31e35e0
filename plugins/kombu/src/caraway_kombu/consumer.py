"""One owner's way to its deliveries."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING

from msgspec import Struct

from caraway.errors import CarawayError, TransportError, TransportUnavailable
from caraway.interfaces.transport import Consumer
from caraway.message import Delivery, Message, Owner, Queue, Settlement, Tag
from caraway.waking import Waker, readable
from caraway_kombu.delays import Delays
from caraway_kombu.facts import Keeps
from caraway_kombu.journal import sweep
from caraway_kombu.link import returning
from caraway_kombu.marks import DEAD, Found

if TYPE_CHECKING:
    from caraway_kombu.journal import Journal
    from caraway_kombu.link import Link
    from caraway_kombu.transport import KombuTransport

_tags = count(1)
_FIRST_PAUSE = 0.002
SWEEP = 1.0
"""Seconds between looks into the journals of dead processes."""
_RESTORE = 10.0
"""Seconds between looks for what others let lie past the visibility timeout, at most."""


class Held(Struct, gc=False):
    """A delivery that isn't settled."""

    found: Found
    queue: str
    generation: int


class KombuConsumer(Consumer):
    """Takes messages by ``basic_get``, and waits between looks.

    kombu's own consumers take what they get whether or not it is wanted just now, and what
    they have taken nobody else gets.

    Args:
        transport: that this was opened from.
        queues: to serve, in turn.
        owner: of the deliveries.
    """

    def __init__(self, transport: KombuTransport, queues: Sequence[Queue], owner: Owner) -> None:
        self.owner = owner
        self.queues = tuple(queue.name for queue in queues)
        self._transport = transport
        self._declared = tuple(queues)
        self._clock: Callable[[], float] = transport.context.clock
        self._facts = transport.address.facts
        self._poll = transport.poll
        self._journal = transport.journal()
        self._link: Link = transport.connect(self._journal)
        self._astray = False
        self._delays = Delays(self._facts.ladder, self._clock, monotonic)
        self._held: dict[Tag, Held] = {}
        self._first = 0
        self._restored = monotonic()
        self._swept = False
        timeout = transport.address.options.get("visibility_timeout")
        short = timeout / 4 if isinstance(timeout, int | float) else _RESTORE
        self._restore_every = min(_RESTORE, max(0.25, short))
        self._ready = 0
        # Against `close` of the transport, called from another thread; never contended else.
        self._lock = threading.RLock()
        self._closed = False
        # A handler of signals may wake, so no lock is taken for it.
        self._waker = Waker()
        try:
            self._prepare()
            for name in self.queues:
                if self._facts.delay:
                    self._delays.watch(name)
        except BaseException:
            self._end()
            raise

    def _prepare(self) -> Link:
        """The link, open, with the queues that are there."""
        link = self._link
        if self._ready != link.generation or not link.opened:
            link.channel()
            for queue in self._declared:
                self.declare(link, queue)
            self._ready = link.generation
        return link

    def declare(self, link: Link, queue: Queue) -> None:
        """A queue and its rungs, where they must be there before they are looked at."""
        link.declare(queue)
        if self._facts.delay and self._facts.real:
            for name in self._delays.names(queue.name):
                link.declare(Queue(name=name, arguments=queue.arguments))

    # -- taking ------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        deadline = monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            with self._lock:
                if self._closed:
                    raise TransportError("this consumer is closed", hint="Open another one.")
                taken = self._take(limit)
            left = deadline - monotonic()
            if taken or left <= 0 or limit <= 0:
                return taken
            if self._heard(min(left, pause, max(self._delays.next_look(), 0.001))):
                return ()
            pause = min(pause * 1.5, self._poll)

    def _heard(self, seconds: float) -> bool:
        """Wait; True if woken, or closed meanwhile."""
        try:
            heard = readable((self._waker.fileno(),), seconds)
        except (ValueError, OSError):
            return True
        return bool(heard) and (self._waker.drain() or self._closed)

    def _take(self, limit: int) -> list[Delivery]:
        if limit <= 0:
            return []
        link = self._prepare()
        self._restore(link)
        taken: list[Delivery] = []
        try:
            self._gather(link, limit, taken)
        except CarawayError:
            self._astray = self._journal is not None
            if not taken or self._facts.keeps not in ("journal", "nothing"):
                raise
            # The broker has forgotten these; the error comes again if it is one.
        return taken

    def _gather(self, link: Link, limit: int, taken: list[Delivery]) -> None:
        for queue, found in self._delays.ripe(link, limit):
            self._admit(link, queue, found, taken)
        queues = list(self.queues)
        self._first = (self._first + 1) % len(queues)
        queues = queues[self._first :] + queues[: self._first]
        while queues and len(taken) < limit:
            share = -(-(limit - len(taken)) // len(queues))
            for queue in tuple(queues):
                wanted = min(share, limit - len(taken))
                if wanted <= 0:
                    break
                got = self._from(link, queue, wanted)
                for found in got:
                    self._admit(link, queue, found, taken)
                if len(got) < wanted:
                    queues.remove(queue)

    def _from(self, link: Link, queue: str, wanted: int) -> Sequence[Found]:
        if self._closed:
            return ()
        return link.take(queue, wanted)

    def _admit(self, link: Link, queue: str, found: Found, taken: list[Delivery]) -> None:
        """Deliver a message, unless its time hasn't come or it must be counted first."""
        if found.redelivered and not found.defect:
            # Somebody had it and died, or said nothing of it.  The broker doesn't count
            # how often, so we write it down before it runs, for the next one to read.
            found.redelivered = False
            link.give_back(queue, found, found.marks(attempts=found.attempts + 1))
            return
        if found.due > self._clock() and self._facts.delay:
            self._delays.put(link, queue, found, found.due)
            link.ack([found.tag])
            return
        tag = next(_tags)
        self._held[tag] = Held(found, queue, link.generation)
        taken.append(
            Delivery(
                found.message,
                tag,
                queue,
                found.attempts + 1,
                found.expires,
                found.priority,
                defect=found.defect,
                due=found.due,
            )
        )

    def _restore(self, link: Link) -> None:
        now = monotonic()
        if self._facts.keeps == "timeout" and now - self._restored > self._restore_every:
            self._restored = now
            link.restore()
        journal = self._journal
        if journal is None:
            return
        if self._astray:
            self._put_back_strays(link, journal)
        if now - self._restored > SWEEP or not self._swept:
            self._restored = now
            self._swept = True
            sweep(journal.folder, returning(link), journal)

    def _put_back_strays(self, link: Link, journal: Journal) -> None:
        """What an error left in nobody's hands."""
        held = {each.found.tag for each in self._held.values()}
        for queue, found in journal.strays(held):
            link.give_back(queue, found, found.marks())
        self._astray = False

    # -- settling ----------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        fenced: list[Tag] = []
        with self._lock:
            for settlement in settlements:
                held = self._held.get(settlement.tag)
                if held is None or not self._ours(held):
                    self._held.pop(settlement.tag, None)
                    fenced.append(settlement.tag)
                    continue
                self._apply(held, settlement)
                del self._held[settlement.tag]
        return fenced

    def _ours(self, held: Held) -> bool:
        """False if it went back to the broker with the connection that it came by."""
        if self._facts.keeps not in ("connection", "sweep"):
            return True
        return self._link.opened and held.generation == self._link.generation

    def _apply(self, held: Held, settlement: Settlement) -> None:
        link = self._prepare()
        found = held.found
        if settlement.action == "release":
            attempts = found.attempts + (1 if settlement.counted else 0)
            if settlement.delay > 0 and self._facts.delay:
                due = self._clock() + settlement.delay
                self._write(
                    lambda: self._delays.put(link, held.queue, found, due, attempts=attempts)
                )
            else:
                link.give_back(held.queue, found, found.marks(attempts=attempts))
                return
        elif settlement.action == "reject":
            self._bury(link, held, settlement)
        link.ack([found.tag])

    def _write(self, write: Callable[[], object]) -> None:
        try:
            write()
        except CarawayError:
            raise
        except Exception as exc:
            self._link.close()
            raise self._link.fault(exc) from exc

    def _bury(self, link: Link, held: Held, settlement: Settlement) -> None:
        """To the queue of the dead, before it leaves its own."""
        found = held.found
        name = f"{held.queue}.dead"
        link.declare(Queue(name=name))
        table = {
            "queue": held.queue,
            "reason": settlement.reason,
            "kind": "parked" if settlement.parked else "dead",
            "attempt": found.attempts + 1,
            "at": self._clock(),
        }
        properties = {k: v for k, v in found.message.properties.items() if k != "expiration"}
        kept = Message(
            found.message.body, found.message.headers, found.message.content_type,
            found.message.content_encoding, properties,
        )  # fmt: skip
        self._write(lambda: link.put(kept, {DEAD: table}, name))
        self._transport.known(name)

    # -- for the transport -------------------------------------------------------------

    def holds(self, queue: str) -> int:
        """How many deliveries of a queue are held."""
        return sum(held.queue == queue for held in tuple(self._held.values()))

    def drop(self, queue: str) -> int:
        """Drop what is held of a deleted queue; return how many."""
        with self._lock:
            gone = [tag for tag, held in self._held.items() if held.queue == queue]
            tags = [self._held.pop(tag).found.tag for tag in gone]
            self._link.forget(queue)
            self._ready = 0
            if self._journal is not None:
                for tag in tags:
                    self._journal.drop(tag)
            if tags and self._link.opened:
                self._link.ack(tags)
            return len(gone)

    # -- ending ------------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self.wake()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                self._give_all_back()
            finally:
                self._end()

    def _give_all_back(self) -> None:
        held = [each for each in self._held.values() if self._ours(each)]
        if self._journal is not None:
            tags = {each.found.tag for each in held}
            held += [Held(found, queue, 0) for queue, found in self._journal.strays(tags)]
        self._held.clear()
        for at, each in enumerate(held):
            try:
                self._link.give_back(each.queue, each.found, each.found.marks())
            except CarawayError as exc:
                import logging

                away = isinstance(exc, TransportUnavailable)
                logging.getLogger("caraway.kombu").warning(
                    "%d fetched messages could not be given back: %s; what was held %s",
                    len(held) - at if away else 1, exc, _LEFT[self._facts.keeps],
                )  # fmt: skip
                if away:
                    return

    def _end(self) -> None:
        self._closed = True
        self._transport.ended(self)
        self._link.close()
        if self._journal is not None:
            self._journal.close()
        self._waker.close()


_LEFT: dict[Keeps, str] = {
    "connection": "comes back when the broker ends the connection",
    "timeout": "comes back after the visibility timeout",
    "sweep": "comes back with the next worker",
    "journal": "comes back with the next worker of this machine",
    "nothing": "is lost",
}
