"""Types of queues, their delay, and what others declare."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.interfaces import Context
from caraway.message import (
    Message,
    Notice,
    Owner,
    Publication,
    Queue,
    Settlement,
    Topic,
    new_owner_id,
)
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import frames, native_delay
from caraway_amqp.consumer import AmqpConsumer
from caraway_amqp.frames import short
from caraway_amqp.transport import AmqpTransport

from .conftest import until

QUORUM = {"task_create_missing_queue_type": "quorum"}
Open = Callable[..., AmqpTransport]


@pytest.fixture
def connect(rabbitmq: Server) -> Iterator[Open]:
    opened: list[AmqpTransport] = []

    def make(**settings: Any) -> AmqpTransport:
        context = Context(settings=settings)
        opened.append(AmqpTransport(Url.parse(rabbitmq.url), {}, context))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def consume(transport: AmqpTransport, *queues: Queue) -> AmqpConsumer:
    return transport.consume(queues, Owner(id=new_owner_id()))


def fetch_one(consumer: AmqpConsumer) -> Any:
    taken: list[Any] = []
    until(lambda: taken.extend(consumer.fetch(1, 0.5)) or taken, "a message comes")
    return taken[0]


def test_a_quorum_queue_delays_on_queues_of_its_type(connect: Open) -> None:
    queue, transport = f"q{uuid.uuid4().hex[:8]}", connect(**QUORUM)
    due = time.time() + 0.4
    transport.publish([Publication(Message(b"x", {"id": "x"}), queue, due=due)])
    delivery = fetch_one(consume(transport, Queue(name=queue)))
    assert time.time() >= due
    assert (delivery.message.body, delivery.attempt) == (b"x", 1)


def test_celery_s_own_delay_is_built_used_and_received(connect: Open) -> None:
    name, transport = f"n{uuid.uuid4().hex[:8]}", connect(**QUORUM)
    queue = Queue(name=name, exchange=f"x.{name}", exchange_type="topic", routing_key=name)
    consumer = consume(transport, queue)
    # As Celery's client sends it ...
    key = ".".join(format(1, "028b")) + f".{name}"
    begin = time.time()
    transport.publish(
        [Publication(Message(b"theirs", {"id": "a"}), name, "celery_delayed_27", key)]
    )
    assert fetch_one(consumer).message.body == b"theirs"
    assert time.time() - begin >= 0.95
    # ... and as we do.
    due = time.time() + 0.5
    ours = Publication(Message(b"ours", {"id": "b"}), name, queue.exchange, name, due=due)
    transport.publish([ours])
    assert fetch_one(consumer).message.body == b"ours"
    assert time.time() >= due


def test_the_key_of_a_delay_is_its_bits() -> None:
    assert native_delay.key(5.0, "a.b") == "0." * 25 + "1.0.1.a.b"
    assert native_delay.key(0.2, "x") == "0." * 27 + "1.x"


def test_what_celery_sends_with_an_eta_waits_in_the_broker(connect: Open) -> None:
    """Put back by the worker's intake, with a delay: not held in any memory."""
    name, transport = f"e{uuid.uuid4().hex[:8]}", connect()
    consumer = consume(transport, Queue(name=name))
    transport.publish([Publication(Message(b"x", {"id": "x"}), name)])
    delivery = fetch_one(consumer)
    assert not consumer.settle([Settlement(delivery.tag, "release", delay=60.0, counted=False)])
    (stats,) = transport.stats([name])
    assert (stats.ready, stats.delayed, stats.held) == (0, 1, 0)


def test_a_dead_letter_exchange_of_the_user_s_gets_what_expires(connect: Open) -> None:
    """Arguments of queues are the user's: they are declared as they are."""
    name, transport = f"u{uuid.uuid4().hex[:8]}", connect()
    arguments = {
        "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}.d",
    }  # fmt: skip
    transport.declare([Queue(name=f"{name}.d"), Queue(name=name, arguments=arguments)])
    transport.publish([Publication(Message(b"x", {"id": "x"}), name)])
    assert fetch_one(consume(transport, Queue(name=f"{name}.d"))).message.body == b"x"


@pytest.mark.parametrize(
    ("topic", "name", "queue", "ttl", "expires"),
    [
        (Topic("celery.pidbox"), "w@h", "w@h.celery.pidbox", 300000, 10000),
        (
            Topic("reply.celery.pidbox", "oid", "direct"), "",
            "oid.reply.celery.pidbox", 300000, 10000,
        ),
        (Topic("celeryev", "worker.#", "topic"), "", "celeryev.", 5000, 60000),
    ],
)  # fmt: skip
def test_control_and_events_declare_what_celery_declares(
    connect: Open, topic: Topic, name: str, queue: str, ttl: int, expires: int
) -> None:
    transport = connect()
    subscription = transport.broadcast().subscribe([topic], name=name)
    kind = topic.kind
    # Declaring again with Celery's own arguments is refused where anything differs.
    durable = topic.exchange == "celeryev"
    again = transport.connect(0.0, "check").channel()
    flags = bytes([durable * 2])
    exchange = b"\0\0" + short(topic.exchange) + short(kind) + flags + bytes(4)
    again.call(frames.EXCHANGE_DECLARE, exchange, frames.EXCHANGE_DECLARE_OK)
    made, arguments, lasting, exclusive = subscription._names.queue(topic, name)
    assert made.startswith(queue)
    assert arguments == {"x-expires": expires, "x-message-ttl": ttl}
    assert (lasting, exclusive) == (False, True)
    key = "worker.x" if durable else topic.routing_key
    transport.broadcast().publish([Notice(Topic(topic.exchange, key, kind), Message(b"{}"))])
    assert [notice.message.body for notice in subscription.receive(5.0)] == [b"{}"]
    subscription.close()
    again.link.close()
