"""What librabbitmq's name stands for keeps the contracts that caraway-amqp keeps.

All of them are tested there; here, that the way to it is open.
"""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from caraway import Caraway
from caraway.message import Message, Owner, Publication, Queue
from caraway.testing.conformance.transport_messages import PublishTests
from caraway.testing.conformance.transport_queues import SettleTests
from caraway.testing.servers import Server
from caraway_librabbitmq.transport import LibrabbitmqTransport

from .conftest import Secure


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


@pytest.mark.usefixtures("rabbitmq")
def test_tls_is_a_setting_as_in_celery(secure: Secure) -> None:
    app = Caraway("here", set_as_current=False)
    app.conf.update(
        broker_url=f"librabbitmq://127.0.0.1:{secure.port}//",
        broker_use_ssl={
            "ca_certs": str(secure.authority.certificate), "cert_reqs": ssl.CERT_REQUIRED,
        },
        result_backend="rpc://",
    )  # fmt: skip
    app.transport.ping()
    app.backend.ping()
    consumer = app.transport.consume([Queue(name="tls")], Owner(id="a"))
    app.transport.publish([Publication(Message(b"x"), "tls")])
    (found,) = consumer.fetch(1, 10.0)
    assert found.message.body == b"x"
    consumer.close()
    app.close()
