"""Schedule records in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.memory.space import find_space
from caraway.interfaces.context import Capability
from caraway.interfaces.schedule import ScheduleRecord, ScheduleStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.interfaces.context import Context
    from caraway.url import Url


class MemoryScheduleStore(ScheduleStore):
    """A connection to the schedule records of one space.

    Args:
        url: ``memory://name``.
        options: none are known.
        context: its monotonic clock ends leaderships.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.LEADER})

    def __init__(
        self,
        url: Url,
        options: Mapping[str, Any],  # noqa: ARG002 - every factory is given them
        context: Context,
    ) -> None:
        self._space = find_space(url)
        self._monotonic = context.monotonic

    def load(self) -> Mapping[str, ScheduleRecord]:
        with self._space.lock:
            return dict(self._space.records)

    def save(self, records: Sequence[ScheduleRecord], *, fence: int = 0) -> bool:
        with self._space.lock:
            if fence < self._space.fence:
                return False
            self._space.records.update({record.name: record for record in records})
            return True

    def remove(self, names: Sequence[str]) -> None:
        with self._space.lock:
            for name in names:
                self._space.records.pop(name, None)

    def lead(self, candidate: str, ttl: float) -> int:
        space = self._space
        with space.lock:
            now = self._monotonic()
            led = bool(space.leader) and now < space.leader_until
            if led and space.leader != candidate:
                return 0
            if not led:
                # Also for the one whose own time ran out: somebody may have led since.
                space.fence += 1
                space.leader = candidate
            space.leader_until = now + ttl
            return space.fence

    def resign(self, candidate: str) -> None:
        with self._space.lock:
            if self._space.leader == candidate:
                self._space.leader = ""

    def close(self) -> None:
        """Nothing is held here: the records belong to the space."""
