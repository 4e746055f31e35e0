"""What may go wrong on a real RabbitMQ, and what must hold all the same."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces import Context
from caraway.message import Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import renewal
from caraway_amqp.consumer import AmqpConsumer
from caraway_amqp.transport import AmqpTransport

from .conftest import Place, until

Places = Callable[..., Place]
Open = Callable[..., AmqpTransport]


@pytest.fixture
def connect(rabbitmq: Server) -> Iterator[Open]:
    opened: list[AmqpTransport] = []

    def make(url: str = "", **options: Any) -> AmqpTransport:
        made = AmqpTransport(Url.parse(url or rabbitmq.url), options, Context())
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def name() -> str:
    return f"f{uuid.uuid4().hex[:10]}"


def consume(transport: AmqpTransport, *queues: str) -> AmqpConsumer:
    return transport.consume([Queue(name=q) for q in queues], Owner(id=new_owner_id()))


def publish(transport: AmqpTransport, queue: str, *bodies: object) -> None:
    transport.publish(
        [Publication(Message(str(b).encode(), {"id": f"{queue}-{b}"}), queue) for b in bodies]
    )


def take(consumer: AmqpConsumer, count: int, patience: float = 20.0) -> list[Any]:
    """Fetch until so many came, connection errors or not."""
    taken: list[Any] = []
    end = time.monotonic() + patience
    while len(taken) < count:
        assert time.monotonic() < end, f"{len(taken)} of {count} came"
        try:
            taken += consumer.fetch(count - len(taken), 0.2)
        except TransportUnavailable:
            time.sleep(0.05)
    return taken


def refused(transport: AmqpTransport, queue: str) -> bool:
    """True if a publish is refused in time."""
    try:
        transport.publish([Publication(Message(b"x"), queue)], timeout=0.2)
    except TransportUnavailable as exc:
        return "memory" in str(exc)
    return False


def insist(transport: AmqpTransport, queue: str) -> None:
    """Publish until it is refused: a fresh connection is blocked by its first publish."""
    for _ in range(3):
        transport.publish([Publication(Message(b"x"), queue)], timeout=1.0)


def ack(*deliveries: Any) -> list[Settlement]:
    return [Settlement(each.tag) for each in deliveries]


# -- tasks that take long --------------------------------------------------------------


def test_a_task_that_holds_the_interpreter_s_lock_keeps_its_message(place: Places) -> None:
    here = place(broker_heartbeat=1.0)
    with here.worker():
        here.send("hog", "a", 5.0)
        until(lambda: "end a" in here.said(), "it ends")
        here.send("nap", "b")
        until(lambda: "end b" in here.said(), "the next one ends")
    assert here.said() == ["begin a", "end a", "begin b", "end b"]


@pytest.fixture
def impatient(rabbitmq: Server) -> Iterator[None]:
    """The broker closes channels that hold a delivery for two seconds."""
    both = ("consumer_timeout, 2000", "channel_tick_interval, 500")
    rabbitmq.control("eval", " ".join(f"application:set_env(rabbit, {each})," for each in both)
                     + " ok.")  # fmt: skip
    yield
    both = ("consumer_timeout, 1800000", "channel_tick_interval, 60000")
    rabbitmq.control("eval", " ".join(f"application:set_env(rabbit, {each})," for each in both)
                     + " ok.")  # fmt: skip


@pytest.mark.usefixtures("impatient")
def test_what_is_held_longer_than_the_broker_s_patience_stays_ours(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "_AFTER", 0.5)
    queue, ours, theirs = name(), connect(consumer_timeout=1.0), connect()
    consumer, other = consume(ours, queue), consume(theirs, queue)
    publish(ours, queue, *"abcd")
    held = take(consumer, 4)
    begin = time.monotonic()
    while time.monotonic() - begin < 4.0:
        assert not other.fetch(4, 0.2), "it was given to another"
    # Each way in which it may end.
    a, b, c, d = held
    assert not consumer.settle(
        [
            Settlement(a.tag),
            Settlement(b.tag, "release"),
            Settlement(c.tag, "release", counted=False),
        ]
    )
    back = take(consumer, 2)
    assert not consumer.settle(ack(*back))
    assert sorted((each.message.body, each.attempt) for each in back) == [(b"b", 2), (b"c", 1)]
    # The process dies with the last one: it comes back, counted.
    assert not consumer.fetch(1, 0)
    assert consumer._link is not None
    consumer._link.fail(TransportUnavailable("a test"))
    (last,) = take(other, 1)
    assert (last.message.body, last.attempt) == (d.message.body, 2)
    assert not other.settle(ack(last))
    assert not other.fetch(4, 0.2)


def test_what_came_ahead_is_given_back_uncounted(connect: Open) -> None:
    queue, ours, theirs = name(), connect(), connect()
    publish(ours, queue, *range(40))
    consumer = consume(ours, queue)
    first = take(consumer, 10)
    consumer.recede()
    other = consume(theirs, queue)
    rest = take(other, 30)
    assert {each.attempt for each in rest} == {1}
    other.close()
    assert not consumer.settle(ack(*first))
    publish(ours, queue, "more")
    assert b"more" in [each.message.body for each in take(consumer, 31)]


# -- the broker goes -------------------------------------------------------------------


def test_a_drain_survives_the_loss_of_all_connections(place: Places, rabbitmq: Server) -> None:
    here = place()
    labels = [str(number) for number in range(150)]
    with here.worker():
        for label in labels:
            here.send("nap", label, 0.01)
        until(lambda: len(here.said()) > 20, "the drain begins")
        rabbitmq.control("close_all_connections", "a test")
        until(lambda: {f"end {label}" for label in labels} <= set(here.said()), "all end")
        until(lambda: not any(here.depths()), "nothing is left over")


def test_a_drain_survives_a_restart_of_the_node(place: Places, rabbitmq: Server) -> None:
    here = place()
    labels = [str(number) for number in range(100)]
    with here.worker():
        for label in labels:
            here.send("nap", label, 0.02)
        until(lambda: len(here.said()) > 10, "the drain begins")
        rabbitmq.restart(hard=True)
        back = time.monotonic()
        until(lambda: {f"end {label}" for label in labels} <= set(here.said()), "all end")
        assert time.monotonic() - back < 10.0


def test_an_alarm_stops_publishers_in_time_and_not_acknowledgements(
    connect: Open, rabbitmq: Server
) -> None:
    queue, transport = name(), connect()
    publish(transport, queue, "a")
    consumer = consume(transport, queue)
    (held,) = take(consumer, 1)
    rabbitmq.control("set_vm_memory_high_watermark", "0")
    try:
        # The broker looks at its memory every few seconds.
        until(lambda: refused(transport, f"{queue}.x"), "it is blocked")
        begin = time.monotonic()
        with pytest.raises(TransportUnavailable, match="memory") as caught:
            insist(transport, f"{queue}.x")
        assert 0.5 < time.monotonic() - begin < 4.0
        assert "rabbitmqctl status" in str(caught.value.hint)
        with pytest.raises(TransportUnavailable, match="memory"):
            transport.ping()
        assert not consumer.settle(ack(held))
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.6")
    transport.publish([Publication(Message(b"b"), queue)], timeout=20.0)
    (after,) = take(consumer, 1)
    assert (after.message.body, after.attempt) == (b"b", 1)


def test_a_queue_that_is_deleted_under_us_is_made_again(connect: Open, rabbitmq: Server) -> None:
    queue, transport = name(), connect()
    consumer = consume(transport, queue)
    publish(transport, queue, "a")
    (held,) = take(consumer, 1)
    rabbitmq.control("delete_queue", queue)
    publish(transport, queue, "b")
    (after,) = take(consumer, 1)
    assert after.message.body == b"b"
    assert consumer.settle(ack(held, after)) == [held.tag]


# -- it says what is wrong -------------------------------------------------------------


def test_wrong_credentials_and_hosts_are_told_apart(connect: Open, rabbitmq: Server) -> None:
    wrong = connect(rabbitmq.url.replace("guest:guest", "guest:no"))
    with pytest.raises(TransportError, match="refused the login") as caught:
        publish(wrong, "x", 1)
    assert not isinstance(caught.value, TransportUnavailable)
    assert "broker_login_method" in str(caught.value.hint)
    missing = connect(rabbitmq.url.removesuffix("//") + "/nowhere")
    with pytest.raises(TransportError, match="virtual host 'nowhere'") as caught:
        publish(missing, "x", 1)
    assert "rabbitmqctl add_vhost nowhere" in str(caught.value.hint)


QUORUM = {"arguments": {"x-queue-type": "quorum"}}


@pytest.mark.parametrize(
    ("theirs", "ours", "differs", "remedy"),
    [
        ({}, {"max_priority": 5}, "'x-max-priority'", "task_queue_max_priority"),
        ({"max_priority": 5}, {}, "'x-max-priority'", "task_queue_max_priority"),
        ({}, QUORUM, "'x-queue-type'", "task_default_queue_type"),
        (QUORUM, {}, "'x-queue-type'", "task_default_queue_type"),
        ({"arguments": {"x-message-ttl": 9000000}}, {}, "'x-message-ttl'", "task_queues"),
        ({"durable": False}, {}, "'durable'", "durable of the queue in task_queues"),
    ],
)  # fmt: skip
def test_a_queue_of_another_kind_is_used_with_a_warning_that_names_both_and_the_remedy(
    connect: Open,
    caplog: pytest.LogCaptureFixture,
    theirs: dict[str, Any],
    ours: dict[str, Any],
    differs: str,
    remedy: str,
) -> None:
    queue, transport, other = name(), connect(), connect()
    transport.declare([Queue(name=queue, **theirs)])
    with caplog.at_level(logging.WARNING, "caraway"):
        other.declare([Queue(name=queue, **ours)])
    (warning,) = [record.getMessage() for record in caplog.records]
    assert f"queue {queue!r} exists with other arguments than ours" in warning
    assert f"inequivalent arg {differs}" in warning
    assert "received" in warning
    assert "but current is" in warning
    assert remedy in warning
    assert f"rabbitmqctl delete_queue -p / {queue}" in warning
    publish(other, queue, 1)
    assert len(take(consume(other, queue), 1)) == 1
    transport.delete(queue)


def test_an_exchange_of_another_kind_is_used_with_a_warning(
    connect: Open, caplog: pytest.LogCaptureFixture
) -> None:
    queue, transport, other = name(), connect(), connect()
    made = {"name": queue, "exchange": f"{queue}.x", "routing_key": queue}
    transport.declare([Queue(**made, exchange_type="topic")])
    with caplog.at_level(logging.WARNING, "caraway"):
        other.declare([Queue(**made, exchange_type="direct")])
    (warning,) = [record.getMessage() for record in caplog.records]
    assert "inequivalent arg 'type'" in warning
    assert "current is 'topic'" in warning
    assert "exchange_type in task_queues" in warning
    other.publish([Publication(Message(b"1"), queue, f"{queue}.x", queue)])
    assert len(take(consume(other, queue), 1)) == 1
    transport.delete(queue)
