"""Remote control and events: exchanges and queues as Celery declares them.

See docs/reference/wire-format.md, "Remote control" and "Events".
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces.transport import Broadcast, Subscription
from caraway.message import Message, Notice, Topic
from caraway.waking import Waker
from caraway_amqp import frames
from caraway_amqp.channel import Channel, Content
from caraway_amqp.faults import LOCKED, MISMATCH, NOT_FOUND, ChannelClosed
from caraway_amqp.frames import content, method, publish_to, read_content, short
from caraway_amqp.link import Link
from caraway_amqp.roll import Roll
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import bind_queue, declare_exchange, declare_queue

if TYPE_CHECKING:
    from caraway_amqp.transport import AmqpTransport


def _ms(seconds: Any) -> int:
    return int(float(seconds) * 1000)


class Names:
    """How the queues of control and events are called and declared.

    Args:
        settings: those of the groups `control` and `event`.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        get = settings.get
        self.events = get("event_exchange") or "celeryev"
        self._prefix = get("event_queue_prefix") or "celeryev"
        self._events = (
            _ms(get("event_queue_ttl", 5.0)), _ms(get("event_queue_expires", 60.0)),
            bool(get("event_queue_durable", False)), bool(get("event_queue_exclusive", True)),
        )  # fmt: skip
        self._control = (
            _ms(get("control_queue_ttl", 300.0)), _ms(get("control_queue_expires", 10.0)),
            bool(get("control_queue_durable", False)), bool(get("control_queue_exclusive", True)),
        )  # fmt: skip

    def exchange(self, topic: Topic) -> bytes:
        """Arguments that declare a topic's exchange."""
        name = topic.exchange
        if name == self.events:
            return declare_exchange(name, topic.kind)
        # Those of control live as long as the broker, as Celery's; others go with their
        # last subscriber.
        return declare_exchange(
            name, topic.kind, durable=False, auto_delete=not name.endswith(".pidbox")
        )

    def queue(self, topic: Topic, name: str) -> tuple[str, dict[str, int], bool, bool]:
        """Name, arguments, durable and exclusive of the queue of a subscription whose first
        topic this is."""
        exchange = topic.exchange
        if exchange.endswith(".pidbox"):
            owner = topic.routing_key if topic.kind == "direct" else name
            queue = f"{owner or uuid.uuid4()}.{exchange}"
            ttl, expires, durable, exclusive = self._control
        else:
            prefix = self._prefix if exchange == self.events else exchange
            queue = f"{prefix}.{uuid.uuid4()}"
            ttl, expires, durable, exclusive = self._events
            if exchange != self.events:
                ttl = 0
        arguments = {"x-expires": expires}
        if ttl:
            arguments["x-message-ttl"] = ttl
        return queue, arguments, durable, exclusive


class AmqpBroadcast(Broadcast):
    """See `Broadcast`; on the publisher's connection."""

    def __init__(self, transport: AmqpTransport) -> None:
        self._transport = transport
        self._names = Names(transport.settings)
        self._known: tuple[Link | None, set[str]] = (None, set())

    def publish(self, notices: Sequence[Notice]) -> int | None:
        for tries in (1, 2):
            with self._transport.publisher.asking(10.0) as channel:
                try:
                    return self._publish(channel, notices)
                except ChannelClosed as exc:
                    # Who subscribed was the last, and the exchange went with it.
                    self._known = (None, set())
                    if exc.code != NOT_FOUND or tries == 2:
                        raise
                except TransportUnavailable:
                    if tries == 2:
                        raise
        return None

    def _publish(self, channel: Channel, notices: Sequence[Notice]) -> int | None:
        link = channel.link
        link.read()
        if link.blocked:
            raise TransportUnavailable(
                f"{link.address.shown} takes no messages just now: {link.blocked}"
            )
        if self._known[0] is not link:
            self._known = (link, set())
        known = self._known[1]
        for topic in dict.fromkeys(notice.topic for notice in notices):
            if topic.exchange not in known:
                declare(link, channel, self._names.exchange(topic))
                known.add(topic.exchange)
        number = channel.number
        try:
            written = [_content(channel, notice.message) for notice in notices]
            targets = [publish_to(number, each.topic.exchange, each.topic.routing_key)
                       for each in notices]  # fmt: skip
        except (ValueError, TypeError, OverflowError) as exc:
            raise TransportError(f"a notice can't be written: {exc}") from exc
        if len(notices) == 1 and is_request(notices[0].topic):
            return Roll(notices[0].topic.exchange).send(channel, written[0])
        data = [part for both in zip(targets, written, strict=True) for part in both]
        # What is answered after it says that the broker has routed it all.
        data.append(method(number, frames.BASIC_QOS, bytes(7)))
        channel.answer(b"".join(data), frames.BASIC_QOS_OK, timeout=10.0)
        return None

    def subscribe(self, topics: Iterable[Topic], *, name: str = "") -> AmqpSubscription:
        return AmqpSubscription(self._transport, self._names, list(topics), name)


