"""A failover transport over one or two brokers keeps the contract of transports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from caraway.builtin.memory import MemoryTransport
from caraway.interfaces import Capability, Context
from caraway.plugins.failover import FailoverTransport
from caraway.testing.conformance import TransportSuite
from caraway.url import Url

CAPABILITIES = MemoryTransport.capabilities - {Capability.ATOMIC_COMMIT}


def two_brokers(url: Url, options: Any, context: Context) -> FailoverTransport:
    makers = [
        (
            name,
            lambda name=name: MemoryTransport(Url.parse(f"memory://{url.host}{name}"), {}, context),
        )
        for name in ("one", "two")
    ]
    return FailoverTransport(makers, CAPABILITIES, monotonic=context.monotonic)


two_brokers.capabilities = CAPABILITIES  # type: ignore[attr-defined]


class TestFailover(TransportSuite):
    factory = staticmethod(two_brokers)

    def url(self, tmp_path: Path) -> str:
        return f"failover://{tmp_path.name}"
