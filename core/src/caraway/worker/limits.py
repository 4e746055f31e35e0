"""Rate limits of one lane.

A task's rate holds for a worker as a whole; each lane keeps its share of it.  A message
that comes too early gets a place in time, is released to its queue until then, and runs
when it comes back: nothing waits in a lane's memory.
"""

from __future__ import annotations

from collections import OrderedDict

from caraway.ratelimit import parse_rate

_MOST_RESERVED = 10_000


class RateGate:
    """Spaces the runs of one task evenly.

    Args:
        per_second: runs a second in this lane; greater than 0.
    """

    __slots__ = ("_interval", "_next", "_reserved")

    def __init__(self, per_second: float) -> None:
        self._interval = 1.0 / per_second
        self._next = 0.0
        self._reserved: OrderedDict[str, float] = OrderedDict()

    def delay(self, task_id: str, now: float) -> float:
        """Seconds until this message may run, 0.0 for now.

        Args:
            task_id: a message that was given a place keeps it.
            now: epoch seconds.
        """
        place = self._reserved.pop(task_id, None)
        if place is None:
            reserved = len(self._reserved)
            if reserved < _MOST_RESERVED:
                # Further away it is only if the clock went back.
                self._next = min(self._next, now + self._interval * (reserved + 1))
            place = max(now, self._next)
            self._next = place + self._interval
        if place <= now + 0.001:
            return 0.0
        self._reserved[task_id] = place
        if len(self._reserved) > _MOST_RESERVED:
            # Forgetting a place costs its message a later one, nothing more.
            self._reserved.popitem(last=False)
        return place - now


class RateGates:
    """The limits of all tasks, by name.

    Args:
        share: this lane's part of the worker's limits, greater than 0 and at most 1.
        off: there are none, whatever is set (``worker_disable_rate_limits``).

    Attributes:
        gates: of each task that was set; None where it has no limit.
    """

    def __init__(self, share: float, *, off: bool) -> None:
        self.gates: dict[str, RateGate | None] = {}
        self._rates: dict[str, float] = {}
        self._share = share
        self._off = off

    def set_rate(self, name: str, rate: str | float | None) -> None:
        """Set a task's rate limit, ``"10/m"`` or a number a second; None or 0 for none.

        Raises:
            ImproperlyConfigured: it is neither.
        """
        per_second = 0.0 if self._off else parse_rate(rate)
        self._rates[name] = per_second
        share = per_second * self._share
        self.gates[name] = RateGate(share) if share > 0 else None

    def set_share(self, share: float) -> None:
        """Set this lane's share, between 0 and 1."""
        self._share = share
        for name, per_second in list(self._rates.items()):
            if per_second > 0:
                self.gates[name] = RateGate(per_second * share)
