"""Deliveries in whose place a copy is put while they are held: long ones, and suspects.

RabbitMQ closes the channel of a consumer that holds one delivery for longer than its
``consumer_timeout`` (30 minutes), and gives all its messages to others.  So a delivery
that is held for half that time is renewed: a copy goes to a queue that only this consumer
has, comes back at once as a new delivery, and then the old one is acknowledged.  At every
moment the broker has the message, and nobody else gets it while we live.

A suspect is renewed before it begins to run, by a copy in which this run is counted.

Should this process die, its copies are ready in that queue, where their time is over: the
broker moves them back to the task queue, or to that of suspects, with their attempts counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import TransportError, TransportUnavailable
from caraway_amqp import frames
from caraway_amqp.arrivals import Arrival, again, consumer_of, number_of
from caraway_amqp.channel import Channel, Content
from caraway_amqp.frames import acknowledge, method, short
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import declare_queue, derived

if TYPE_CHECKING:
    from caraway_amqp.publishing import Publisher

_AFTER = 10.0
"""Seconds after which a copy that nobody holds goes back to its task queue."""
_SUSPECT_AFTER = 1.0
"""Likewise for suspects, which may not last long."""
_UNUSED = 600.0
"""Seconds after which the broker drops the queue of a consumer that is gone."""
_PATIENCE = 10.0
_TAG = "held"
_numbers = itertools.count(1)


class Renewal:
    """Renews deliveries of one consumer's connection.

    Args:
        owner: id of the consumer's owner.
        publisher: for the copies.
        sources: see `Window.sources`; what consumes copies is added.

    Attributes:
        numbers: of renewed deliveries: the number they were handed out with -> the
            number that they have now.
    """

    def __init__(
        self, owner: str, publisher: Publisher, sources: dict[str, tuple[str, bool]]
    ) -> None:
        self.numbers: dict[int, int] = {}
        self._owner = owner
        self._publisher = publisher
        self._sources = sources
        self._homes: dict[tuple[str, bool], tuple[str, str]] = {}

    def renew(
        self,
        channel: Channel,
        queue: str,
        due: Sequence[tuple[Arrival, int]],
        *,
        suspect: bool,
        timeout: float = 5.0,
    ) -> None:
        """Have deliveries of one queue delivered anew; the link's lock is held.

        Args:
            channel: of the consumer.
            queue: the task queue they are from.
            due: each with how many of its attempts count so far.
            suspect: they are suspects of that queue.
            timeout: seconds to publish the copies.

        Raises:
            TransportError: the connection is or goes down, and all go back to their queues;
                or the copies can't be published, and nothing has changed.
        """
        home, tag = self._home(channel, queue, suspect=suspect)
        made = [again(arrival, home, count, 0.0) for arrival, count in due]
        try:
            # If the queue is gone, nothing comes, and nothing is acknowledged.
            self._publisher.publish(
                [copy for copy, _ in made],
                extras=[extra for _, extra in made],
                timeout=timeout,
                loose=True,
            )
        except TransportError:
            # Maybe they come all the same: then as deliveries like any other.
            del self._homes[queue, suspect]
            raise
        came = self._receive(channel, len(made), tag)
        arrivals = [arrival for arrival, _ in due]
        old = [self.numbers.get(arrival.number, arrival.number) for arrival in arrivals]
        data = b"".join(acknowledge(channel.number, number) for number in old)
        # What is answered after them says that they were taken: what runs next may kill us.
        source = derived("suspects", queue) if suspect else queue
        data += method(
            channel.number, frames.QUEUE_DECLARE, declare_queue(source, {}, passive=True)
        )
        channel.answer(data, frames.QUEUE_DECLARE_OK)
        now = monotonic()
        for arrival, content in zip(arrivals, came, strict=True):
            self.numbers[arrival.number] = number_of(content[0])
            arrival.since = now

    def forget(self, tags: set[str]) -> set[str]:
        """These consumers were ended by the broker; returns those that aren't of copies."""
        for key, (_, tag) in list(self._homes.items()):
            if tag in tags:
                del self._homes[key]
        return {tag for tag in tags if not tag.startswith(_TAG)}

    def _home(self, channel: Channel, queue: str, *, suspect: bool) -> tuple[str, str]:
        """The queue for copies of what came from this one, and the tag of its consumer."""
        found = self._homes.get((queue, suspect))
        if found is None:
            number = next(_numbers)
            home, tag = f"caraway.held.{self._owner}.{number}", f"{_TAG}{number}"
            arguments = {
                "x-message-ttl": int((_SUSPECT_AFTER if suspect else _AFTER) * 1000),
                "x-expires": int(_UNUSED * 1000),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": derived("suspects", queue) if suspect else queue,
            }
            declared = declare_queue(home, arguments)
            channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
            self._sources[tag] = (queue, suspect)
            # Without a window of its own; the others' stays as it is.
            consumed = b"\0\0" + short(home) + short(tag) + b"\0" + dump_table({})
            data = _qos(channel, 0) + method(channel.number, frames.BASIC_CONSUME, consumed)
            channel.answer(data + _qos(channel, 1), frames.BASIC_CONSUME_OK)
            found = self._homes[queue, suspect] = home, tag
        return found

    def _receive(self, channel: Channel, count: int, tag: str) -> list[Content]:
        """The copies, in the order in which they were sent."""
        came: list[Content] = []
        deadline = monotonic() + _PATIENCE
        while True:
            others: list[Content] = []
            while channel.deliveries:
                content = channel.deliveries.popleft()
                (came if consumer_of(content[0]) == tag else others).append(content)
            channel.deliveries.extend(others)
            if len(came) >= count:
                return came
            channel.check()
            left = deadline - monotonic()
            if left <= 0:
                raise channel.link.fail(
                    TransportUnavailable(
                        f"{channel.link.address.shown} doesn't deliver what was sent to it",
                        hint="See its alarms and load: rabbitmqctl status.",
                    )
                )
            channel.link.pump(left)


def _qos(channel: Channel, count: int) -> bytes:
    return method(channel.number, frames.BASIC_QOS, b"\0\0\0\0\0%c\0" % count)
