"""Dead letters: one durable queue, ``caraway.dead``.

AMQP can't look into a queue.  So whoever looks takes the whole queue for a moment, as its
only consumer (others wait for their turn), and gives back what it leaves; RabbitMQ puts
that where it was.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from caraway.errors import TransportUnavailable
from caraway.message import DeadLetter, Delivery, Message, Publication, Settlement
from caraway_amqp import frames
from caraway_amqp.arrivals import number_of
from caraway_amqp.channel import Channel
from caraway_amqp.faults import NOT_FOUND, REFUSED, ChannelClosed
from caraway_amqp.frames import DEAD, acknowledge, give_back, read_content, short
from caraway_amqp.link import Link
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import DEAD_LETTERS, declare_queue, read_out

if TYPE_CHECKING:
    from caraway_amqp.publishing import Publisher

_PATIENCE = 20.0


def letter_of(
    delivery: Delivery, settlement: Settlement, now: float
) -> tuple[Publication, dict[str, Any]]:
    """The publication of a dead letter, and headers of ours for it."""
    message = delivery.message
    table = {
        # In order of time, so that a page can go on after a letter that is gone.
        "id": f"{int(now * 1e6):018d}-{uuid.uuid4().hex[:12]}",
        "queue": delivery.queue,
        "reason": settlement.reason,
        "kind": "parked" if settlement.parked else "dead",
        "attempt": delivery.attempt,
        "at": now,
        "expires": delivery.expires,
        "priority": delivery.priority,
    }
    properties = {k: v for k, v in message.properties.items() if k != "expiration"}
    kept = Message(
        message.body, message.headers, message.content_type, message.content_encoding, properties
    )
    return Publication(kept, DEAD_LETTERS), {DEAD: table}


class Cemetery:
    """Lists, replays and drops dead letters.

    Args:
        connect: opens a link of its own.
        publisher: for what is replayed.
    """

    def __init__(self, connect: Callable[[], Link], publisher: Publisher) -> None:
        self._connect = connect
        self._publisher = publisher

    def page(self, queue: str, limit: int, after: str) -> Sequence[DeadLetter]:
        """See `Transport.dead`."""
        with self._opened() as letters:
            found = [each.letter for each in letters]
        return [each for each in found if each.id > after and (not queue or each.queue == queue)][
            :limit
        ]

    def get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """See `Transport.dead_get`."""
        wanted = set(ids)
        if not wanted:
            return []
        with self._opened() as letters:
            return [each.letter for each in letters if each.letter.id in wanted]

    def replay(self, ids: Sequence[str]) -> int:
        """See `Transport.dead_replay`."""
        return self._take(ids, publish=True)

    def drop(self, ids: Sequence[str]) -> int:
        """See `Transport.dead_drop`."""
        return self._take(ids, publish=False)

    def _take(self, ids: Sequence[str], *, publish: bool) -> int:
        wanted = set(ids)
        if not wanted:
            return 0
        with self._opened() as letters:
            mine = [each for each in letters if each.letter.id in wanted]
            if mine and publish:
                self._publisher.publish([each.publication() for each in mine])
            for each in mine:
                each.taken = True
            return len(mine)

    @contextmanager
    def _opened(self) -> Iterator[list[_Found]]:
        """All letters, for this process alone while the block runs."""
        link = self._connect()
        with link.lock:
            try:
                channel = link.channel()
                declared = declare_queue(DEAD_LETTERS, {}, passive=True)
                try:
                    channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
                except ChannelClosed as exc:
                    if exc.code != NOT_FOUND:
                        raise
                    yield []
                    return
                channel = self._alone(link, channel)
                letters = self._read_all(channel)
                yield letters
                done = [each.number for each in letters if each.taken]
                left = [each.number for each in letters if not each.taken]
                data = b"".join(acknowledge(channel.number, number) for number in done)
                data += b"".join(give_back(channel.number, number) for number in left)
                if data:
                    channel.send(data)
            finally:
                link.close()

    def _alone(self, link: Link, channel: Channel) -> Channel:
        """Become the only consumer of the queue, when the others are done."""
        deadline = monotonic() + _PATIENCE
        # 4: exclusive.
        arguments = b"\0\0" + short(DEAD_LETTERS) + short("look") + b"\x04" + dump_table({})
        while True:
            try:
                channel.call(frames.BASIC_CONSUME, arguments, frames.BASIC_CONSUME_OK)
                return channel
            except ChannelClosed as exc:
                if exc.code != REFUSED or monotonic() > deadline:
                    raise
            if monotonic() > deadline:
                raise TransportUnavailable("others look through the dead letters all the time")
            sleep(0.01)
            channel = link.channel()

    def _read_all(self, channel: Channel) -> list[_Found]:
        """All that the queue has."""
        read_out(channel, DEAD_LETTERS, lambda: None)
        found = [
            _Found(number_of(content[0]), *_read(content[1], content[2]))
            for content in channel.deliveries
        ]
        channel.deliveries.clear()
        found.sort(key=lambda each: each.letter.id)
        return found


class _Found:
    """A letter in hands."""

    def __init__(self, number: int, letter: DeadLetter, table: Mapping[str, Any]) -> None:
        self.number = number
        self.letter = letter
        self.taken = False
        self._table = table

    def publication(self) -> Publication:
        """What replays it."""
        table = self._table
        return Publication(
            self.letter.message,
            self.letter.queue,
            priority=int(table.get("priority") or 0),
            expires=float(table.get("expires") or 0.0),
        )


def _read(header: bytes, body: bytes) -> tuple[DeadLetter, Mapping[str, Any]]:
    try:
        message, own = read_content(header, body)
    except ValueError as exc:
        message, own = Message(body), {DEAD: {"reason": str(exc)}}
    table = own.get(DEAD)
    if not isinstance(table, dict):
        table = {}
    at = table.get("at")
    letter = DeadLetter(
        id=str(table.get("id", "")),
        message=message,
        queue=str(table.get("queue", "")),
        reason=str(table.get("reason", "")),
        kind="parked" if table.get("kind") == "parked" else "dead",
        attempt=int(table.get("attempt") or 0),
        at=float(at) if isinstance(at, int | float) else 0.0,
    )
    return letter, table
