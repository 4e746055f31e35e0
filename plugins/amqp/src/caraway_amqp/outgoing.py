"""Publications on their way: where each goes, and its frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.message import Publication, Queue
from caraway_amqp import frames, native_delay, topology
from caraway_amqp.channel import Content
from caraway_amqp.frames import content, publish_to

if TYPE_CHECKING:
    from caraway_amqp.topology import Shapes

_size = Struct(">I").unpack_from
_FRAMES = 4096
"""Frames of ``basic.publish`` that are kept, one for each target."""


class Outgoing(msgspec.Struct):
    """A publication on its way.

    Attributes:
        position: in the batch.
        publication: what.
        exchange: where it goes now: the ladder's, if it is delayed.
        routing_key: likewise.
        count: ticks of its delay, 0 for none.
        extra: headers of ours that it gets besides.
        loose: it may find no queue.
        data: its frames.
    """

    position: int
    publication: Publication
    exchange: str
    routing_key: str
    count: int
    extra: dict[str, Any]
    loose: bool = False
    data: bytes = b""


class Packer:
    """Makes frames of publications, for channel 1.

    Args:
        queues: those that somebody named, by name.
        shapes: how queues are declared.
        clock: seconds since the epoch.

    Attributes:
        targets: frames of ``basic.publish`` by exchange, routing key and whether no queue
            need be there.
    """

    def __init__(
        self, queues: Mapping[str, Queue], shapes: Shapes, clock: Callable[[], float]
    ) -> None:
        self._queues = queues
        self._shapes = shapes
        self._clock = clock
        self.targets: dict[tuple[str, str, bool], bytes] = {}

    def pack(
        self,
        publications: Sequence[Publication],
        extras: Sequence[dict[str, Any]],
        frame_max: int,
        *,
        loose: bool,
    ) -> tuple[list[Outgoing], dict[int, str]]:
        """What is ready to be sent, and what AMQP can't carry: position -> why."""
        ready: list[Outgoing] = []
        bad: dict[int, str] = {}
        now = 0.0
        for position, publication in enumerate(publications):
            extra = extras[position] if extras else {}
            exchange, key, count = publication.exchange, publication.routing_key, 0
            if not exchange:
                key = publication.queue
            if publication.due:
                now = now or self._clock()
                extra = {**extra, frames.DUE: publication.due}
                # To a named exchange it goes at once, unless Celery's ladder leads there: who
                # takes it from its queue delays it.
                if publication.due > now and exchange:
                    queue = self._queues.get(publication.queue)
                    if queue is not None and self._shapes.native(queue):
                        key = native_delay.key(publication.due - now, key or publication.queue)
                        exchange = native_delay.rung(native_delay.LEVELS - 1)
                elif publication.due > now:
                    count = topology.ticks(publication.due - now)
                    exchange = topology.rung(topology.LEVELS - 1)
                    key = topology.delay_key(publication.queue, count)
            if publication.expires:
                extra = {**extra, frames.EXPIRES: publication.expires}
            item = Outgoing(position, publication, exchange, key, count, extra, loose)
            try:
                item.data = content(1, publication.message, extra, frame_max, publication.priority)
                self.target(exchange, key, loose)
            except (ValueError, TypeError, OverflowError, AttributeError, RecursionError) as exc:
                bad[position] = f"{type(exc).__name__}: {exc}"
                continue
            ready.append(item)
        return ready, bad

    def target(self, exchange: str, key: str, loose: bool) -> bytes:  # noqa: FBT001 - hot
        """The frame of ``basic.publish`` to there."""
        target = self.targets.get((exchange, key, loose))
        if target is None:
            if len(self.targets) >= _FRAMES:
                self.targets.clear()
            target = publish_to(1, exchange, key, mandatory=not loose)
            self.targets[exchange, key, loose] = target
        return target


def came_back(returned: Iterable[Content], items: Iterable[Outgoing]) -> tuple[list[Outgoing], int]:
    """Which of these items the broker gave back; and how many it gave back that are none
    of them."""
    came = Counter(_identity(each) for each in returned)
    total = came.total()
    again: list[Outgoing] = []
    for item in items:
        name = (item.exchange, item.routing_key, _body(item.data))
        if came[name] > 0:
            came[name] -= 1
            again.append(item)
    return again, total - len(again)


def _identity(returned: Content) -> tuple[str, str, int]:
    """Exchange, routing key and body of what came back."""
    method, _, body = returned
    at = 7 + method[6]  # behind code and text of the reason
    size = method[at]
    exchange = method[at + 1 : at + 1 + size].decode()
    at += 1 + size
    key = method[at + 1 : at + 1 + method[at]].decode()
    return exchange, key, hash(body)


def _body(data: bytes) -> int:
    """The body within the frames of a message."""
    (size,) = _size(data, 3)
    at, pieces = size + 8, []
    while at < len(data):
        (size,) = _size(data, at + 3)
        pieces.append(data[at + 7 : at + 7 + size])
        at += size + 8
    return hash(b"".join(pieces))
