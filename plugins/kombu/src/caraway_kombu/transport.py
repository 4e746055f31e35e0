"""A kombu transport as a broker of Caraway's.

Also the base of bundles for one such transport: see docs/plugin-authors/kombu.md.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from msgspec import structs

from caraway.errors import CarawayError, PublishError, TransportError, TransportUnavailable
from caraway.interfaces import Capability, Context, Transport
from caraway.message import Owner, OwnerId, Publication, Queue, QueueStats
from caraway_kombu.address import Address, read
from caraway_kombu.consumer import KombuConsumer
from caraway_kombu.courier import Courier
from caraway_kombu.delays import Delays
from caraway_kombu.journal import Journal, place, sweep
from caraway_kombu.link import Link, returning
from caraway_kombu.marks import DUE, EXPIRES, Found, find

if TYPE_CHECKING:
    from caraway.url import Url
    from caraway_kombu.broadcast import KombuBroadcast
    from caraway_kombu.facts import Facts

T = TypeVar("T")
_PATIENCE = 30.0
"""Seconds for which an operation other than publishing may take."""


class KombuTransport(Transport):
    """A connection to a broker by kombu.

    Args:
        url: ``kombu+SCHEME://...``; of a subclass with `facts` also its own scheme.
        options: ours, and the transport options of kombu's.
        context: its clock says what is due.

    Attributes:
        facts: of the kombu transport that a subclass is for; None goes by the URL.
        capabilities: of the class what holds for all; of an instance what its transport can.
    """

    facts: ClassVar[Facts | None] = None
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.DELAY, Capability.EXPIRY})

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        self.context = context
        self.address: Address = read(url, options, context, type(self).facts)
        self._journal = place(self.address, options.get("journal"), context.directory)
        if self._journal is None and self.address.facts.keeps == "journal":
            without = structs.replace(self.address.facts, keeps="nothing")
            self.address = structs.replace(self.address, facts=without)
        facts = self.address.facts
        self.caution = facts.caution
        self.capabilities = facts.capabilities  # type: ignore[misc]
        self.poll: float = float(options.get("poll") or facts.poll)
        self._link = self.connect()
        self._courier: Courier | None = None
        self._lock = threading.Lock()
        self._known: set[str] = set()
        self._queues: dict[str, Queue] = {}
        self._delays = Delays(facts.ladder, context.clock, context.monotonic)
        self._consumers: set[KombuConsumer] = set()
        self._closed = False

    def connect(self, journal: Journal | None = None) -> Link:
        """A link of its own, for whoever needs one."""
        return Link(self.address, self.read, journal)

    def journal(self) -> Journal | None:
        """A journal of its own for a consumer; None where the broker needs none."""
        if self._journal is None or self.address.facts.keeps != "journal":
            return None
        return Journal(self._journal)

    def read(self, raw: Any) -> Found:
        """What a message of kombu's is.  Never raises.

        For subclasses whose broker knows more, such as how often it was delivered: then set
        `Found.attempts` to the deliveries before this one, and `Found.redelivered` to False.
        """
        return find(raw)

    def ended(self, consumer: KombuConsumer) -> None:
        """A consumer was closed."""
        self._consumers.discard(consumer)

    def known(self, queue: str) -> None:
        """Remember a queue for `stats`."""
        self._known.add(queue)

    def _call(self, function: Callable[[Link], T], timeout: float = _PATIENCE) -> T:
        """Call with the publisher's link, in its thread; see `Courier`."""
        with self._lock:
            if self._closed:
                raise TransportError("this transport is closed", hint="Build another one.")
            courier = self._courier
            if courier is None:
                link = self._link
                courier = self._courier = Courier(link.close)
                self._courier_link = link
            link = self._courier_link
        try:
            found: T = courier.call(lambda: function(link), timeout)
        except TimeoutError as exc:
            self._abandon(courier)
            raise TransportUnavailable(
                f"{self.address.shown} didn't answer within {timeout:g} s",
                hint="Is the broker running there, and not overloaded?",
            ) from exc
        return found

    def _abandon(self, courier: Courier) -> None:
        """Leave a call that hangs to itself; the next one gets a connection of its own."""
        with self._lock:
            if self._courier is courier:
                self._courier = None
                self._link = self.connect()
        courier.end()

    # -- publishing --------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        left = list(range(len(publications)))
        failed: list[tuple[int, Exception]] = []
        given_up = threading.Event()

        def put_all(link: Link) -> None:
            tries = 0
            while left and not given_up.is_set():
                try:
                    self._put(link, publications[left[0]])
                except Exception as exc:
                    fault = link.fault(exc)
                    if isinstance(fault, TransportUnavailable):
                        link.close()
                        tries += 1
                        # The first connection may have gone stale while nobody used it.
                        if tries == 1 and link.generation:
                            continue
                        raise fault from exc
                    if isinstance(exc, link.errors):
                        link.close()  # AMQP ends a channel or connection over one message
                    failed.append((left[0], fault))
                left.pop(0)

        try:
            self._call(put_all, timeout)
        except CarawayError as exc:
            given_up.set()
            if not failed and len(left) == len(publications):
                raise
            positions = sorted({*(position for position, _ in failed), *left})
            raise PublishError(
                f"{len(positions)} of {len(publications)} messages were not published: {exc}",
                failed=positions,
            ) from exc
        if failed:
            if all(isinstance(fault, TransportError) and type(fault) is not TransportError
                   for _, fault in failed) and len(failed) == len(publications):  # fmt: skip
                raise failed[0][1]
            raise PublishError(
                f"{len(failed)} of {len(publications)} messages can't be written: {failed[0][1]}",
                failed=[position for position, _ in failed],
            ) from failed[0][1]

    def _put(self, link: Link, publication: Publication) -> None:
        queue = publication.queue
        exchange = publication.exchange
        key = publication.routing_key
        if queue:
            known = self._queues.get(queue)
            if known is None or known.exchange != exchange:
                # A broker that has exchanges of its own is asked for none of unknown type;
                # in kombu's emulation one must be there to lead anywhere.
                named = exchange if exchange and not self.address.facts.real else ""
                if named or known is None:
                    known = Queue(name=queue, exchange=named, routing_key=key if named else "")
            self._declare(link, known)
        marks: dict[str, Any] = {}
        if publication.due:
            marks[DUE] = publication.due
        if publication.expires and not publication.message.headers.get("expires"):
            marks[EXPIRES] = publication.expires
        link.put(
            publication.message,
            marks,
            (key or queue) if exchange else queue,
            exchange,
            publication.priority,
        )

    def _declare(self, link: Link, queue: Queue) -> None:
        link.declare(queue)
        self._known.add(queue.name)

    # -- queues ------------------------------------------------------------------------

    def consume(self, queues: Sequence[Queue], owner: Owner) -> KombuConsumer:
        if self._closed:
            raise TransportError("this transport is closed", hint="Build another one.")
        self._remember(queues)
        consumer = KombuConsumer(self, queues, owner)
        self._consumers.add(consumer)
        return consumer

    def declare(self, queues: Sequence[Queue]) -> None:
        self._remember(queues)

        def create(link: Link) -> None:
            for queue in queues:
                self._declare(link, queue)

        self._call(create)

    def _remember(self, queues: Sequence[Queue]) -> None:
        self._known.update(queue.name for queue in queues)
        self._queues.update((queue.name, queue) for queue in queues)

    def delete(self, queue: str) -> int:
        count = sum(consumer.drop(queue) for consumer in tuple(self._consumers))
        count += self._call(
            lambda link: sum(link.delete(name) for name in (queue, *self._rungs(queue)))
        )
        self._known.discard(queue)
        return count

    def purge(self, queue: str) -> int:
        return self._call(
            lambda link: sum(link.purge(name) for name in (queue, *self._rungs(queue)))
        )

    def _rungs(self, queue: str) -> Sequence[str]:
        return self._delays.names(queue) if self.address.facts.delay else ()

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        def count(link: Link) -> list[QueueStats]:
            names = set(queues)
            if not names:
                names = self._known | {name for name in link.queues() if _counts(name)}
            consumers = tuple(self._consumers)
            return [
                QueueStats(
                    name,
                    link.size(name),
                    sum(map(link.size, self._rungs(name))),
                    sum(consumer.holds(name) for consumer in consumers),
                )
                for name in sorted(names)
            ]

        return self._call(count)

    def ping(self) -> None:
        self._call(lambda link: link.check(), 5.0)

    def reclaim(self, owner: OwnerId) -> int:  # noqa: ARG002 - all dead owners alike
        """Put back what dead processes held, where files tell (`filesystem`, journals)."""
        folder = self._journal
        if folder is not None and self.address.facts.keeps == "journal":
            return self._call(lambda link: sweep(folder, returning(link)))

        def look(link: Link) -> int:
            own = getattr(link.channel(), "caraway_sweep", None)
            return 0 if own is None else int(own())

        return self._call(look)

    def broadcast(self) -> KombuBroadcast:
        from caraway_kombu.broadcast import KombuBroadcast

        if Capability.BROADCAST not in self.capabilities:
            raise TransportError(
                f"{self.address.shown} has no broadcasts: kombu's transport can't fan out",
                hint="Remote control and events need one that can, see docs/how-to/kombu.md.",
            )
        return KombuBroadcast(self)

    def exchange(self, function: Callable[[Link], T], timeout: float = _PATIENCE) -> T:
        """Call with the publisher's link; for the broadcasts of this transport."""
        return self._call(function, timeout)

    def close(self) -> None:
        for consumer in tuple(self._consumers):
            consumer.close()
        with self._lock:
            self._closed = True
            courier, self._courier = self._courier, None
        if courier is not None:
            courier.end(5.0)
        else:
            self._link.close()


def _counts(name: str) -> bool:
    """Whether a queue found in the broker is one for messages of tasks."""
    return not (
        ".delay." in name or name.endswith(".pidbox") or name.startswith(("celeryev", ".", "kombu"))
    )
