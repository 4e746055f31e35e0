"""What a lane is told at its start, and what its exit code tells."""

from __future__ import annotations

from msgspec import Struct

from caraway.message import Owner, Queue

STOPPED, RECYCLE, LOST = 0, 75, 76
"""Exit codes of a lane: told to stop; wants to be replaced; lost its lease."""

LONGEST_PAUSE = 2.0
"""Seconds between two tries to reach a broker that is away, at most: with the time that
connecting takes, work goes on within 5 s of its return."""


class LaneConfig(Struct, frozen=True, kw_only=True):
    """What a lane is told.

    Attributes:
        index: position on the board.
        owner: under which it holds deliveries.
        queues: what it consumes.
        prefetch_limit: most messages of one fetch; 0 for what suits the broker.
        prefetch_seconds: seconds of work to fetch at the measured pace.
        max_deliveries: poison limit; 0 is none.
        max_tasks: recycle after that many; 0 is never.
        max_memory: recycle at that many bytes of resident memory; 0 is never.
        shutdown_timeout: seconds that running tasks get at a stop.
        rate_share: this lane's share of the worker's rate limits.
        events: publish events of tasks.
    """

    index: int
    owner: Owner
    queues: tuple[Queue, ...]
    prefetch_limit: int = 0
    prefetch_seconds: float = 0.05
    max_deliveries: int = 3
    max_tasks: int = 0
    max_memory: int = 0
    shutdown_timeout: float = 25.0
    rate_share: float = 1.0
    events: bool = False
