"""The contract of schedule stores: what beat knows between two of its lives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct

from caraway.interfaces.context import Capability


class ScheduleRecord(Struct, frozen=True):
    """What is remembered of one entry.

    Attributes:
        name: of the entry.
        last_run_at: when it was last sent (epoch seconds); 0.0 is never.
        total_run_count: how often.
        definition: fingerprint of the entry's schedule; a change starts it afresh.
    """

    name: str
    last_run_at: float = 0.0
    total_run_count: int = 0
    definition: str = ""


class ScheduleStore(ABC):
    """Keeps schedule records, and elects one active scheduler."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    @abstractmethod
    def load(self) -> Mapping[str, ScheduleRecord]:
        """All records by name."""

    @abstractmethod
    def save(self, records: Sequence[ScheduleRecord], *, fence: int = 0) -> bool:
        """Keep records, all or none; False (and nothing kept) if ``fence`` is older
        than the newest that `lead` gave out."""

    @abstractmethod
    def remove(self, names: Sequence[str]) -> None:
        """Forget records.  Idempotent."""

    @abstractmethod
    def lead(self, candidate: str, ttl: float) -> int:
        """Become or stay the leader for ``ttl`` seconds.

        Returns a fence greater than 0 that grows with each new leader and stays the
        same while one renews; 0 if another leads.
        """

    @abstractmethod
    def resign(self, candidate: str) -> None:
        """Give up leadership at once, if held.  Idempotent."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held here.  Idempotent."""
