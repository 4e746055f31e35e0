"""Remote control and events: exchanges and queues as Celery declares them.

See docs/reference/wire-format.md, "Remote control" and "Events".
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from threading import Event, RLock
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError, TransportError
from caraway.interfaces.transport import Broadcast, Subscription
from caraway.message import Message, Notice, Topic
from caraway.routing import listens
from caraway_kombu.marks import find

if TYPE_CHECKING:
    from caraway_kombu.link import Link
    from caraway_kombu.transport import KombuTransport

dumps: Any = import_module("kombu.utils.json").dumps
_SLICE = (0.01, 0.2)
"""Seconds that kombu is let wait at a time, at first and at most: it can't be woken."""


class Names:
    """How exchanges and queues of control and events are called and declared.

    Args:
        settings: those of the groups `control` and `event`.
        events: the type that Celery gives the exchange of events on this transport.
    """

    def __init__(self, settings: Mapping[str, Any], events: str) -> None:
        get = settings.get
        self.events = get("event_exchange") or "celeryev"
        self._events_type = events
        self._prefix = get("event_queue_prefix") or "celeryev"
        self._events_queue = {
            "durable": bool(get("event_queue_durable", False)),
            "exclusive": bool(get("event_queue_exclusive", True)),
        }
        self._events_times = (get("event_queue_ttl", 5.0), get("event_queue_expires", 60.0))
        self._control_queue = {
            "durable": bool(get("control_queue_durable", False)),
            "exclusive": bool(get("control_queue_exclusive", True)),
        }
        self._control_times = (get("control_queue_ttl", 300.0), get("control_queue_expires", 10.0))

    def kind(self, topic: Topic) -> str:
        """The type of a topic's exchange."""
        return self._events_type if topic.exchange == self.events else topic.kind

    def declare_exchange(self, channel: Any, topic: Topic) -> None:
        """Create a topic's exchange; one that is there otherwise is used as it is."""
        name = topic.exchange
        events = name == self.events
        try:
            channel.exchange_declare(
                exchange=name, type=self.kind(topic), durable=events,
                auto_delete=not events and not name.endswith(".pidbox"),
            )  # fmt: skip
        except Exception as exc:
            if type(exc).__name__ != "NotEquivalentError":
                raise

    def declare_queue(self, channel: Any, topic: Topic, name: str) -> str:
        """Create the queue of a subscription; return its name."""
        exchange = topic.exchange
        if exchange.endswith(".pidbox"):
            owner = topic.routing_key if topic.kind == "direct" else name
            queue = f"{owner or uuid.uuid4()}.{exchange}"
            options, (ttl, expires) = self._control_queue, self._control_times
        else:
            prefix = self._prefix if exchange == self.events else exchange
            queue = f"{prefix}.{uuid.uuid4()}"
            options, (ttl, expires) = self._events_queue, self._events_times
        arguments: dict[str, Any] = {}
        if expires:
            arguments["x-expires"] = int(float(expires) * 1000)
        if ttl and (exchange == self.events or exchange.endswith(".pidbox")):
            arguments["x-message-ttl"] = int(float(ttl) * 1000)
        channel.queue_declare(queue=queue, auto_delete=True, arguments=arguments, **options)
        return queue


@contextmanager
def _as_published(channel: Any, exchange: str) -> Iterator[list[int]]:
    """Redis says who got what is published; kombu doesn't pass it on."""
    del exchange
    reached: list[int] = []

    def put(exchange: str, message: Any, routing_key: str, **_: Any) -> None:
        topics, text = channel._get_publish_topics(exchange, routing_key), dumps(message)
        with channel.conn_or_acquire() as client:
            reached.append(sum(client.publish(topic, text) for topic in topics))

    if not hasattr(channel, "_get_publish_topics"):
        yield reached
        return
    channel._put_fanout = put
    try:
        yield reached
    finally:
        del channel._put_fanout


@contextmanager
def _as_bound(channel: Any, exchange: str) -> Iterator[list[int]]:
    """Queues of a table that all share; of those that are gone, too."""

    def count() -> int:
        return len({row[2] for row in channel.get_table(exchange)})

    reached = [count()]
    yield reached
    reached.append(count())


_COUNTED = {"redis": _as_published, "sentinel": _as_published, "filesystem": _as_bound}
"""By transport, what tells who was reached while it is open.  Of the others it isn't proven
that their tables have everybody."""


