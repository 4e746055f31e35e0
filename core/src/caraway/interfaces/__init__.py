"""The contracts that components keep.  Public and versioned (`API`).

Each sentence of a method's docstring has a test in `caraway.testing.conformance`.
"""

from __future__ import annotations

from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability, Context
from caraway.interfaces.pool import Executor, Job, Pool
from caraway.interfaces.schedule import ScheduleRecord, ScheduleStore
from caraway.interfaces.serializer import Compressor, Serializer
from caraway.interfaces.transport import Broadcast, Consumer, Subscription, Transport

API = 1
"""Version of the contracts.  A new duty on an existing method raises it."""

__all__ = [
    "API",
    "Backend",
    "Broadcast",
    "Capability",
    "Compressor",
    "Consumer",
    "Context",
    "Executor",
    "Job",
    "Pool",
    "ScheduleRecord",
    "ScheduleStore",
    "Serializer",
    "Subscription",
    "Transport",
]
