"""One owner's consumer: a connection of its own, so that a broker that blocks publishers
still takes its acknowledgements.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces.transport import Consumer
from caraway.message import Delivery, Owner, Settlement, Tag
from caraway.waking import Waker
from caraway_amqp.arrivals import Reader
from caraway_amqp.faults import MISMATCH, NOT_FOUND, ChannelClosed
from caraway_amqp.link import Link
from caraway_amqp.session import Session
from caraway_amqp.settling import settle
from caraway_amqp.window import Window

if TYPE_CHECKING:
    from caraway_amqp.transport import AmqpTransport

_STREAK = 0.05
"""Seconds for which suspects are run before the queues have their turn again."""
_GLANCE = 0.01
"""Seconds to wait for the queues, where suspects are at hand."""


class AmqpConsumer(Consumer):
    """See `Consumer`.

    Args:
        transport: for publishing what is to take a delivery's place.
        owner: whose.
        queues: names of the task queues.
    """

    def __init__(self, transport: AmqpTransport, owner: Owner, queues: Sequence[str]) -> None:
        self.place = transport.address.place
        self.owner = owner
        self.queues = queues
        self._transport = transport
        self._reader = Reader(transport.attempts, transport.clock)
        self._link: Link | None = None
        self._session: Session | None = None
        self._patience = transport.options.consumer_timeout / 2
        self._until = 0.0
        """Suspects have their turn until then."""
        self._owed = False
        """They are to have the next one."""
        self._deleted: set[str] = set()
        self._closed = False
        self._waker = Waker()

    # -- the connection ----------------------------------------------------------------

    def open(self, timeout: float = 0.0) -> Session:
        """What there is of the connection; connects if need be."""
        if self._closed:
            raise TransportError("the consumer is closed", hint="Open a new one.")
        session = self._session
        if session is not None:
            channel = session.channel
            if channel.error is None and channel.link.error is None:
                return session
        self._lost()
        self._transport.ensure(self.queues)
        name = f"caraway {self.owner.worker or 'consumer'}"
        link = self._transport.connect(timeout, name, paced=True)
        with link.lock:
            self._link = link
            if self._patience:
                link.watch(self._renew, self._patience / 4)
            return self._begin(link)

    def _begin(self, link: Link) -> Session:
        quorum = self._transport.publisher.any_quorum(self.queues)
        channel = link.channel()
        window = Window(channel, self.queues, quorum=quorum)
        self._session = Session(channel, self._transport, self.owner, window, self._reader)
        channel.send(window.watch())
        return self._session

    def _lost(self) -> None:
        session, link = self._session, self._link
        if session is not None:
            session.lost()
        self._session = self._link = None
        if link is not None and link.error is None:
            with link.lock:
                link.close()

    def _renew(self) -> None:
        if self._session is not None:
            self._session.renew(self._patience)

    def recede(self) -> None:
        session, link = self._session, self._link
        if session is None or link is None or link.error is not None:
            return
        with link.lock:
            window = session.window
            if not (window.size or window.watched):
                return
            try:
                # Suspects, too: one that came ahead would wait here, and it alone.
                window.close_all()
                session.return_unread()
                session.return_suspects()
            except TransportError:
                # The connection went, and with it what was delivered ahead; or what takes
                # a suspect's place can't be published, and it stays here.
                return

    # -- fetch -------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        try:
            return self._fetch(limit, timeout)
        except ChannelClosed as exc:
            if exc.code not in (NOT_FOUND, MISMATCH):
                raise
            # A queue was deleted just now, or something was held for too long.
            raise TransportUnavailable(
                f"the consumer's channel was closed: {exc.text}",
                hint="It is opened anew with the next fetch.",
            ) from exc

    def _fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        deadline = monotonic() + timeout
        session = self.open()
        link = session.channel.link
        if limit <= 0:
            return ()
        last = glanced = False
        while True:
            with link.lock:
                if session.window.stale and not last and session.spent:
                    # It may hold what nobody can see.
                    session.channel.close()
                    session = self._begin(link)
                channel, window = session.channel, session.window
                if channel.cancelled or self._deleted:
                    self._reopen(session)
                if not last:
                    if (session.trial or self._owed) and (found := self._suspects(session, limit)):
                        return found
                    if not window.watched and not session.trial:
                        channel.send(window.watch())
                    window.open(limit, session.held)
                while len(channel.deliveries) < limit and link.read():
                    pass
                taken = session.take(limit)
                at_hand = session.waiting and session.ready()
                if taken:
                    self._owed = bool(at_hand)
                elif at_hand and last:
                    return session.try_one()
                elif at_hand and glanced:
                    self._owed = True
                    continue
                if taken or last:
                    if last:
                        session.return_unread()
                    return taken
                channel.check()
                left = deadline - monotonic()
                if left <= 0:
                    # What is on its way comes before the answer.  And nobody keeps a
                    # window open who may not look through it for a while.
                    last = True
                    window.close()
                    continue
            glanced = bool(at_hand)
            if self._wait(link, min(left, _GLANCE) if at_hand else left):
                return ()

    def _suspects(self, session: Session, limit: int) -> list[Delivery]:
        """A suspect, if it is their turn; or what is to be run before it."""
        window, now = session.window, monotonic()
        if session.trying:
            # Beside it, no other; and none waits here for its end.
            if window.watched:
                window.unwatch()
                session.return_suspects()
            return []
        if session.trial:
            session.trial = 0
            if now < self._until:
                while session.channel.link.read():
                    pass
                session.sift()
                if session.ready():
                    return session.try_one()
        if not self._owed or not session.ready():
            return []
        if not window.quorum:
            # So that a suspect that kills this process takes nothing along that came ahead.
            if window.size:
                window.close()
            if taken := session.take(limit):
                return taken
        self._owed = False
        self._until = now + _STREAK
        return session.try_one()

    def _wait(self, link: Link, left: float) -> bool:
        """Wait for something to read; True if woken instead."""
        with link.lock:
            link.tick()
        link.wait(min(left, 1.0), also=self._waker.fileno())
        return self._waker.drain()

    # -- queues that go ----------------------------------------------------------------

    def _reopen(self, session: Session) -> None:
        """Queues that were deleted are made again, and what they held is no longer ours."""
        channel, window = session.channel, session.window
        tags = {tag for tag in channel.cancelled if tag in window.sources}
        if not tags and not self._deleted:
            return
        # From those that the broker says by their consumers, as one of the same name may be
        # there again.
        session.drop(tags, self._deleted)
        window.watched = [tag for tag in window.watched if tag not in tags]
        gone = {window.sources[tag] for tag in session.renewal.forget(tags)}
        gone_names = sorted({queue for queue, _ in gone} | self._deleted)
        channel.cancelled.clear()
        self._deleted.clear()
        for name in gone_names:
            self._transport.publisher.forget(name)
        if gone:
            self._transport.ensure(gone_names)
            window.reset([queue for queue, suspect in gone if suspect])

    def deleted(self, queue: str) -> tuple[int, int]:
        """This process deleted a queue; how many of its messages were handed out here,
        and how many had come ahead."""
        counts = self.counts(queue)
        self._deleted.add(queue)
        return counts

    def counts(self, queue: str) -> tuple[int, int]:
        """How many messages of a queue are handed out, and how many came ahead."""
        session = self._session
        return session.counts(queue) if session is not None else (0, 0)

    # -- settle ------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        session, link = self._session, self._link
        if session is None or link is None:
            return [settlement.tag for settlement in settlements]
        with link.lock:
            try:
                link.read()
                session.channel.check()
            except TransportError:
                return [settlement.tag for settlement in settlements]
            if session.channel.cancelled or self._deleted:
                session.drop(session.channel.cancelled, self._deleted)
            return settle(session, settlements)

    # -- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        session, link = self._session, self._link
        try:
            if session is not None and link is not None and link.error is None:
                with link.lock:
                    # Before the connection ends: nothing is to come back as from the dead.
                    session.return_all()
                    link.close()
        except TransportError:
            # The broker gives all back when the connection ends.
            pass
        finally:
            self._session = self._link = None
            self._transport.consumers.discard(self)
            self._waker.close()
