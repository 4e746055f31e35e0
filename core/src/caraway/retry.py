"""Back-off: how long to wait before trying again.  Pure; randomness is passed in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from random import random as _random
from typing import Any

from caraway.errors import ImproperlyConfigured


def exponential_backoff(
    retries: int,
    *,
    factor: float = 1.0,
    maximum: float = 600.0,
    jitter: bool = True,
    random: Callable[[], float] = _random,
) -> float:
    """Seconds before retry number ``retries`` (0 is the first).

    Doubles each time up to ``maximum``.  With ``jitter`` it is anything between 0 and
    that, evenly, so that tasks that failed together don't come back together.

    Args:
        retries: how many retries there were before.
        factor: seconds before the first one.
        maximum: most seconds.
        jitter: spread evenly from 0.
        random: uniform over [0, 1).
    """
    exponent = min(max(retries, 0), 64)  # past that any maximum is reached
    delay = min(float(maximum), float(factor) * float(1 << exponent))
    if jitter:
        delay *= random()
    return max(0.0, delay)


def publish_intervals(policy: Mapping[str, Any]) -> Iterator[float]:
    """Pauses (seconds) between attempts to publish, one for each retry allowed.

    Args:
        policy: ``max_retries`` (None is without end), ``interval_start``,
            ``interval_step``, ``interval_max``; see ``task_publish_retry_policy``.

    Raises:
        ImproperlyConfigured: a value isn't a number.
    """
    try:
        limit = policy.get("max_retries", 3)
        limit = None if limit is None else int(limit)
        pause = float(policy.get("interval_start", 0) or 0)
        step = float(policy.get("interval_step", 0.2) or 0)
        longest = float(policy.get("interval_max", 1) or 0)
    except (TypeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"bad publish retry policy {dict(policy)!r}: {exc}",
            hint="its values are numbers: max_retries, interval_start, interval_step, interval_max",
        ) from None
    done = 0
    while limit is None or done < limit:
        yield min(pause, longest)
        pause += step
        done += 1
