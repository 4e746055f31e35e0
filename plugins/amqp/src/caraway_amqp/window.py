"""How far ahead a channel is served: what it consumes, and how many messages may wait in it.

AMQP pushes.  A fetch that waited for each message by itself would be slow, and one that let
the broker push at will would take from others what it can't run soon: so there is a window,
about as large as what a fetch wants, and closed while nobody fetches.  Beside it each task
queue's suspects are watched, one at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from caraway.errors import TransportUnavailable
from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.frames import method, short
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import derived

_EXACT = 4
"""Windows up to this size follow the limit exactly, larger ones in powers of two."""
_MOST = 16384
_ANSWER = 10.0
"""Seconds for the broker to end a consumer."""


class Window:
    """That of one channel.

    Args:
        channel: open.
        queues: names of the task queues.
        quorum: some of them are of this type.

    Attributes:
        sources: (task queue, whether it is the queue of suspects) by consumer's tag.
        current: tags of the consumers of the queues; none if it is closed.
        watched: tags of the consumers of suspects.
        size: how many messages may wait; 0 if it is closed.
        stale: a consumer of a quorum queue was cancelled: what the queue had sent to it and
            was still on its way is held by the channel, and by nobody, until that closes.
    """

    def __init__(self, channel: Channel, queues: Sequence[str], *, quorum: bool) -> None:
        self.channel = channel
        self.queues = queues
        self.quorum = quorum
        self.sources: dict[str, tuple[str, bool]] = {}
        self.current: list[str] = []
        self.watched: list[str] = []
        self.size = 0
        self.stale = False
        self._mark = 0
        self._serial = 0

    # -- suspects ----------------------------------------------------------------------

    def watch(self, queues: Sequence[str] = ()) -> bytes:
        """Frames that have suspects delivered, of all queues unless some are named."""
        data = self._qos(1)
        for queue in queues or self.queues:
            data += self._consume(queue, suspect=True)
        return data

    def unwatch(self) -> None:
        """Have no further suspects delivered."""
        self.channel.send(b"".join(self._cancelled(tag, wait=False) for tag in self.watched))
        self.watched.clear()

    # -- the queues --------------------------------------------------------------------

    def open(self, limit: int, held: Mapping[int, Any]) -> None:
        """Have as many messages delivered ahead as a fetch of this limit will want.

        Args:
            limit: of the fetch.
            held: by number, what was handed out; what came through this window takes up a
                part of it.
        """
        wanted = limit if limit <= _EXACT else min(2 << (limit - 1).bit_length(), _MOST)
        window, mark = self.size, self._mark
        if held:
            window -= sum(1 for number in held if number > mark)
        if limit <= window <= (wanted if limit <= _EXACT else wanted * 2):
            return
        if self.quorum and self.size:
            if window >= limit:
                return
            # Its consumers aren't cancelled while messages flow: see `stale`.
            more = wanted - window
            self.channel.send(self._qos(more) + self._consume_all())
            self.size += more
            return
        data = b"".join(self._cancelled(tag, wait=False) for tag in self.current)
        self.current.clear()
        self.channel.send(data + self._qos(wanted) + self._consume_all())
        self.size = wanted
        self._mark = max(mark, *held) if held else mark

    def close(self) -> None:
        """Have no more delivered; when this returns, all that had been is here.

        Raises:
            TransportError: the connection is or goes down.
        """
        # The answer to a cancel comes from the queue, by way of the channel, and so behind
        # all that the queue had sent.  Answers of the channel alone overtake deliveries.
        channel = self.channel
        ended = channel.ended + len(self.current)
        self.size = 0
        self.stale = self.quorum
        tags, self.current = self.current, []
        channel.send(self._qos(1) + b"".join(self._cancelled(tag, wait=True) for tag in tags))
        deadline = monotonic() + _ANSWER
        while channel.ended < ended:
            left = deadline - monotonic()
            if left <= 0:
                raise channel.link.fail(
                    TransportUnavailable(
                        f"{channel.link.address.shown} doesn't end a consumer in {_ANSWER:g} s",
                        hint="See its alarms and load: rabbitmqctl status.",
                    )
                )
            channel.check()
            if channel.cancelled:
                # A queue was deleted: its consumer's end isn't answered any more.
                return
            channel.link.pump(left)

    def close_all(self) -> None:
        """Close, and end the consumers of suspects."""
        self.current += self.watched
        self.watched = []
        self.close()

    def reset(self, suspects: Sequence[str]) -> None:
        """Queues were made again: watch the suspects of these, and have the window opened
        anew with the next fetch."""
        data = self.watch(suspects) if suspects else b""
        data += b"".join(self._cancelled(tag, wait=False) for tag in self.current)
        self.current.clear()
        self.size = 0
        self.channel.send(data)

    # -- frames ------------------------------------------------------------------------

    def _consume_all(self) -> bytes:
        return b"".join([self._consume(queue, suspect=False) for queue in self.queues])

    def _consume(self, queue: str, *, suspect: bool) -> bytes:
        self._serial += 1
        tag = f"{self._serial}"
        self.sources[tag] = (queue, suspect)
        (self.watched if suspect else self.current).append(tag)
        source = derived("suspects", queue) if suspect else queue
        # 8: no answer is wanted.
        arguments = b"\0\0" + short(source) + short(tag) + b"\x08" + dump_table({})
        return method(self.channel.number, frames.BASIC_CONSUME, arguments)

    def _cancelled(self, tag: str, *, wait: bool) -> bytes:
        flag = b"\0" if wait else b"\1"
        return method(self.channel.number, frames.BASIC_CANCEL, short(tag) + flag)

    def _qos(self, count: int) -> bytes:
        arguments = b"\0\0\0\0%b\0" % count.to_bytes(2, "big")
        return method(self.channel.number, frames.BASIC_QOS, arguments)