def is_request(topic: Topic) -> bool:
    """Requests of remote control: who hears them is counted, where that can be."""
    return topic.kind == "fanout" and topic.exchange.endswith(".pidbox")


def _content(channel: Channel, message: Message) -> bytes:
    if "delivery_mode" not in message.properties:
        properties = {**message.properties, "delivery_mode": 1}
        message = Message(
            message.body,
            message.headers,
            message.content_type,
            message.content_encoding,
            properties,
        )
    return content(channel.number, message, {}, channel.link.frame_max)


def declare(link: Link, channel: Channel, exchange: bytes) -> None:
    """Declare an exchange; one that exists otherwise is used as it is."""
    try:
        channel.call(frames.EXCHANGE_DECLARE, exchange, frames.EXCHANGE_DECLARE_OK)
    except ChannelClosed as exc:
        if exc.code != MISMATCH:
            raise
        # The caller goes on with this channel.
        link.reopen(channel)


class AmqpSubscription(Subscription):
    """See `Subscription`; a connection of its own."""

    def __init__(
        self, transport: AmqpTransport, names: Names, topics: Sequence[Topic], name: str
    ) -> None:
        self._transport = transport
        self._names = names
        self._topics = topics
        self._name = name
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._closed = False
        self._waker = Waker()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> Channel:
        if self._closed:
            raise TransportError("the subscription is closed", hint="Open a new one.")
        channel = self._channel
        if channel is not None and channel.error is None and channel.link.error is None:
            return channel
        if self._link is not None:
            self._link.close()
        link = self._transport.connect(0.0, f"caraway {self._name or 'subscriber'}")
        with link.lock:
            self._link = link
            channel = link.channel()
            try:
                self._subscribe(link, channel, self._name)
            except ChannelClosed as exc:
                if exc.code != LOCKED:
                    link.close()
                    raise
                self._transport.log().warning(
                    "another node is called %r: commands to that name reach one of the two. %s",
                    self._name, "Give each worker its own name with -n.",
                )  # fmt: skip
                channel = link.channel()
                self._subscribe(link, channel, f"{self._name}.{uuid.uuid4().hex[:8]}")
        self._channel = channel
        return channel

    def _subscribe(self, link: Link, channel: Channel, name: str) -> None:
        queue, arguments, durable, exclusive = self._names.queue(self._topics[0], name)
        declared = declare_queue(
            queue, arguments, durable=durable, exclusive=exclusive, auto_delete=True
        )
        channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
        for topic in self._topics:
            declare(link, channel, self._names.exchange(topic))
            # What outlives its connection may be bound from before, and would hear all twice.
            own = is_request(topic) and exclusive and not durable
            if own and Roll(topic.exchange).enroll(channel, queue, self._transport.log()):
                continue
            key = "" if topic.kind == "fanout" else topic.routing_key
            bound = bind_queue(queue, topic.exchange, key)
            channel.call(frames.QUEUE_BIND, bound, frames.QUEUE_BIND_OK)
        # 2: no acknowledgements.
        arguments_ = b"\0\0" + short(queue) + short("") + b"\x02" + dump_table({})
        channel.call(frames.BASIC_CONSUME, arguments_, frames.BASIC_CONSUME_OK)

    def receive(self, timeout: float) -> Sequence[Notice]:
        deadline = monotonic() + timeout
        channel = self._open()
        link = channel.link
        while True:
            with link.lock:
                while link.read():
                    pass
                channel.check()
                if channel.cancelled:
                    link.close()
                    self._channel = None
                    return self.receive(max(0.0, deadline - monotonic()))
                if channel.deliveries:
                    found = [_notice(each, self._topics) for each in channel.deliveries]
                    channel.deliveries.clear()
                    return [each for each in found if each is not None]
                link.tick()
            left = deadline - monotonic()
            if left <= 0:
                return []
            link.wait(min(left, 1.0), also=self._waker.fileno())
            if self._waker.drain():
                return []

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._link is not None:
            with self._link.lock:
                self._link.close()
        self._waker.close()


def _notice(found: Content, topics: Sequence[Topic]) -> Notice | None:
    brought, header, body = found
    at = 5 + brought[4] + 9
    size = brought[at]
    exchange = brought[at + 1 : at + 1 + size].decode(errors="replace")
    at += 1 + size
    key = brought[at + 1 : at + 1 + brought[at]].decode(errors="replace")
    try:
        message, _ = read_content(header, body)
    except ValueError:
        return None
    for topic in topics:
        if is_request(topic):
            roll = Roll(topic.exchange)
            if exchange in (topic.exchange, roll.name):
                return Notice(topic, message)
            if not exchange and key == roll.name:
                return None  # the roll is no queue to write to
    kinds = [topic.kind for topic in topics if topic.exchange == exchange]
    return Notice(Topic(exchange, key, kinds[0] if kinds else "topic"), message)
