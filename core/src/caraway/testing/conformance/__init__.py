"""Conformance suites: what an implementation of an interface must keep, as tests.

Subclass a suite in a test module, say how your implementation is made, and run pytest::

    from caraway.testing.conformance import TransportSuite


    class TestShelfTransport(TransportSuite):
        factory = "caraway_shelf.transport:ShelfTransport"

        def url(self, tmp_path):
            return f"shelf://{tmp_path}/store"

Tests of extensions (`Capability`) that the implementation doesn't declare are skipped.
`run` does the same without pytest and returns a report to print.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.testing.conformance.backend import BackendSuite
    from caraway.testing.conformance.pool import PoolSuite
    from caraway.testing.conformance.report import Check, Report, run
    from caraway.testing.conformance.schedule import ScheduleSuite
    from caraway.testing.conformance.serializer import CompressorSuite, SerializerSuite
    from caraway.testing.conformance.transport import TransportSuite

__all__ = [
    "BackendSuite",
    "Check",
    "CompressorSuite",
    "PoolSuite",
    "Report",
    "ScheduleSuite",
    "SerializerSuite",
    "TransportSuite",
    "run",
]

_HOMES = {
    "BackendSuite": "backend",
    "Check": "report",
    "CompressorSuite": "serializer",
    "PoolSuite": "pool",
    "Report": "report",
    "ScheduleSuite": "schedule",
    "SerializerSuite": "serializer",
    "TransportSuite": "transport",
    "run": "report",
}

_REWRITTEN = (
    "backend",
    "backend_case",
    "backend_chords",
    "backend_groups",
    "pool",
    "pool_case",
    "processes",
    "schedule",
    "serializer",
    "suite",
    "transport_case",
    "transport_commit",
    "transport_control",
    "transport_delivery",
    "transport_faults",
    "transport_leases",
    "transport_messages",
    "transport_queues",
)


def _explain_assertions() -> None:
    # Under pytest a failing assert shows its values, as in any test module.
    pytest = sys.modules.get("pytest")
    if pytest is not None:
        names = [f"{__name__}.{name}" for name in _REWRITTEN]
        pytest.register_assert_rewrite(*(name for name in names if name not in sys.modules))


_explain_assertions()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
