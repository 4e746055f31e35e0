"""Broker, result store and schedule store in this process's memory, for tests.

``memory://name``: all components of one name in one process share one space, so that a
client and a worker in one process meet.  The three keep the contracts to the letter
(they pass the same conformance suites as SQLite); what they lack is that nothing
outlives the process and no other process sees it.
"""

from __future__ import annotations

from caraway.builtin.memory.backend import MemoryBackend
from caraway.builtin.memory.consumer import MemoryConsumer
from caraway.builtin.memory.schedule import MemoryScheduleStore
from caraway.builtin.memory.space import discard
from caraway.builtin.memory.transport import MemoryTransport

__all__ = [
    "MemoryBackend",
    "MemoryConsumer",
    "MemoryScheduleStore",
    "MemoryTransport",
    "discard",
]
