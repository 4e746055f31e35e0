"""A list of brokers keeps the contract as one broker does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway.builtin.memory import MemoryTransport
from caraway.plugins.registry import Registry
from caraway.testing.conformance import TransportSuite

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class TestFailover(TransportSuite):
    factory = MemoryTransport

    def url(self, tmp_path: Path) -> str:
        return f"memory://{tmp_path.name}"

    def make(self, tmp_path: Path) -> Callable[[Any], Any]:
        registry = Registry.discover()
        urls = f"{self.url(tmp_path)};memory://{tmp_path.name}-spare"
        return lambda context: registry.transport(urls, context)
