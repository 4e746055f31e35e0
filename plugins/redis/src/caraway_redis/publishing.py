"""From publications to commands."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from caraway.message import Publication
from caraway.protocol.envelope import encode
from caraway_redis.waiting_lists import ring
from caraway_redis.wires import pack

if TYPE_CHECKING:
    from caraway_redis.keys import Keys

Row = tuple[str, str, int, float, bytes, int]
"""Queue, list, step, due (0.0 for now), payload, position of the publication."""
_UNWRITABLE = (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError)
SOON = 3.0
"""What is due in fewer seconds is told to those who wait; of the rest they hear in time
when they look by themselves."""
LARGEST = 512 * 1024 * 1024
"""Redis' own limit of a value, in bytes."""


class Envelopes:
    """Writes envelopes for one transport.

    Args:
        keys: names of lists.
        steps: priority steps, ascending.
        bound: the queues that an exchange and routing key lead to.
        served: whether a worker of ours consumes a queue.
        clock: epoch seconds.
    """

    def __init__(
        self,
        keys: Keys,
        steps: Sequence[int],
        bound: Callable[[str, str], Sequence[str]],
        served: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self._clock = clock
        self._keys = keys
        self._bound = bound
        self._served = served
        self._step = [max(s for s in steps if s <= priority) for priority in range(10)]
        # Celery's workers keep what they hold under this tag: it must be unique.
        self._begin = os.urandom(10).hex() + "-"
        self._count = 0
        self._lists: dict[tuple[str, int], str] = {}

    def rows(self, publications: Sequence[Publication], failed: list[tuple[int, str]]) -> list[Row]:
        """A row for each publication and queue; those that can't be written are noted in
        ``failed`` with their position and why."""
        rows: list[Row] = []
        lists = self._lists
        count = self._count
        for position, publication in enumerate(publications):
            priority = publication.priority
            if not 0 <= priority <= 9:
                priority = 0 if priority < 0 else 9
            step = self._step[priority]
            count += 1
            try:
                queues: Sequence[str] = (publication.queue,)
                if publication.exchange:
                    found = self._bound(publication.exchange, publication.routing_key)
                    queues = found or queues
                due = publication.due
                if due and publication.message.headers.get("eta"):
                    # Celery's workers don't look at what we delay: where only they are, the
                    # message goes to them at once, and they wait, as for any client's.  A
                    # worker of ours that comes later delays it.
                    due = due if all(map(self._served, queues)) else 0.0
                payload = encode(
                    publication.message,
                    self._begin + str(count),
                    publication.exchange,
                    publication.routing_key or publication.queue,
                    priority,
                    publication.expires,
                    due,
                )
                if len(payload) > LARGEST:
                    raise ValueError(f"it has {len(payload)} bytes")
                for queue in queues:
                    name = lists.get((queue, step))
                    if name is None:
                        queue.encode()  # half a character can't be stored
                        if not queue or "\n" in queue:
                            raise ValueError(f"{queue!r} can't be a queue's name")
                        name = lists[queue, step] = self._keys.list(queue, step)
                    rows.append((queue, name, step, due, payload, position))
            except _UNWRITABLE as exc:
                failed.append((position, str(exc)))
        self._count = count
        return rows

    def commands(self, rows: Sequence[Row]) -> tuple[list[bytes], list[tuple[int, int]]]:
        """Rows as packed commands, neighbours of one list in one; and for each command the
        first of its rows and the one after the last."""
        packed: list[bytes] = []
        spans: list[tuple[int, int]] = []
        at, end = 0, len(rows)
        while at < end:
            queue, name, step, due, payload, _ = rows[at]
            begin = at
            at += 1
            if due:
                name = self._keys.delayed + queue
                packed.append(pack("ZADD", name, f"{due:.6f}", b"%d\n%s" % (step, payload)))
                spans.append((begin, at))
                if due - self._clock() < SOON:
                    # Who waits doesn't know of it yet.
                    ringing = ring(name + self._keys.bell)
                    packed += ringing
                    spans += [(at, at)] * len(ringing)
                continue
            while at < end and rows[at][1] == name and not rows[at][3] and at - begin < 1000:
                at += 1
            if at - begin == 1:
                packed.append(pack("LPUSH", name, payload))
            else:
                packed.append(pack("LPUSH", name, *[row[4] for row in rows[begin:at]]))
            spans.append((begin, at))
        return packed, spans
