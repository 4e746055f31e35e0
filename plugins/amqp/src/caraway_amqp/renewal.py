"""Deliveries that outlast the broker's patience.

RabbitMQ closes the channel of a consumer that holds one delivery for longer than its
``consumer_timeout`` (30 minutes), and gives all its messages to others.  So a delivery
that is held for half that time is renewed: a copy goes to a queue that only this consumer
has, comes back at once as a new delivery, and then the old one is acknowledged.  At every
moment the broker has the message, and nobody else gets it while we live.

Should this process die, its copies are ready in that queue, where their time is over after
`_AFTER`: the broker moves them back to the task queue, with their attempts counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import TransportUnavailable
from caraway_amqp import frames
from caraway_amqp.arrivals import Arrival, again, consumer_of, number_of
from caraway_amqp.channel import Channel, Content
from caraway_amqp.frames import acknowledge, method, short
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import declare_queue

if TYPE_CHECKING:
    from caraway_amqp.publishing import Publisher

_AFTER = 10.0
"""Seconds after which a copy that nobody holds goes back to its task queue."""
_UNUSED = 600.0
"""Seconds after which the broker drops the queue of a consumer that is gone."""
_PATIENCE = 10.0


class Renewal:
    """Renews deliveries of one consumer's connection.

    Args:
        owner: id of the consumer's owner.
        publisher: for the copies.

    Attributes:
        numbers: of renewed deliveries: the number they were handed out with -> the
            number that they have now.
    """

    def __init__(self, owner: str, publisher: Publisher) -> None:
        self.numbers: dict[int, int] = {}
        self._owner = owner
        self._publisher = publisher
        self._queues: dict[str, str] = {}
        self._tags: set[str] = set()
        self._number = 0

    def reset(self) -> None:
        """The connection is another one."""
        self.numbers.clear()
        self._tags.clear()
        self._queues.clear()

    def renew(self, channel: Channel, queue: str, due: Sequence[tuple[Arrival, int]]) -> None:
        """Have deliveries of one queue delivered anew; the link's lock is held.

        Args:
            channel: of the consumer.
            queue: where they are from.
            due: each with how many of its attempts count so far.

        Raises:
            TransportError: the connection is or goes down; all go back to their queues.
        """
        home = self._home(channel, queue)
        made = [again(arrival.delivery, home, count, 0.0) for arrival, count in due]
        # If the queue is gone, nothing comes, and nothing is acknowledged.
        self._publisher.publish(
            [copy for copy, _ in made], extras=[extra for _, extra in made], loose=True
        )
        came = self._receive(channel, len(made))
        arrivals = [arrival for arrival, _ in due]
        old = [self.numbers.get(arrival.number, arrival.number) for arrival in arrivals]
        channel.send(b"".join(acknowledge(channel.number, number) for number in old))
        now = monotonic()
        for arrival, content in zip(arrivals, came, strict=True):
            self.numbers[arrival.number] = number_of(content[0])
            arrival.since = now

    def _home(self, channel: Channel, queue: str) -> str:
        """The queue for copies of what came from this one; consumed by us."""
        home = self._queues.get(queue)
        if home is None:
            self._number += 1
            home = f"caraway.held.{self._owner}.{self._number}"
            arguments = {
                "x-message-ttl": int(_AFTER * 1000),
                "x-expires": int(_UNUSED * 1000),
                "x-dead-letter-exchange": "",
                "x-dead-letter-routing-key": queue,
            }
            declared = declare_queue(home, arguments)
            channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
            tag = f"held{self._number}"
            # Without a window of its own; the others' stays as it is.
            channel.call(frames.BASIC_QOS, bytes(7), frames.BASIC_QOS_OK)
            consumed = b"\0\0" + short(home) + short(tag) + b"\0" + dump_table({})
            channel.call(frames.BASIC_CONSUME, consumed, frames.BASIC_CONSUME_OK)
            one = method(channel.number, frames.BASIC_QOS, b"\0\0\0\0\0\1\0")
            channel.answer(one, frames.BASIC_QOS_OK)
            self._queues[queue] = home
            self._tags.add(tag)
        return home

    def _receive(self, channel: Channel, count: int) -> list[Content]:
        """The copies, in the order in which they were sent."""
        came: list[Content] = []
        deadline = monotonic() + _PATIENCE
        while True:
            others: list[Content] = []
            while channel.deliveries:
                content = channel.deliveries.popleft()
                ours = consumer_of(content[0]) in self._tags
                (came if ours else others).append(content)
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
