"""Rate limits: ``10/s``, ``100/m``, ``5/h``; a token bucket whose clock is passed in."""

from __future__ import annotations

from caraway.errors import ImproperlyConfigured

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_rate(rate: str | float | None) -> float:
    """Runs per second; 0.0 is no limit.

    Args:
        rate: ``"10/m"`` and the like (s, m, h, d); a number is per second.

    Raises:
        ImproperlyConfigured: neither.
    """
    if not rate:
        return 0.0
    try:
        if isinstance(rate, str):
            count, slash, unit = rate.partition("/")
            value = float(count) / (_SECONDS[unit.strip().lower()] if slash else 1.0)
        else:
            value = float(rate)
    except (KeyError, ValueError):
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise ImproperlyConfigured(
            f"bad rate limit {rate!r}", hint='write "10/s", "100/m" or "5/h"; None is no limit'
        )
    return value


class TokenBucket:
    """Lets ``rate`` runs a second through, and ``capacity`` at once after a pause.

    Args:
        rate: tokens per second, greater than 0.
        capacity: most tokens saved up.
        now: seconds of any clock that never goes back; use the same one later.
    """

    __slots__ = ("_at", "_tokens", "capacity", "rate")

    def __init__(self, rate: float, capacity: float = 1.0, *, now: float = 0.0) -> None:
        self.rate = rate
        self.capacity = capacity
        self._tokens = capacity
        self._at = now

    def take(self, now: float, count: float = 1.0) -> bool:
        """Take tokens if they are there."""
        self._fill(now)
        # a billionth of slack: waiting exactly `delay` must be enough despite rounding
        if self._tokens + 1e-9 < count:
            return False
        self._tokens -= count
        return True

    def delay(self, now: float, count: float = 1.0) -> float:
        """Seconds until `take` would succeed; 0.0 if it would now."""
        self._fill(now)
        return max(0.0, (count - self._tokens) / self.rate)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self.capacity, self._tokens + (now - self._at) * self.rate)
            self._at = now
