"""The memory components keep every contract: what tests run on is a verified fake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.testing.conformance import BackendSuite, ScheduleSuite, TransportSuite

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryTransport(TransportSuite):
    factory = "caraway.builtin.memory:MemoryTransport"
    backend_factory = "caraway.builtin.memory:MemoryBackend"

    def url(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"


class TestMemoryBackend(BackendSuite):
    factory = "caraway.builtin.memory:MemoryBackend"

    def url(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"


class TestMemoryScheduleStore(ScheduleSuite):
    factory = "caraway.builtin.memory:MemoryScheduleStore"

    def url(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"
