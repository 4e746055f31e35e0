"""What librabbitmq's name stands for keeps the contracts that caraway-amqp keeps.

All of them are tested there; here, that the way to it is open.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from caraway import Caraway
from caraway.testing.conformance.transport_messages import PublishTests
from caraway.testing.conformance.transport_queues import SettleTests
from caraway.testing.servers import Server
from caraway_librabbitmq.transport import LibrabbitmqTransport


class TestLibrabbitmqTransport(PublishTests, SettleTests):
    factory = "caraway_librabbitmq.transport:LibrabbitmqTransport"
    virtual_clock = False
    server: Server

    @pytest.fixture(autouse=True)
    def _server(self, rabbitmq: Server) -> None:
        type(self).server = rabbitmq

    def url(self, tmp_path: Path) -> str:
        return self.server.url.replace("amqp://", "librabbitmq://")


def test_its_urls_and_options_are_taken(rabbitmq: Server) -> None:
    app = Caraway("here", set_as_current=False)
    app.conf.update(
        broker_url=rabbitmq.url.replace("amqp://", "librabbitmq://"),
        broker_transport_options={"max_retries": 3, "connect_timeout": 2},
        result_backend="rpc://",
    )
    assert type(app.transport) is LibrabbitmqTransport
    app.transport.ping()
    app.backend.ping()
    app.close()
