"""What the broker delivered ahead waits in no consumer that is busy."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest

from caraway.interfaces import Context
from caraway.message import (
    Delivery,
    Message,
    Owner,
    Publication,
    Queue,
    Settlement,
    new_owner_id,
)
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import arrivals
from caraway_amqp.attempts import Attempts
from caraway_amqp.consumer import AmqpConsumer
from caraway_amqp.topology import derived
from caraway_amqp.transport import AmqpTransport

from .conftest import until

Open = Callable[[], AmqpTransport]


@pytest.fixture
def connect(rabbitmq: Server) -> Iterator[Open]:
    """Each as a process of its own has it: none knows what another gave back."""
    opened: list[AmqpTransport] = []

    def make() -> AmqpTransport:
        made = AmqpTransport(Url.parse(rabbitmq.url), {}, Context())
        made.attempts = Attempts()
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def consume(transport: AmqpTransport, queue: str) -> AmqpConsumer:
    return transport.consume([Queue(name=queue)], Owner(id=new_owner_id()))


def publish(transport: AmqpTransport, queue: str, *bodies: str) -> None:
    transport.publish(
        [Publication(Message(b.encode(), {"id": f"{queue}-{b}"}), queue) for b in bodies]
    )


def take(consumer: AmqpConsumer) -> Delivery:
    found: list[Delivery] = []
    until(lambda: found.extend(consumer.fetch(1, 0.2)) or found, "a message comes")
    (delivery,) = found
    return delivery


def test_a_busy_consumer_hands_on_a_suspect_that_came_ahead_uncounted(connect: Open) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    ours, theirs = connect(), connect()
    publish(ours, queue, "long")
    busy = consume(ours, queue)
    assert take(busy).message.body == b"long"
    # Somebody met a message that may have killed its process.
    publish(theirs, derived("suspects", queue), "suspect")
    until(lambda: _came(busy, queue), "it is delivered ahead")

    busy.recede()

    idle = consume(theirs, queue)
    suspect = take(idle)
    assert (suspect.message.body, suspect.attempt) == (b"suspect", 1)
    assert not idle.settle([Settlement(suspect.tag)])
    assert not idle.fetch(1, 0.2)


def _came(consumer: AmqpConsumer, queue: str, count: int = 1) -> bool:
    """Read what came, without handing it out."""
    assert consumer._link is not None
    with consumer._link.lock:
        while consumer._link.read():
            pass
    return consumer.counts(queue)[1] == count


def test_stops_of_workers_count_against_no_suspect(connect: Open) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    bodies = [str(number) for number in range(8)]
    first = connect()
    publish(first, queue, *bodies)
    dying = consume(first, queue)
    taken: list[Delivery] = []
    until(lambda: taken.extend(dying.fetch(8, 0.2)) or len(taken) == 8, "all came")
    assert dying._link is not None
    dying._link.close()  # as if it died: all of them are suspects

    for _ in range(6):
        # Each takes one in hand, and is told to stop while others are on their way.
        transport = connect()
        consumer = consume(transport, queue)
        take(consumer)
        consumer.close()

    last = connect()
    survivor = consume(last, queue)
    attempts = {}
    for _ in bodies:
        delivery = take(survivor)
        attempts[delivery.message.body.decode()] = delivery.attempt
        survivor.settle([Settlement(delivery.tag)])
    assert attempts == dict.fromkeys(bodies, 2)


def die(consumer: AmqpConsumer) -> None:
    """Go as a killed process does: nothing is given back."""
    assert consumer._link is not None
    consumer._link.close()


def suspects(connect: Open, queue: str, *bodies: str) -> None:
    """Messages that were with a consumer that died."""
    transport = connect()
    publish(transport, queue, *bodies)
    dying = consume(transport, queue)
    taken: list[Delivery] = []
    until(lambda: taken.extend(dying.fetch(8, 0.2)) or len(taken) == len(bodies), "all came")
    die(dying)


def test_a_suspect_that_only_waits_may_see_any_number_of_deaths(connect: Open) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    suspects(connect, queue, "waits")
    for number in range(5):
        transport = connect()
        busy = consume(transport, queue)
        publish(transport, queue, f"long{number}")
        # It moves to the queue of suspects with the first of these, and comes ahead.
        until(lambda: take(busy).message.body.startswith(b"long"), "it has its hands full")  # noqa: B023
        until(lambda: _came(busy, queue), "the suspect came ahead")  # noqa: B023
        busy.settle([Settlement(tag) for tag in _held(busy)])
        die(busy)

    suspect = take(consume(connect(), queue))

    assert (suspect.message.body, suspect.attempt) == (b"waits", 2)


def _held(consumer: AmqpConsumer) -> list[int]:
    assert consumer._session is not None
    return [arrival.delivery.tag for arrival in consumer._session.held.values()]


def test_each_run_of_a_suspect_counts_from_its_beginning(connect: Open) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    suspects(connect, queue, "poison")
    counted = []
    for _ in range(3):
        consumer = consume(connect(), queue)
        counted.append(take(consumer).attempt)
        die(consumer)

    assert counted == [2, 3, 4]


def test_what_is_in_doubt_is_not_held_against_who_ran_when_whole_workers_died(
    connect: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    suspects(connect, queue, "unlucky")
    counted = []
    for number in range(4):
        monkeypatch.setattr(arrivals, "worker_here", lambda: f"worker {number}")  # noqa: B023
        monkeypatch.setattr("caraway_amqp.session.worker_here", arrivals.worker_here)
        consumer = consume(connect(), queue)
        counted.append(take(consumer).attempt)
        die(consumer)

    assert counted == [2, 2, 3, 4]


def test_a_suspect_that_ends_takes_along_nothing_that_came_ahead(connect: Open) -> None:
    queue = f"a{uuid.uuid4().hex[:10]}"
    suspects(connect, queue, "suspect")
    transport = connect()
    consumer = consume(transport, queue)
    suspect = take(consumer)
    # A fetch that is woken leaves its window open: what is published then comes ahead.
    consumer.wake()
    assert not consumer.fetch(20, 30.0)
    publish(transport, queue, *[str(number) for number in range(20)])
    until(lambda: _came(consumer, queue, 20), "they are delivered ahead")
    first = take(consumer)
    assert consumer.counts(queue) == (2, 19)
    assert consumer._link is not None
    assert consumer._session is not None
    with consumer._link.lock:
        # After a long time: its copy has a later number than theirs.
        consumer._session.renew(0.0)
    assert not consumer.settle([Settlement(suspect.tag)])
    die(consumer)

    other = consume(connect(), queue)
    found: list[bytes] = []
    for _ in range(20):
        # All of them are suspects now, of which no two are run beside each other.
        delivery = take(other)
        found.append(delivery.message.body)
        assert not other.settle([Settlement(delivery.tag)])
    assert sorted(found) == sorted(b"%d" % number for number in range(20))
    assert first.message.body in found
    assert not other.fetch(1, 0.2)
