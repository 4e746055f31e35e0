"""Remote control and events, as kombu carries them on Redis.

Fanout and topic exchanges are channels; a direct exchange (replies) leads to lists, by a
table of bindings.  See docs/reference/wire-format.md, "Redis".
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import OperationalError, TransportError
from caraway.interfaces.transport import Broadcast, Subscription
from caraway.message import Message, Notice, Topic
from caraway.protocol.envelope import decode, encode, message_of
from caraway.routing import listens
from caraway.waking import Waker, readable
from caraway_redis.wires import Script, Wire, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link
    from caraway_redis.keys import Keys

BIND = Script("bind")
UNBIND = Script("unbind")
_REPLIES_TTL = 600
"""Seconds after which a list of replies that nobody reads ends."""
_BLOCK = 30.0
"""Seconds for which one wait for replies lasts before it is sent anew."""
_PATIENCE = 5.0
"""Seconds for an answer that must be on its way."""


def channel(link: Link, topic: Topic) -> str:
    """The channel of a topic; of a pattern the pattern."""
    options = link.options
    prefix = options.fanout_prefix
    begin = ""
    if prefix is True or prefix in ("true", "True", "1"):
        begin = f"/{link.db}."
    elif isinstance(prefix, str) and prefix not in ("false", "False", "0", ""):
        begin = prefix.format(db=link.db)
    name = options.global_keyprefix + begin + topic.exchange
    if options.fanout_patterns and topic.routing_key:
        name += "/" + topic.routing_key.replace("#", "*")
    return name


def _publish(name: bytes, payload: bytes) -> bytes:
    """The command, packed here: hiredis takes ten times as long for what is large, as the
    events of a batch of tasks are."""
    return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (
        len(name), name, len(payload), payload,
    )  # fmt: skip


class RedisBroadcast(Broadcast):
    """The channels of one database."""

    def __init__(self, link: Link, keys: Keys) -> None:
        self._link = link
        self._keys = keys
        self._begin = os.urandom(8).hex() + "-"
        self._count = 0

    def publish(self, notices: Sequence[Notice]) -> int:
        packed = []
        heard = []  # where in the answers it stands how many heard
        reached = 0
        for notice in notices:
            topic = notice.topic
            self._count += 1
            tag = self._begin + str(self._count)
            payload = encode(notice.message, tag, topic.exchange, topic.routing_key)
            if topic.kind == "direct":
                for queue in self._bound(topic):
                    reached += 1
                    packed.append(pack("LPUSH", self._keys.prefix + queue, payload))
                    packed.append(pack("EXPIRE", self._keys.prefix + queue, _REPLIES_TTL))
            else:
                heard.append(len(packed))
                packed.append(_publish(channel(self._link, topic).encode(), payload))
        if not packed:
            return 0
        answers = self._link.exchange(b"".join(packed), len(packed))
        return reached + sum(int(answers[at]) for at in heard)

    def _bound(self, topic: Topic) -> list[str]:
        sep = self._keys.sep
        queues = []
        for member in self._link.call("SMEMBERS", self._keys.binding + topic.exchange):
            key, _, queue = member.decode(errors="replace").split(sep)[:3]
            if key == topic.routing_key:
                queues.append(queue)
        return queues

    def subscribe(
        self,
        topics: Iterable[Topic],
        *,
        name: str = "",  # noqa: ARG002 - channels have no subscriber's name
    ) -> RedisSubscription:
        return RedisSubscription(self._link, self._keys, tuple(topics))


class RedisSubscription(Subscription):
    """Channels by a connection that subscribed, lists by one that pops."""

    def __init__(self, link: Link, keys: Keys, topics: tuple[Topic, ...]) -> None:
        self._link = link
        self._keys = keys
        self._patterns = {channel(link, topic): topic for topic in topics if topic.kind != "direct"}
        self._lists = {
            f"{keys.prefix}{topic.routing_key}.{topic.exchange}": topic
            for topic in topics
            if topic.kind == "direct"
        }
        self._channels: Wire | None = None
        self._popper: Wire | None = None
        self._popping = False
        # When each was heard of last, and since when it owes us an answer.
        self._heard = self._asked = self._popped_at = 0.0
        self._backlog: deque[Notice] = deque()
        self._waker = Waker()
        self._closed = False
        self._refreshed = 0.0
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    # -- connections -------------------------------------------------------------------

    def _connect(self) -> None:
        self._link.check()
        if self._lists and monotonic() - self._refreshed > _REPLIES_TTL / 3:
            self._bind()
        self._look_after()
        if self._patterns and self._channels is None:
            wire = self._link.wire()
            wire.send(pack("PSUBSCRIBE", *self._patterns), _PATIENCE)
            for _ in self._patterns:
                answer = wire.read(_PATIENCE)
                if isinstance(answer, Exception):
                    raise wire.broken(answer) from answer
                self._keep(answer)
            self._channels = wire
            self._heard, self._asked = monotonic(), 0.0
        if self._lists and self._popper is None:
            self._popper = self._link.wire()
            self._popping = False
        if self._popper is not None and not self._popping:
            self._popper.send(pack("BRPOP", *self._lists, _BLOCK), _PATIENCE)
            self._popping = True
            self._popped_at = monotonic()

    def _look_after(self) -> None:
        """See that no connection is half-open: it would say nothing for ever.

        Raises:
            OperationalError: one was; it is made anew with the next call.
        """
        now = monotonic()
        every = self._link.options.health_check_interval
        wire = self._channels
        if wire is not None:
            if self._asked and now - self._asked > _PATIENCE:
                self._channels = None
                raise wire.broken(TimeoutError("timed out"))
            if not self._asked and 0 < every < now - self._heard:
                self._asked = now
                try:
                    wire.send(pack("PING"), _PATIENCE)
                except OperationalError:
                    self._channels = None
                    raise
        wire = self._popper
        if wire is not None and self._popping and now - self._popped_at > _BLOCK + _PATIENCE:
            self._popper = None
            raise wire.broken(TimeoutError("timed out"))

    def _bind(self) -> None:
        """Have replies led to our lists, for a while, as kombu has it for queues that
        expire."""
        for topic in self._lists.values():
            queue = f"{topic.routing_key}.{topic.exchange}"
            member = self._keys.member(queue, topic.routing_key)
            self._link.run(
                BIND,
                (self._keys.binding + topic.exchange, self._keys.deadlines),
                (member, topic.exchange, 3_600_000),
            )
        self._refreshed = monotonic()

    def receive(self, timeout: float) -> Sequence[Notice]:
        if self._closed:
            raise TransportError("this subscription is closed", hint="Subscribe again.")
        end = monotonic() + timeout
        while True:
            self._connect()
            if self._backlog or self._read(max(0.0, min(end - monotonic(), _PATIENCE))):
                notices = list(self._backlog)
                self._backlog.clear()
                return notices
            if monotonic() >= end:
                return ()

    def _read(self, wait: float) -> bool:
        """Read what is there, waiting for the first; True to return early."""
        wires = {wire.fileno(): wire for wire in (self._channels, self._popper) if wire}
        if any(wire.buffered() for wire in wires.values()):
            wait = 0.0
        wakes = self._waker.fileno()
        ready = readable((wakes, *wires), wait)
        woken = wakes in ready
        if woken:
            self._waker.drain()
        for number, wire in wires.items():
            if number in ready or wire.buffered():
                self._take(wire)
        return woken or bool(self._backlog)

    def _take(self, wire: Wire) -> None:
        try:
            answer = wire.read(_PATIENCE)
            while True:
                if isinstance(answer, Exception):
                    raise wire.broken(answer) from answer
                if wire is self._popper:
                    self._popping = False
                    self._popped(answer)
                    return
                self._heard, self._asked = monotonic(), 0.0
                self._keep(answer)
                if not wire.buffered():
                    return
                answer = wire.read(_PATIENCE)
        except OperationalError:
            if wire is self._popper:
                self._popper = None
            else:
                self._channels = None
            wire.close()
            raise

    def _popped(self, answer: Any) -> None:
        if not answer:
            return
        topic = self._lists.get(answer[0].decode())
        if topic is not None:
            self._add(topic, answer[1], exact=True)

    def _keep(self, answer: Any) -> None:
        if len(answer) != 4 or answer[0] != b"pmessage":
            return
        topic = self._patterns.get(answer[1].decode())
        if topic is not None:
            self._add(topic, answer[3], exact=False)

    def _add(self, pattern: Topic, payload: bytes, *, exact: bool) -> None:
        try:
            envelope = decode(payload)
            info = envelope.properties.get("delivery_info")
            key = info.get("routing_key") if isinstance(info, dict) else ""
            message: Message = message_of(envelope)
        except (ValueError, TypeError, AttributeError) as exc:
            import logging

            logging.getLogger("caraway.transport.redis").warning(
                "%s: a broadcast that can't be read: %s", pattern.exchange, exc
            )
            return
        topic = Topic(pattern.exchange, key if isinstance(key, str) else "", pattern.kind)
        # Redis' patterns match more than AMQP's.
        if exact or listens(pattern, topic):
            self._backlog.append(Notice(topic, message))

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.wake()
        for wire in (self._channels, self._popper):
            if wire is not None:
                wire.close()
        self._channels = self._popper = None
        try:
            self._unbind()
        except OperationalError:
            pass  # they end by themselves
        finally:
            self._waker.close()

    def _unbind(self) -> None:
        for name, topic in self._lists.items():
            queue = f"{topic.routing_key}.{topic.exchange}"
            member = self._keys.member(queue, topic.routing_key)
            self._link.run(
                UNBIND,
                (self._keys.binding + topic.exchange, self._keys.deadlines, name),
                (member, topic.exchange),
            )
