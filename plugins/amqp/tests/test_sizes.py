"""A broker that takes no large messages: RabbitMQ 4 has a limit of 16 MiB, others may be set."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from caraway.errors import PublishError
from caraway.interfaces import Context
from caraway.message import Message, Publication, Queue
from caraway.testing.servers import Server, server
from caraway.url import Url
from caraway_amqp.transport import AmqpTransport

LIMIT = 200_000


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    with server("rabbitmq", config=[f"max_message_size = {LIMIT}"]) as running:
        yield running


@pytest.fixture
def transport(small: Server) -> Iterator[AmqpTransport]:
    made = AmqpTransport(Url.parse(small.url), {}, Context())
    yield made
    made.close()


@pytest.mark.parametrize("count", [1, 2, 4000])
def test_all_but_what_is_too_large_are_in(transport: AmqpTransport, count: int) -> None:
    queue = f"s{uuid.uuid4().hex[:8]}"
    transport.declare([Queue(name=queue)])
    bodies = [b"x"] * count
    large = {count // 2, count - 1}
    for number in large:
        bodies[number] = bytes(LIMIT + 1)

    with pytest.raises(PublishError, match="larger than configured max size") as caught:
        transport.publish([Publication(Message(body), queue) for body in bodies])

    assert set(caught.value.failed) == large
    (stats,) = transport.stats([queue])
    # What was on its way when the channel was closed may have been taken, and is sent again.
    assert stats.ready >= count - len(large)
    transport.publish([Publication(Message(bytes(LIMIT)), queue)])
