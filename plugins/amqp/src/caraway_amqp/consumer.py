"""One owner's consumer: a connection of its own, so that a broker that blocks publishers
still takes its acknowledgements.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces.transport import Consumer
from caraway.message import Delivery, Owner, Publication, Settlement, Tag
from caraway.waking import Waker
from caraway_amqp import frames
from caraway_amqp.arrivals import Arrival, Reader, again, consumer_of, number_of
from caraway_amqp.channel import Channel
from caraway_amqp.dead_letters import letter_of
from caraway_amqp.faults import MISMATCH, NOT_FOUND, ChannelClosed
from caraway_amqp.frames import acknowledge, give_back, method, short
from caraway_amqp.link import Link
from caraway_amqp.renewal import Renewal
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import derived

if TYPE_CHECKING:
    from caraway_amqp.transport import AmqpTransport

_EXACT = 4
"""Windows up to this size follow the limit exactly, larger ones in powers of two."""
_MOST = 16384
_ANSWER = 10.0
"""Seconds for the broker to end a consumer."""


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
        self._channel: Channel | None = None
        self._base = 0
        self._held: dict[int, Arrival] = {}
        self._suspects: deque[Arrival] = deque()
        self._moving: list[Arrival] = []
        self._sources: dict[str, tuple[str, bool]] = {}
        self._current: list[str] = []
        self._watched: list[str] = []
        """Tags of the consumers of suspects; `_current` are those of the queues."""
        self._renewal = Renewal(owner.id, transport.publisher)
        self._patience = transport.options.consumer_timeout / 2
        self._quorum = False
        self._stale = False
        """A consumer of a quorum queue was cancelled: what the queue had sent to it and was
        still on its way is held by the channel, and by nobody, until the channel closes."""
        self._window = 0
        self._mark = 0
        """Numbers above it came through the open window."""
        self._serial = 0
        self._deleted: set[str] = set()
        self._closed = False
        self._waker = Waker()

    # -- the connection ----------------------------------------------------------------

    def open(self, timeout: float = 0.0) -> Channel:
        """The channel, connected to if need be."""
        if self._closed:
            raise TransportError("the consumer is closed", hint="Open a new one.")
        channel = self._channel
        if channel is not None and channel.error is None and channel.link.error is None:
            return channel
        self._lost()
        self._transport.ensure(self.queues)
        self._quorum = self._transport.publisher.any_quorum(self.queues)
        name = f"caraway {self.owner.worker or 'consumer'}"
        link = self._transport.connect(timeout, name, paced=True)
        with link.lock:
            self._link = link
            if self._patience:
                link.watch(self._renew, self._patience / 4)
            return self._begin(link)

    def _begin(self, link: Link) -> Channel:
        self._channel = channel = link.channel()
        self._base = self._transport.new_base()
        channel.send(self._watch(channel))
        return channel

    def _freshen(self, channel: Channel) -> Channel:
        """A new channel in place of one that may hold what nobody can see."""
        if self._held or self._suspects or self._moving or self._current or channel.deliveries:
            return channel
        channel.close()
        self._sources.clear()
        self._watched.clear()
        self._renewal.reset()
        self._stale = False
        self._window = self._mark = 0
        return self._begin(channel.link)

    def _watch(self, channel: Channel) -> bytes:
        data = self._qos(channel, 1)
        for queue in self.queues:
            data += self._consume(channel, queue, suspect=True)
        return data

    def _lost(self) -> None:
        """The connection is gone, and all that was delivered on it returns to its queues.
        What had not been handed out did not count."""
        attempts = self._transport.attempts
        for arrival in (*self._held.values(), *self._suspects, *self._moving):
            handed = arrival.number in self._held
            attempts.note(
                arrival.queue, arrival.delivery.message, arrival.delivery.attempt - (not handed)
            )
        for arrival in self._unread():
            attempts.note(arrival.queue, arrival.delivery.message, arrival.delivery.attempt - 1)
        link, self._link, self._channel = self._link, None, None
        if link is not None and link.error is None:
            with link.lock:
                link.close()
        self._held.clear()
        self._suspects.clear()
        self._moving.clear()
        self._sources.clear()
        self._current.clear()
        self._watched.clear()
        self._renewal.reset()
        self._stale = False
        self._window = self._mark = 0

    def _unread(self) -> list[Arrival]:
        """What came and was not looked at yet."""
        if self._channel is None:
            return []
        contents = list(self._channel.deliveries)
        self._channel.deliveries.clear()
        return [
            arrival
            for arrival in (self._reader.read(each, self._base, self._sources) for each in contents)
            if arrival.verdict == "run"
        ]

    def _qos(self, channel: Channel, count: int) -> bytes:
        return method(channel.number, frames.BASIC_QOS, b"\0\0\0\0%b\0" % count.to_bytes(2, "big"))

    def _consume(self, channel: Channel, queue: str, *, suspect: bool) -> bytes:
        self._serial += 1
        tag = f"{self._serial}"
        self._sources[tag] = (queue, suspect)
        (self._watched if suspect else self._current).append(tag)
        source = derived("suspects", queue) if suspect else queue
        # 8: no answer is wanted.
        arguments = b"\0\0" + short(source) + short(tag) + b"\x08" + dump_table({})
        return method(channel.number, frames.BASIC_CONSUME, arguments)

    # -- the window --------------------------------------------------------------------

    def _open_window(self, channel: Channel, limit: int) -> None:
        """Have as many messages delivered ahead as a fetch of this limit will want."""
        wanted = limit if limit <= _EXACT else min(2 << (limit - 1).bit_length(), _MOST)
        window, mark = self._window, self._mark
        if self._held:
            # What runs takes up its part of the window, if it came through this one.
            window -= sum(1 for number in self._held if number > mark)
        if limit <= window <= (wanted if limit <= _EXACT else wanted * 2):
            return
        if self._quorum and self._window:
            if window >= limit:
                return
            # Its consumers aren't cancelled while messages flow: see `_stale`.
            more = wanted - window
            data = self._qos(channel, more)
            for queue in self.queues:
                data += self._consume(channel, queue, suspect=False)
            channel.send(data)
            self._window += more
            return
        data = self._cancel(channel) + self._qos(channel, wanted)
        for queue in self.queues:
            data += self._consume(channel, queue, suspect=False)
        channel.send(data)
        self._window = wanted
        self._mark = max(self._mark, *self._held) if self._held else self._mark

    def _cancel(self, channel: Channel, *, wait: bool = False) -> bytes:
        flag = b"\0" if wait else b"\1"
        data = b"".join(
            method(channel.number, frames.BASIC_CANCEL, short(tag) + flag) for tag in self._current
        )
        self._current.clear()
        return data

    def _renew(self) -> None:
        """Have what is held for long delivered anew: see `caraway_amqp.renewal`."""
        channel = self._channel
        if channel is None or not (self._held or self._suspects):
            return
        now = monotonic()
        due: dict[str, list[tuple[Arrival, int]]] = {}
        for arrival in (*self._held.values(), *self._suspects):
            if now - arrival.since >= self._patience:
                count = arrival.delivery.attempt - (arrival.number not in self._held)
                due.setdefault(arrival.queue, []).append((arrival, count))
        for queue, arrivals in due.items():
            self._renewal.renew(channel, queue, arrivals)

    def recede(self) -> None:
        channel, link = self._channel, self._link
        if channel is None or link is None or link.error is not None:
            return
        with link.lock:
            if not (self._window or self._watched):
                return
            try:
                # Suspects, too: one that came ahead would wait here, and it alone.
                self._close_all(channel)
                self._return_unread(channel)
                self._return_suspects(channel)
            except TransportError:
                # The connection went, and with it what was delivered ahead; or what takes
                # a suspect's place can't be published, and it stays here.
                return

    def _return_suspects(self, channel: Channel) -> None:
        """Have others meet the suspects that came here; being given back would count."""
        for content in list(channel.deliveries):
            if self._sources[consumer_of(content[0])][1]:
                channel.deliveries.remove(content)
                self._suspects.append(self._reader.read(content, self._base, self._sources))
        moved = []
        for arrival in self._suspects:
            if arrival.verdict == "run":
                home, delivery = derived("suspects", arrival.queue), arrival.delivery
                arrival.publication, arrival.extra = again(delivery, home, delivery.attempt - 1, 0)
            moved.append(arrival)
        if not moved:
            return
        self._transport.publisher.publish(
            [each.publication for each in moved if each.publication],
            extras=[each.extra for each in moved],
        )
        renewed = self._renewal.numbers
        numbers = [renewed.pop(each.number, each.number) for each in moved]
        channel.send(b"".join(acknowledge(channel.number, number) for number in numbers))
        self._suspects.clear()

    def _return_unread(self, channel: Channel) -> None:
        """Give back what came and was not handed out."""
        attempts = self._transport.attempts
        data = []
        for content in list(channel.deliveries):
            if self._sources[consumer_of(content[0])][1]:
                continue
            channel.deliveries.remove(content)
            arrival = self._reader.read(content, self._base, self._sources)
            if arrival.verdict == "move":
                # Its place is elsewhere; whoever gets it again sees that, too.
                attempts.take(arrival.queue, arrival.delivery.message)
            else:
                message, count = arrival.delivery.message, arrival.delivery.attempt - 1
                attempts.note(arrival.queue, message, count)
            data.append(give_back(channel.number, number_of(content[0])))
        if data:
            channel.send(b"".join(data))

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
        channel = self.open()
        link = channel.link
        if limit <= 0:
            return ()
        last = False
        while True:
            with link.lock:
                self._reopen(channel)
                if self._stale and not last:
                    channel = self._freshen(channel)
                if not last:
                    if not self._watched:
                        channel.send(self._watch(channel))
                    self._open_window(channel, limit)
                while len(channel.deliveries) < limit and link.read():
                    pass
                taken = self._take(channel, limit)
                if taken or last:
                    if last:
                        self._return_unread(channel)
                    return taken
                channel.check()
                left = deadline - monotonic()
                if left <= 0:
                    # What is on its way comes before the answer.  And nobody keeps a
                    # window open who may not look through it for a while.
                    last = True
                    self._close_window(channel)
                    continue
            if self._wait(link, left):
                return ()

    def _close_all(self, channel: Channel) -> None:
        """Close the window, and end the consumers of suspects."""
        self._current += self._watched
        self._watched.clear()
        self._close_window(channel)

    def _close_window(self, channel: Channel) -> None:
        # The answer to a cancel comes from the queue, by way of the channel, and so behind
        # all that the queue had sent.  Answers of the channel alone overtake deliveries.
        ended = channel.ended + len(self._current)
        self._window = 0
        self._stale = self._quorum
        channel.send(self._qos(channel, 1) + self._cancel(channel, wait=True))
        deadline = monotonic() + _ANSWER
        while channel.ended < ended:
            left = deadline - monotonic()
            if left <= 0:
                raise channel.link.fail(
                    TransportUnavailable(
                        f"{channel.link.address.shown} doesn't end a consumer in {_ANSWER:g} s",
                        hint="See its alarms and load: rabbitmqctl status.",
                    )
                )
            channel.check()
            if channel.cancelled:
                # A queue was deleted: its consumer's end isn't answered any more.
                return
            channel.link.pump(left)

    def _wait(self, link: Link, left: float) -> bool:
        """Wait for something to read; True if woken instead."""
        with link.lock:
            link.tick()
        link.wait(min(left, 1.0), also=self._waker.fileno())
        return self._waker.drain()

    def _take(self, channel: Channel, limit: int) -> list[Delivery]:
        deliveries, held, read = channel.deliveries, self._held, self._reader.read
        base, sources = self._base, self._sources
        taken: list[Delivery] = []
        now = monotonic()
        while deliveries and len(taken) < limit:
            arrival = read(deliveries.popleft(), base, sources)
            arrival.since = now
            if arrival.verdict == "move":
                self._moving.append(arrival)
            elif arrival.suspect:
                self._suspects.append(arrival)
            else:
                held[arrival.number] = arrival
                taken.append(arrival.delivery)
        if self._moving:
            try:
                self._move(channel)
            except TransportError:
                if not taken:
                    raise
        if not taken and self._suspects:
            # Alone, so that nobody is suspected for what it does.
            arrival = self._suspects.popleft()
            held[arrival.number] = arrival
            taken.append(arrival.delivery)
        return taken

    def _move(self, channel: Channel) -> None:
        """Publish what takes the place of these, then acknowledge them: killed between
        the two, a message is there twice."""
        moving = self._moving
        self._transport.publisher.publish(
            [arrival.publication for arrival in moving if arrival.publication],
            extras=[arrival.extra for arrival in moving],
        )
        channel.send(b"".join(acknowledge(channel.number, a.number) for a in moving))
        self._moving = []

    def _reopen(self, channel: Channel) -> None:
        """Queues that were deleted are made again, and what they held is no longer ours."""
        again_ = {tag for tag in channel.cancelled if tag in self._sources}
        if not again_ and not self._deleted:
            return
        gone = {self._sources[tag] for tag in again_}
        gone |= {(queue, suspect) for queue in self._deleted for suspect in (False, True)}
        self._drop(channel)
        self._watched = [tag for tag in self._watched if tag not in again_]
        channel.cancelled.clear()
        self._deleted.clear()
        names = sorted({queue for queue, _ in gone})
        for name in names:
            self._transport.publisher.forget(name)
        if not again_:
            return
        self._transport.ensure(names)
        data = b""
        if any(suspect for _, suspect in gone):
            data += self._qos(channel, 1)
            for queue, suspect in gone:
                if suspect:
                    data += self._consume(channel, queue, suspect=True)
        channel.send(data + self._cancel(channel))
        self._window = 0

    def _drop(self, channel: Channel) -> None:
        """Forget what came from queues that were deleted: from those that the broker says
        by their consumers, as one of the same name may be there again."""
        tags, queues = set(channel.cancelled), self._deleted
        for number, arrival in list(self._held.items()):
            if arrival.consumer in tags or arrival.queue in queues:
                del self._held[number]
        for content in list(channel.deliveries):
            tag = consumer_of(content[0])
            if tag in tags or self._sources[tag][0] in queues:
                channel.deliveries.remove(content)

    def deleted(self, queue: str) -> tuple[int, int]:
        """This process deleted a queue; how many of its messages were handed out here,
        and how many had come ahead."""
        counts = self.counts(queue)
        self._deleted.add(queue)
        return counts

    def counts(self, queue: str) -> tuple[int, int]:
        """How many messages of a queue are handed out, and how many came ahead."""
        held = sum(1 for arrival in list(self._held.values()) if arrival.queue == queue)
        channel, ahead = self._channel, 0
        if channel is not None and channel.link.error is None:
            ahead = sum(
                1
                for content in list(channel.deliveries)
                if self._sources.get(consumer_of(content[0]), ("", False))[0] == queue
            )
            ahead += sum(1 for arrival in list(self._suspects) if arrival.queue == queue)
        return held, ahead

    # -- settle ------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        channel, link = self._channel, self._link
        if channel is None or link is None:
            return [settlement.tag for settlement in settlements]
        with link.lock:
            try:
                link.read()
                channel.check()
            except TransportError:
                return [settlement.tag for settlement in settlements]
            if channel.cancelled or self._deleted:
                self._drop(channel)
            return self._settle(channel, settlements)

    def _settle(self, channel: Channel, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        held, base, mask = self._held, self._base, (1 << 40) - 1
        renewed = self._renewal.numbers
        fenced: list[Tag] = []
        acks: list[int] = []
        nacks: list[int] = []
        replaced: list[tuple[int, Publication, dict[str, Any]]] = []
        chosen: dict[int, Arrival] = {}
        notes: list[tuple[Arrival, int]] = []
        for settlement in settlements:
            tag = settlement.tag
            number = tag & mask if type(tag) is int and tag & ~mask == base else 0
            arrival = held.get(number)
            if arrival is None or number in chosen:
                fenced.append(tag)
                continue
            chosen[number] = arrival
            if settlement.action == "ack":
                acks.append(number)
            elif settlement.action == "reject":
                replaced.append((number, *letter_of(arrival.delivery, settlement, self._now())))
            else:
                count = arrival.delivery.attempt - (not settlement.counted)
                if settlement.delay > 0:
                    due = self._now() + settlement.delay
                    replaced.append((number, *again(arrival.delivery, arrival.queue, count, due)))
                elif arrival.suspect or number in renewed:
                    home = derived("suspects", arrival.queue) if arrival.suspect else arrival.queue
                    replaced.append((number, *again(arrival.delivery, home, count, 0.0)))
                else:
                    nacks.append(number)
                    notes.append((arrival, count))
        if replaced:
            self._transport.publisher.publish(
                [each[1] for each in replaced], extras=[each[2] for each in replaced]
            )
            acks += [each[0] for each in replaced]
        for arrival, count in notes:
            self._transport.attempts.note(arrival.queue, arrival.delivery.message, count)
        for number in chosen:
            del held[number]
        if renewed:
            acks = [renewed.pop(number, number) for number in acks]
        try:
            channel.send(self._frames(channel.number, acks, nacks))
        except TransportError:
            fenced += [base | number for number in chosen]
        return fenced

    def _frames(self, channel: int, acks: list[int], nacks: list[int]) -> bytes:
        # In order of their tags: quorum queues give back in this order.
        parts = [give_back(channel, number) for number in sorted(nacks)]
        if acks:
            acks.sort()
            still = [*self._held, *(arrival.number for arrival in self._suspects)]
            still += [arrival.number for arrival in self._moving]
            still += self._renewal.numbers.values()
            lowest = min(still, default=acks[-1] + 1)
            whole = [number for number in acks if number < lowest]
            if whole:
                parts.append(acknowledge(channel, whole[-1], multiple=True))
            parts += [acknowledge(channel, number) for number in acks[len(whole) :]]
        return b"".join(parts)

    def _now(self) -> float:
        return self._transport.clock()

    # -- the end -----------------------------------------------------------------------

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        channel, link = self._channel, self._link
        try:
            if channel is not None and link is not None and link.error is None:
                with link.lock:
                    self._give_all_back(channel)
                    link.close()
        except TransportError:
            # The broker gives all back when the connection ends.
            pass
        finally:
            self._held.clear()
            self._channel = self._link = None
            self._transport.consumers.discard(self)
            self._waker.close()

    def _give_all_back(self, channel: Channel) -> None:
        # A suspect that came while others are given back would go down with the
        # connection: as if it had killed this lane.
        self._close_all(channel)
        settlements = [
            Settlement(arrival.delivery.tag, "release", counted=False)
            for arrival in self._held.values()
        ]
        while channel.deliveries:
            arrival = self._reader.read(channel.deliveries.popleft(), self._base, self._sources)
            if arrival.verdict == "move":
                channel.send(give_back(channel.number, arrival.number))
                continue
            self._held[arrival.number] = arrival
            settlements.append(Settlement(arrival.delivery.tag, "release", counted=False))
        for arrival in self._suspects:
            self._held[arrival.number] = arrival
            settlements.append(Settlement(arrival.delivery.tag, "release", counted=False))
        self._suspects.clear()
        self._settle(channel, settlements)
