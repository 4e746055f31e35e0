"""What one channel of a consumer brought, and what has become of it.

A session ends with its channel: all that was not acknowledged returns to its queues, and the
next session begins with nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import TransportError
from caraway.message import Delivery, Settlement
from caraway_amqp.arrivals import Arrival, Reader, consumer_of, number_of, worker_here
from caraway_amqp.channel import Channel
from caraway_amqp.frames import acknowledge, give_back
from caraway_amqp.renewal import Renewal
from caraway_amqp.settling import settle
from caraway_amqp.window import Window

if TYPE_CHECKING:
    from caraway.message import Owner
    from caraway_amqp.transport import AmqpTransport


class Session:
    """See the module's text.  Used with the link's lock held.

    Args:
        channel: open.
        transport: for publishing what is to take a delivery's place.
        owner: whose.
        window: of this channel.
        reader: of what it brings.

    Attributes:
        base: what its tags begin with.
        held: by number, what was handed out.
        waiting: suspects that were not.
        moving: what is yet to be moved elsewhere.
        renewal: of what is held.
        trial: number of the suspect that was handed out last, 0 for none.
    """

    def __init__(
        self,
        channel: Channel,
        transport: AmqpTransport,
        owner: Owner,
        window: Window,
        reader: Reader,
    ) -> None:
        self.channel = channel
        self.transport = transport
        self.window = window
        self.base = transport.new_base()
        self.held: dict[int, Arrival] = {}
        self.waiting: deque[Arrival] = deque()
        self.moving: list[Arrival] = []
        self.renewal = Renewal(owner.id, transport.publisher, window.sources)
        self.trial = 0
        self._read = reader.read
        self._quiet_until = 0.0

    @property
    def spent(self) -> bool:
        """Nobody would miss the channel, which may hold what nobody can see."""
        busy = self.held or self.waiting or self.moving
        return not (busy or self.window.current or self.channel.deliveries)

    # -- handing out -------------------------------------------------------------------

    def take(self, limit: int) -> list[Delivery]:
        """Hand out up to so many of those that came and are no suspects."""
        deliveries, held, read = self.channel.deliveries, self.held, self._read
        base, sources = self.base, self.window.sources
        taken: list[Delivery] = []
        now = monotonic()
        while deliveries and len(taken) < limit:
            arrival = read(deliveries.popleft(), base, sources)
            arrival.since = now
            if arrival.verdict == "move":
                self.moving.append(arrival)
            elif arrival.suspect:
                self.waiting.append(arrival)
            else:
                held[arrival.number] = arrival
                taken.append(arrival.delivery)
        if self.moving:
            try:
                self._move()
            except TransportError:
                if not taken:
                    raise
        return taken

    def _move(self) -> None:
        """Publish what takes the place of these, then acknowledge them: killed between
        the two, a message is there twice."""
        moving = self.moving
        self.transport.publisher.publish(
            [arrival.publication for arrival in moving if arrival.publication],
            extras=[arrival.extra for arrival in moving],
        )
        number = self.channel.number
        self.channel.send(b"".join(acknowledge(number, arrival.number) for arrival in moving))
        self.moving = []

    @property
    def trying(self) -> bool:
        """A suspect that was handed out has not ended."""
        return self.trial in self.held

    def ready(self) -> bool:
        """A suspect may be handed out now."""
        return bool(self.waiting) and not self.trying and monotonic() >= self._quiet_until

    def try_one(self) -> list[Delivery]:
        """Hand out the suspect that waits longest; none if the broker takes no messages.

        What runs is counted before it begins, in the broker: a copy that has one attempt
        more takes the suspect's place.  So a suspect may wait here, and go down with this
        process, without that being held against it.
        """
        arrival = self.waiting[0]
        count = arrival.delivery.attempt
        if arrival.doubt is not None:
            arrival.doubt = worker_here()
        try:
            self.renewal.renew(
                self.channel, arrival.queue, [(arrival, count)], suspect=True, timeout=1.0
            )
        except TransportError:
            # Ours may be what is down.
            self.channel.check()
            # Others go on, if there are any.
            self._quiet_until = monotonic() + 5.0
            return []
        self.waiting.popleft()
        self.held[arrival.number] = arrival
        self.trial = arrival.number
        return [arrival.delivery]

    # -- long ones ---------------------------------------------------------------------

    def renew(self, patience: float) -> None:
        """Have what is held for so many seconds delivered anew: see
        `caraway_amqp.renewal`."""
        now = monotonic()
        due: dict[tuple[str, bool], list[tuple[Arrival, int]]] = {}
        for arrival in (*self.held.values(), *self.waiting):
            if now - arrival.since >= patience:
                count = arrival.delivery.attempt - (arrival.number not in self.held)
                due.setdefault((arrival.queue, arrival.suspect), []).append((arrival, count))
        for (queue, suspect), arrivals in due.items():
            self.renewal.renew(self.channel, queue, arrivals, suspect=suspect)

    # -- giving back -------------------------------------------------------------------

    def return_unread(self) -> None:
        """Give back what came and was not handed out; not suspects."""
        attempts, sources = self.transport.attempts, self.window.sources
        data = []
        for content in list(self.channel.deliveries):
            if sources[consumer_of(content[0])][1]:
                continue
            self.channel.deliveries.remove(content)
            arrival = self._read(content, self.base, sources)
            if arrival.verdict == "move":
                # Its place is elsewhere; whoever gets it again sees that, too.
                attempts.take(arrival.queue, arrival.delivery.message)
            else:
                message, count = arrival.delivery.message, arrival.delivery.attempt - 1
                attempts.note(arrival.queue, message, count)
            data.append(give_back(self.channel.number, number_of(content[0])))
        if data:
            self.channel.send(b"".join(data))

    def sift(self) -> None:
        """Take out the suspects among what came."""
        sources = self.window.sources
        for content in list(self.channel.deliveries):
            if sources[consumer_of(content[0])][1]:
                self.channel.deliveries.remove(content)
                arrival = self._read(content, self.base, sources)
                arrival.since = monotonic()
                (self.moving if arrival.verdict == "move" else self.waiting).append(arrival)

    def return_suspects(self) -> None:
        """Have others meet the suspects that wait here.

        Raises:
            TransportError: the connection is down, or one was renewed, and what takes its
                place can't be published.
        """
        self.sift()
        self._release(list(self.waiting))
        self.waiting.clear()

    def return_all(self) -> None:
        """Give back all; nothing of it counts."""
        self.window.close_all()
        self.return_unread()
        self._release([*self.held.values()])
        self.return_suspects()

    def _release(self, arrivals: list[Arrival]) -> None:
        """Those that were not handed out count as if they were, for as long as it takes."""
        before = dict(self.held)
        self.held.update({arrival.number: arrival for arrival in arrivals})
        releases = [Settlement(each.delivery.tag, "release", counted=False) for each in arrivals]
        try:
            settle(self, releases)
        except TransportError:
            self.held = before
            raise

    # -- the end -----------------------------------------------------------------------

    def drop(self, tags: Collection[str], queues: Collection[str]) -> None:
        """Forget what came by these consumers, or from these task queues."""
        for number, arrival in list(self.held.items()):
            if arrival.consumer in tags or arrival.queue in queues:
                del self.held[number]
        for content in list(self.channel.deliveries):
            tag = consumer_of(content[0])
            if tag in tags or self.window.sources[tag][0] in queues:
                self.channel.deliveries.remove(content)

    def lost(self) -> None:
        """The connection is gone, and all that was delivered on it returns to its queues.
        What had not been handed out did not count; what is said of suspects stands in the
        broker."""
        attempts = self.transport.attempts
        for arrival in self.held.values():
            if not arrival.suspect:
                attempts.note(arrival.queue, arrival.delivery.message, arrival.delivery.attempt)
        for content in self.channel.deliveries:
            arrival = self._read(content, self.base, self.window.sources)
            if not arrival.suspect and arrival.verdict == "run":
                message, count = arrival.delivery.message, arrival.delivery.attempt - 1
                attempts.note(arrival.queue, message, count)

    def counts(self, queue: str) -> tuple[int, int]:
        """How many messages of a queue are handed out, and how many came ahead."""
        held = sum(1 for arrival in list(self.held.values()) if arrival.queue == queue)
        if self.channel.link.error is not None:
            return held, 0
        sources = self.window.sources
        ahead = sum(1 for arrival in list(self.waiting) if arrival.queue == queue)
        for content in list(self.channel.deliveries):
            ahead += sources.get(consumer_of(content[0]), ("", False))[0] == queue
        return held, ahead