class KombuBroadcast(Broadcast):
    """See `Broadcast`; on the publisher's connection."""

    def __init__(self, transport: KombuTransport) -> None:
        self._transport = transport
        settings = transport.context.settings
        self._names = Names(settings, transport.address.facts.events)
        self._known: tuple[int, set[str]] = (0, set())

    def publish(self, notices: Sequence[Notice]) -> int | None:
        return self._transport.exchange(lambda link: self._publish(link, notices), 10.0)

    def _publish(self, link: Link, notices: Sequence[Notice]) -> int | None:
        for tries in (1, 2):
            try:
                total: int | None = 0
                for notice in notices:
                    reached = self._put(link, notice)
                    total = None if total is None or reached is None else total + reached
                return total
            except Exception as exc:
                link.close()
                # The exchange may have gone with its last subscriber.
                if tries == 2:
                    raise link.fault(exc) from exc
        return None

    def _put(self, link: Link, notice: Notice) -> int | None:
        """Publish one; return how many were reached, where that can be told of a request."""
        channel = link.channel()
        if self._known[0] != link.generation:
            self._known = (link.generation, set())
        topic = notice.topic
        if topic.exchange not in self._known[1]:
            self._names.declare_exchange(channel, topic)
            self._known[1].add(topic.exchange)
        message = notice.message
        properties = message.properties
        if "delivery_mode" not in properties:
            message = Message(
                message.body, message.headers, message.content_type, message.content_encoding,
                {**properties, "delivery_mode": 1},
            )  # fmt: skip
        counted = None
        if topic.kind == "fanout" and topic.exchange.endswith(".pidbox"):
            counted = _COUNTED.get(self._transport.address.facts.scheme)
        if counted is None:
            link.put(message, {}, topic.routing_key, topic.exchange)
            return None
        with counted(channel, topic.exchange) as reached:
            link.put(message, {}, topic.routing_key, topic.exchange)
        return max(reached, default=None)

    def subscribe(self, topics: Iterable[Topic], *, name: str = "") -> KombuSubscription:
        return KombuSubscription(self._transport, self._names, tuple(topics), name)


class KombuSubscription(Subscription):
    """See `Subscription`; a connection of its own, which waits in short slices."""

    def __init__(
        self, transport: KombuTransport, names: Names, topics: tuple[Topic, ...], name: str
    ) -> None:
        self._names = names
        self._topics = topics
        self._name = name
        self._link = transport.connect()
        self._queues: list[str] = []
        self._unread: deque[Notice] = deque()
        self._generation = 0
        self._woken = Event()
        self._lock = RLock()
        self._closed = False
        try:
            self._open()
        except BaseException as exc:
            self.close()
            if isinstance(exc, Exception):
                raise self._link.fault(exc) from exc
            raise

    def _open(self) -> None:
        if self._closed:
            raise TransportError("the subscription is closed", hint="Open a new one.")
        link = self._link
        if link.opened and self._generation == link.generation:
            return
        channel = link.channel()
        self._queues = []
        for group in self._groups():
            queue = self._names.declare_queue(channel, group[0], self._name)
            self._queues.append(queue)
            for topic in group:
                self._names.declare_exchange(channel, topic)
                fanout = topic.kind == "fanout"
                channel.queue_bind(
                    queue=queue, exchange=topic.exchange,
                    routing_key="" if fanout else topic.routing_key,
                )  # fmt: skip
            channel.basic_consume(
                queue=queue, no_ack=True, callback=self._keep, consumer_tag=str(uuid.uuid4())
            )
        self._generation = link.generation
        if getattr(channel, "subclient", None) is not None:
            # kombu subscribes to Redis's channels when it first waits; what is published
            # before the answer to that has come would be missed.
            link.drain(0.05)

    def _groups(self) -> list[list[Topic]]:
        """Topics of one exchange share a queue, and so their order; a queue on a fanout
        exchange has but one binding on some transports."""
        groups: dict[object, list[Topic]] = {}
        for topic in self._topics:
            kind = self._names.kind(topic)
            key = topic if kind == "fanout" else (topic.exchange, kind)
            groups.setdefault(key, []).append(topic)
        return list(groups.values())

    def _keep(self, raw: Any) -> None:
        message = self._link.channel().message_to_python(raw)
        found = find(message).message
        info = message.delivery_info if isinstance(message.delivery_info, dict) else {}
        exchange, key = str(info.get("exchange", "")), str(info.get("routing_key") or "")
        kinds = [each.kind for each in self._topics if each.exchange == exchange]
        topic = Topic(exchange, key, kinds[0] if kinds else "topic")
        if any(listens(wanted, topic) for wanted in self._topics):
            self._unread.append(Notice(topic, found))

    def receive(self, timeout: float) -> Sequence[Notice]:
        deadline = monotonic() + timeout
        pause, longest = _SLICE
        while True:
            left = deadline - monotonic()
            with self._lock:
                self._reopen()
                # Zero is no wait at all for AMQP, and for ever for others.
                self._link.drain(max(0.001, min(left, pause)))
                if self._unread:
                    self._more()
                    found = list(self._unread)
                    self._unread.clear()
                    return found
            if self._woken.is_set():
                self._woken.clear()
                return ()
            if left <= 0:
                return ()
            pause = min(pause * 1.5, longest)

    def _reopen(self) -> None:
        try:
            self._open()
        except CarawayError:
            raise
        except Exception as exc:
            self._link.close()
            raise self._link.fault(exc) from exc

    def _more(self) -> None:
        """What else is there already: kombu hands over one at a time."""
        for _ in range(1000):
            before = len(self._unread)
            self._link.drain(0.001)
            if len(self._unread) == before:
                return

    def wake(self) -> None:
        self._woken.set()

    def close(self) -> None:
        self._woken.set()
        with self._lock:
            if self._closed:
                return
            self._closed = True
            try:
                if self._link.opened:
                    for queue in self._queues:
                        self._link.delete(queue)
            except CarawayError:
                return  # it expires
            finally:
                self._link.close()
