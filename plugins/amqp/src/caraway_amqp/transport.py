"""The broker in RabbitMQ."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caraway.errors import TransportError
from caraway.interfaces.context import Capability
from caraway.interfaces.transport import Transport
from caraway.message import DeadLetter, Owner, Publication, Queue, QueueStats
from caraway_amqp import frames, topology
from caraway_amqp.attempts import attempts_of
from caraway_amqp.consumer import AmqpConsumer
from caraway_amqp.dead_letters import Cemetery
from caraway_amqp.faults import NOT_FOUND, ChannelClosed
from caraway_amqp.frames import short
from caraway_amqp.link import Link
from caraway_amqp.options import read_address, read_options
from caraway_amqp.publishing import Publisher
from caraway_amqp.topology import LEVELS, Shapes, derived, rung_queue

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url
    from caraway_amqp.broadcast import AmqpBroadcast

_here: weakref.WeakSet[AmqpConsumer] = weakref.WeakSet()
"""Consumers of this process: AMQP doesn't tell what is held."""


class AmqpTransport(Transport):
    """Queues in a RabbitMQ, as Celery declares them.

    Args:
        url: ``amqp://``, ``pyamqp://`` or ``amqps://``; see docs/how-to/rabbitmq.md.
        options: see `caraway_amqp.options.Options`.
        context: its settings of the groups `broker` and `task` are read.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
    """

    capabilities = frozenset(
        {
            Capability.DELAY,
            Capability.EXPIRY,
            Capability.BROADCAST,
            Capability.DEAD_LETTERS,
            Capability.PERSISTENT,
            Capability.SHARED,
        }
    )

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        self.options = read_options(url, options)
        self.address = read_address(url, self.options, context)
        self.settings = context.settings
        self.clock = context.clock
        self.attempts = attempts_of(self.address.place)
        self.consumers: set[AmqpConsumer] = set()
        self._context = context
        self._node = context.node
        self._bases = itertools.count(1)
        self._closed = False
        self.publisher = Publisher(
            lambda left: self.connect(left, f"caraway {self._node or 'client'}"),
            Shapes(context.settings),
            context.clock,
            self.log,
        )
        if context.settings.get("task_queue_max_priority"):
            # Of this one: only queues that are declared so have priorities.
            self.capabilities = self.capabilities | {Capability.PRIORITY}  # type: ignore[misc]
        self._cemetery = Cemetery(lambda: self.connect(0.0, "caraway dead letters"), self.publisher)

    def log(self) -> Any:
        """For warnings."""
        return self._context.logger.getChild("transport.amqp")

    def connect(self, timeout: float, name: str, *, paced: bool = False) -> Link:
        """Open a connection.

        Args:
            timeout: most seconds; 0 is as configured.
            name: for the broker's management pages.
            paced: see `Link`.

        Raises:
            TransportError: it can't be.
        """
        if self._closed:
            raise TransportError("the transport is closed", hint="Open a new one.")
        most = self.address.timeout
        return Link(self.address, name, min(timeout, most) if timeout > 0 else most, paced=paced)

    def new_base(self) -> int:
        """What the tags of one more connection begin with."""
        return next(self._bases) << 40

    # -- messages ----------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        self.publisher.publish(publications, timeout=timeout, alone=self.alone)

    def consume(self, queues: Sequence[Queue], owner: Owner) -> AmqpConsumer:
        names = list(dict.fromkeys(queue.name for queue in queues))
        for queue in queues:
            self.publisher.queues[queue.name] = queue
        consumer = AmqpConsumer(self, owner, names)
        try:
            consumer.open()
        except BaseException:
            consumer.close()
            raise
        self.consumers.add(consumer)
        _here.add(consumer)
        return consumer

    def ensure(self, names: Sequence[str]) -> None:
        """These queues exist, with what belongs to them."""
        self.publisher.ensure(names)

    # -- queues ------------------------------------------------------------------------

    def declare(self, queues: Sequence[Queue]) -> None:
        self.publisher.declare(queues)

    def delete(self, queue: str) -> int:
        count = 0
        with self.publisher.asking() as channel:
            for name in self._all_of(queue):
                arguments = b"\0\0" + short(name) + b"\0"
                answer = channel.call(frames.QUEUE_DELETE, arguments, frames.QUEUE_DELETE_OK)
                count += int.from_bytes(answer[4:8], "big")
            self.publisher.forget(queue)
        for consumer in self._consumers():
            count += sum(consumer.deleted(queue))
        return count

    def purge(self, queue: str) -> int:
        count = 0
        with self.publisher.asking() as channel:
            found = topology.probe(channel.link, self._all_of(queue))
            for name in found:
                arguments = b"\0\0" + short(name) + b"\0"
                try:
                    answer = channel.call(frames.QUEUE_PURGE, arguments, frames.QUEUE_PURGE_OK)
                except ChannelClosed as exc:
                    if exc.code != NOT_FOUND:
                        raise
                    channel = channel.link.channel()  # noqa: PLW2901 - the other is closed
                    continue
                count += int.from_bytes(answer[4:8], "big")
        return count

    def _all_of(self, queue: str) -> list[str]:
        """A task queue and those of ours that belong to it."""
        own = [rung_queue(level, queue) for level in range(LEVELS)]
        return [queue, derived("suspects", queue), *own]

    def _consumers(self) -> list[AmqpConsumer]:
        """Those of this process that consume from this broker."""
        place = self.address.place
        return [each for each in list(_here) if each.place == place]

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        names = sorted(queues or self.publisher.queues)
        if not names:
            return []
        with self.publisher.asking() as channel:
            found = topology.probe(
                channel.link, [each for name in names for each in self._all_of(name)]
            )
        consumers = self._consumers()
        stats = []
        for name in names:
            ready, foreign = found.get(name, (0, 0))
            # Ours are counted where they always listen.
            suspects, listening = found.get(derived("suspects", name), (0, 0))
            ready, listening = ready + suspects, listening or foreign
            delayed = sum(found.get(rung_queue(level, name), (0, 0))[0] for level in range(LEVELS))
            held = 0
            for consumer in consumers:
                out, ahead = consumer.counts(name)
                held += out
                ready += ahead
            if not queues and name not in found:
                continue
            stats.append(QueueStats(name, ready, delayed, held, None, listening))
        return stats

    def ping(self) -> None:
        self.publisher.ping()

    def close(self) -> None:
        try:
            for consumer in list(self.consumers):
                consumer.close()
        finally:
            self._closed = True
            self.publisher.close()

    # -- DEAD_LETTERS ------------------------------------------------------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        return self._cemetery.page(queue, limit, after)

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return self._cemetery.get(ids)

    def dead_replay(self, ids: Sequence[str]) -> int:
        return self._cemetery.replay(ids)

    def dead_drop(self, ids: Sequence[str]) -> int:
        return self._cemetery.drop(ids)

    # -- BROADCAST ---------------------------------------------------------------------

    def broadcast(self) -> AmqpBroadcast:
        from caraway_amqp.broadcast import AmqpBroadcast

        return AmqpBroadcast(self)
