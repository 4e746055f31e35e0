"""Delayed messages, in a broker that can't delay: queues beside the queue.

A message that isn't due waits on a *rung*: the queue ``NAME.delay.S``, on which each stays
for S seconds and is then looked at again.  All that is on one rung waits equally long, so
what came first is to leave first, and who looks need only look at the head.  Seen from the
message: it is moved to smaller and smaller rungs, until it is due.  On the last one,
``NAME.delay.0``, are those of the last seconds, in no order.

Nothing waits in a worker's memory: who moves a message writes it to the next queue before it
acknowledges it on this one.  Killed in between, it is there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import inf
from typing import TYPE_CHECKING

from caraway_kombu.marks import DUE, LOOK

if TYPE_CHECKING:
    from caraway_kombu.link import Link
    from caraway_kombu.marks import Found

_SLACK = 1.25
"""A rung is looked at when a quarter of its time has passed at most: nothing is late."""
_LAST_LOOK = 0.25
"""Seconds between looks at the last rung, where others may have put something."""
_BATCH = 100


class Delays:
    """The rungs of some queues, as one consumer sees them.

    Args:
        ladder: seconds of the rungs, without the last one.
        clock: epoch seconds.
        monotonic: of looks.
    """

    def __init__(
        self,
        ladder: Sequence[int],
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._ladder = sorted(ladder)
        self._clock = clock
        self._monotonic = monotonic
        self._looks: dict[tuple[str, int], float] = {}

    def names(self, queue: str) -> list[str]:
        """The queues of all rungs."""
        return [f"{queue}.delay.{rung}" for rung in (0, *self._ladder)]

    def watch(self, queue: str) -> None:
        """Look at the rungs of this queue from now on."""
        for rung in (0, *self._ladder):
            self._looks.setdefault((queue, rung), 0.0)

    def put(self, link: Link, queue: str, found: Found, due: float, attempts: int = -1) -> None:
        """Write a message to the rung that its due time calls for."""
        now = self._clock()
        rung = self._rung(due - now)
        marks = found.marks(attempts=attempts, due=due)
        marks[DUE] = due
        if rung:
            marks[LOOK] = now + rung
        link.put(found.message, marks, f"{queue}.delay.{rung}", priority=found.priority)
        self._look_at(queue, rung, rung or max(0.0, due - now))

    def _rung(self, left: float) -> int:
        fitting = [rung for rung in self._ladder if rung * _SLACK <= left]
        return fitting[-1] if fitting else 0

    def _look_at(self, queue: str, rung: int, seconds: float) -> None:
        key = (queue, rung)
        if key in self._looks:
            self._looks[key] = min(self._looks[key], self._monotonic() + seconds)

    def next_look(self) -> float:
        """Seconds until there may be something to do."""
        first = min(self._looks.values(), default=inf)
        return max(0.0, first - self._monotonic())

    def ripe(self, link: Link, wanted: int) -> Iterator[tuple[str, Found]]:
        """Messages that are due now, taken from their rungs and not acknowledged, with
        their queues; on the way, all others that are to be moved are moved."""
        for (queue, rung), at in list(self._looks.items()):
            if wanted <= 0:
                return
            if at > self._monotonic():
                continue
            if rung:
                self._climb_down(link, queue, rung)
                continue
            for found in self._last(link, queue, wanted):
                wanted -= 1
                yield queue, found

    def _climb_down(self, link: Link, queue: str, rung: int) -> None:
        name = f"{queue}.delay.{rung}"
        self._looks[queue, rung] = self._monotonic() + rung / 4
        for _ in range(_BATCH):
            taken = link.take(name, 1)
            if not taken:
                return
            (found,) = taken
            self.put(link, queue, found, found.due)
            link.ack([found.tag])
            early = found.look - self._clock()
            if early > 0:
                # The first that isn't to leave yet; those behind it aren't either.  It
                # goes down all the same, since there is no way back to the head.
                self._looks[queue, rung] = self._monotonic() + min(early, rung)
                return
        self._looks[queue, rung] = 0.0

    def _last(self, link: Link, queue: str, wanted: int) -> Iterator[Found]:
        taken = link.take(f"{queue}.delay.0", _BATCH)
        now = self._clock()
        soonest = _LAST_LOOK if len(taken) < _BATCH else 0.01
        later: list[Found] = []
        due: list[Found] = []
        for found in taken:
            if found.due <= now and len(due) < wanted:
                due.append(found)
            else:
                soonest = min(soonest, max(0.0, found.due - now))
                later.append(found)
        self._looks[queue, 0] = self._monotonic() + soonest
        for found in later:
            self.put(link, queue, found, found.due)
            link.ack([found.tag])
        due.sort(key=lambda found: found.due)
        yield from due
