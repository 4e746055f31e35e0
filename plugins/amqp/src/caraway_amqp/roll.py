r"""Who hears a request of remote control, on a broker that lists no bindings.

AMQP tells two things: whether a message went anywhere (``mandatory``), and how many consume
a queue.  So our workers hear requests through an exchange of their own, which Celery's leads
to, and each consumes a queue that nobody writes to, the roll::

    celery.pidbox ---> caraway.listeners.celery.pidbox ---> queues of Caraway's workers
        \--> queues of Celery's workers

What Celery's clients send reaches both kinds.  Ours send a request twice: to our exchange,
and to Celery's with a routing key that ours has no binding for; Celery's, being a fanout,
doesn't look at keys.  If the second comes back, none but workers of ours listen, and the
roll says how many.  If it doesn't, nobody can say.

A worker is on the roll before it hears anything, and leaves it with the very connection
that its queue dies with: never do more listen than are counted.  One that can't be on the
roll is bound to Celery's exchange, and is one of those that nobody can count.
"""

from __future__ import annotations

from typing import Any

from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.faults import ChannelClosed
from caraway_amqp.frames import method, publish_to, short
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import (
    bind_exchange,
    bind_queue,
    declare_exchange,
    declare_queue,
    derived,
)

NEEDED = "exchange_exchange_bindings"
"""What the broker must be able to do."""
PASSED = ("", "*", "*.*")
"""Keys that lead from Celery's exchange to our workers.  Celery's clients send without one."""
ASIDE = "caraway.knows.others"
"""A key that doesn't."""
# Shared and lasting, since brokers give up queues that are neither lasting nor somebody's;
# it goes a minute after the last worker.
_ROLL = {"x-expires": 60_000, "x-queue-type": "classic"}


class Roll:
    """Those who hear what is sent to one exchange of requests.

    Args:
        exchange: Celery's.

    Attributes:
        name: of our exchange and of the queue that is the roll.
    """

    __slots__ = ("exchange", "name")

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.name = derived("listeners", exchange)

    # -- who listens -------------------------------------------------------------------

    def enroll(self, channel: Channel, queue: str, log: Any) -> bool:
        """Have a queue hear requests, and be counted for as long as this channel is open.

        Args:
            channel: on which nothing is consumed yet.
            queue: declared, and bound to nothing.
            log: for what the broker refuses.

        Returns:
            False if that can't be; the queue is bound to nothing.

        Raises:
            TransportError: the broker went away, or what was just made.
        """
        if NEEDED not in channel.link.able:
            return False
        first, *others = [bind_queue(queue, self.name, key) for key in PASSED]
        try:
            declared = declare_exchange(self.name, "topic", durable=False)
            channel.call(frames.EXCHANGE_DECLARE, declared, frames.EXCHANGE_DECLARE_OK)
            bound = bind_exchange(self.name, self.exchange, "")
            channel.call(frames.EXCHANGE_BIND, bound, frames.EXCHANGE_BIND_OK)
            channel.call(
                frames.QUEUE_DECLARE, declare_queue(self.name, _ROLL), frames.QUEUE_DECLARE_OK
            )
            # 2: no acknowledgements.
            consumed = b"\0\0" + short(self.name) + short("") + b"\x02" + dump_table({})
            channel.call(frames.BASIC_CONSUME, consumed, frames.BASIC_CONSUME_OK)
            channel.call(frames.QUEUE_BIND, first, frames.QUEUE_BIND_OK)
        except ChannelClosed as exc:
            log.info(
                "rounds of remote control will last their whole timeout: this worker can't be "
                "counted. %s. %s", exc, exc.hint,
            )  # fmt: skip
            channel.link.reopen(channel)
            return False
        for each in others:
            channel.call(frames.QUEUE_BIND, each, frames.QUEUE_BIND_OK)
        return True

    # -- who asks ----------------------------------------------------------------------

    def send(self, channel: Channel, content: bytes) -> int | None:
        """Send a request to all who listen.

        Args:
            channel: for asking; open afterwards.
            content: frames of the request's properties and body.

        Returns:
            How many heard it; None if somebody did who can't be counted.

        Raises:
            TransportError: not sent, or the broker went away.
        """
        before = self._count(channel)
        if before:
            try:
                return self._send_apart(channel, content, before)
            except ChannelClosed as exc:
                if f"exchange '{self.name}'" not in exc.text:
                    raise
                # It was refused before anybody heard it.
                channel.link.reopen(channel)
        data = publish_to(channel.number, self.exchange, "", mandatory=True) + content
        # What is answered after it says that the broker has routed it all.
        last = method(channel.number, frames.BASIC_QOS, bytes(7))
        returned, _ = self._returned(channel, data, last, frames.BASIC_QOS_OK)
        return 0 if self.exchange in returned else None

    def _send_apart(self, channel: Channel, content: bytes, before: int) -> int | None:
        data = publish_to(channel.number, self.name, "", mandatory=True) + content
        data += publish_to(channel.number, self.exchange, ASIDE, mandatory=True) + content
        counted = method(channel.number, frames.QUEUE_DECLARE, self._asked())
        try:
            returned, answer = self._returned(channel, data, counted, frames.QUEUE_DECLARE_OK)
        except ChannelClosed as exc:
            if f"queue '{self.name}'" not in exc.text:
                raise
            # All was sent, but the roll is gone.
            channel.link.reopen(channel)
            return None
        if self.exchange not in returned:
            return None
        # Who came in between is counted now, and who answered and went was counted then.
        return 0 if self.name in returned else max(before, _consumers(answer))

    def _count(self, channel: Channel) -> int:
        """How many are on the roll; 0 also if there is none, or none for us to see."""
        try:
            return _consumers(
                channel.call(frames.QUEUE_DECLARE, self._asked(), frames.QUEUE_DECLARE_OK)
            )
        except ChannelClosed:
            channel.link.reopen(channel)
            return 0

    def _asked(self) -> bytes:
        return declare_queue(self.name, {}, passive=True)

    def _returned(
        self, channel: Channel, data: bytes, last: bytes, answer: tuple[int, int]
    ) -> tuple[set[str], bytes]:
        """Send; the exchanges of which something came back before the last was answered,
        and that answer."""
        channel.returned.clear()
        _, payload = channel.answer(data + last, answer, timeout=10.0)
        found = {_exchange(each[0]) for each in channel.returned}
        channel.returned.clear()
        return found, payload


def _consumers(payload: bytes) -> int:
    """Of a ``queue.declare-ok``."""
    return int.from_bytes(payload[-4:], "big")


def _exchange(payload: bytes) -> str:
    """Of a ``basic.return``."""
    at = 7 + payload[6]
    return payload[at + 1 : at + 1 + payload[at]].decode(errors="replace")
