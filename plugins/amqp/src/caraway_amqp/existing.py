"""What exists in the broker, as far as this connection knows, and what is made when it is
needed: queues, and the ladders that delay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caraway.message import Queue
from caraway_amqp import native_delay, topology
from caraway_amqp.channel import Channel
from caraway_amqp.faults import LOCKED, ChannelClosed
from caraway_amqp.link import Link

if TYPE_CHECKING:
    from caraway_amqp.outgoing import Outgoing
    from caraway_amqp.topology import Shapes


class Existing:
    """See the module's text.  Used by one thread at a time, with the link's lock held.

    Args:
        shapes: how queues are declared.
        log: for warnings.

    Attributes:
        queues: those that somebody named, by name.
        ladder: the exchanges that delay are there.
    """

    def __init__(self, shapes: Shapes, log: Callable[[], Any]) -> None:
        self.queues: dict[str, Queue] = {}
        self.ladder = False
        self._shapes = shapes
        self._log = log
        self._channel: Channel | None = None
        self._own: dict[str, dict[str, Any]] = {}
        """Arguments of queues of ours, by name."""
        self._declared: set[str] = set()
        self._rungs: dict[str, int] = {}
        self._native = False

    def reset(self) -> None:
        """The connection is another one, and the broker may be: all is declared again."""
        self._channel = None
        self._declared.clear()
        self._rungs.clear()
        self.ladder = self._native = False

    def forget(self, queue: str) -> None:
        """This queue was deleted."""
        self._declared.discard(queue)
        self._rungs.pop(queue, None)

    def ask(self, link: Link) -> Channel:
        """The channel for declaring and asking; made anew after a refusal."""
        channel = self._channel
        if channel is None or channel.error is not None:
            channel = self._channel = link.channel()
        return channel

    def declare(self, link: Link, names: Sequence[str]) -> None:
        """Create queues that don't exist."""
        for name in names:
            if name in self._own:
                channel = topology.declare_own(link, self.ask(link), name, self._own[name])
            else:
                queue = self.queues.get(name)
                if queue is None:
                    queue = self.queues[name] = Queue(name=name)
                channel = self.ask(link)
                try:
                    channel = topology.ensure(link, channel, queue, self._shapes, self._log())
                except ChannelClosed as exc:
                    if exc.code != LOCKED:
                        raise
                    # Somebody else's exclusive queue: it is there, and that's what was asked.
                    channel = self.ask(link)
            self._channel = channel
            self._declared.add(name)

    def declare_consumed(self, link: Link, names: Sequence[str]) -> None:
        """Create what belongs to queues that are consumed."""
        for name in names:
            suspects = topology.derived("suspects", name)
            self._own[suspects] = self._shapes.own(self.queues[name])
            self.declare(link, [suspects])
        if any(self._shapes.native(self.queues[name]) for name in names):
            self._build_native(link)

    def _build_native(self, link: Link) -> None:
        """Celery's ladder: clients of Celery's rely on workers for it."""
        if not self._native:
            native_delay.build(self.ask(link), self._shapes.native_type)
            self._native = True

    def any_quorum(self, names: Sequence[str]) -> bool:
        """Some of these are of type quorum, as far as is known."""
        return any(self._shapes.own(self.queues[name]) for name in names)

    def ready(self, link: Link, items: Sequence[Outgoing]) -> None:
        """Declare what these need and what isn't known to be there."""
        declared, rungs = self._declared, self._rungs
        for item in items:
            publication = item.publication
            queue = publication.queue
            if item.loose or (publication.exchange and queue not in self.queues):
                continue
            if queue not in declared:
                self.declare(link, [queue])
            if item.exchange != publication.exchange and not item.count:
                self._build_native(link)
            if item.count:
                if not self.ladder:
                    topology.build_ladder(self.ask(link))
                    self.ladder = True
                have = rungs.get(queue, 0)
                if item.count & ~have:
                    own = self._shapes.own(self.queues.get(queue) or Queue(name=queue))
                    self._channel = topology.build_rungs(
                        link, self.ask(link), queue, own, item.count & ~have, first=not have
                    )
                    rungs[queue] = have | item.count
