"""The suite of transports.

A plugin's whole conformance test::

    from caraway.testing.conformance import TransportSuite


    class TestShelfTransport(TransportSuite):
        factory = "caraway_shelf.transport:ShelfTransport"
        backend_factory = "caraway_shelf.backend:ShelfBackend"  # for ATOMIC_COMMIT

        def url(self, tmp_path):
            return f"shelf://{tmp_path}/store"

Each sentence of `caraway.interfaces.transport` has a test here.
"""

from __future__ import annotations

from caraway.testing.conformance.transport_commit import CommitTests
from caraway.testing.conformance.transport_control import BroadcastTests, InspectTests
from caraway.testing.conformance.transport_delivery import (
    DeadLetterTests,
    DelayTests,
    ExpiryTests,
    PriorityTests,
    RevokeTests,
)
from caraway.testing.conformance.transport_faults import ConnectionTests, KillTests
from caraway.testing.conformance.transport_leases import AdoptTests, LeaseTests
from caraway.testing.conformance.transport_messages import FetchTests, PublishTests
from caraway.testing.conformance.transport_queues import (
    LifecycleTests,
    QueueTests,
    SettleTests,
)


class TransportSuite(
    PublishTests,
    FetchTests,
    SettleTests,
    QueueTests,
    LifecycleTests,
    DelayTests,
    PriorityTests,
    ExpiryTests,
    RevokeTests,
    DeadLetterTests,
    InspectTests,
    BroadcastTests,
    LeaseTests,
    AdoptTests,
    CommitTests,
    KillTests,
    ConnectionTests,
):
    """All duties and extensions of a transport."""
