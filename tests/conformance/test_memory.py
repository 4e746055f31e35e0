"""The memory components keep every contract: what tests run on is a verified fake."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.interfaces import Capability
from caraway.testing.conformance import TransportSuite

if TYPE_CHECKING:
    from pathlib import Path


class TestMemoryTransport(TransportSuite):
    factory = "caraway.builtin.memory:MemoryTransport"
    backend_factory = "caraway.builtin.memory:MemoryBackend"

    def url(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"
