"""Rounds of remote control: who hears a request is counted, where the broker lets us."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.interfaces import Context, Subscription
from caraway.message import Message, Notice, Topic
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import frames
from caraway_amqp.broadcast import AmqpSubscription
from caraway_amqp.channel import Channel
from caraway_amqp.frames import method, publish_to, short
from caraway_amqp.roll import Roll
from caraway_amqp.topology import bind_queue, declare_exchange, declare_queue
from caraway_amqp.transport import AmqpTransport

from .conftest import Place, until

LONG = 30.0


class Fleet:
    """Those who listen to one exchange of requests, and who asks them.

    Args:
        url: of the broker.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.topic = Topic(f"f{uuid.uuid4().hex[:8]}.pidbox")
        self.roll = Roll(self.topic.exchange)
        self.opened: list[Any] = []
        self.transport = self.connect()

    def connect(self, url: str = "", **settings: Any) -> AmqpTransport:
        made = AmqpTransport(Url.parse(url or self.url), {}, Context(settings=settings))
        self.opened.append(made)
        return made

    def ours(self, name: str = "", transport: AmqpTransport | None = None) -> AmqpSubscription:
        """A worker of Caraway's listens."""
        made = (transport or self.transport).broadcast().subscribe([self.topic], name=name)
        self.opened.append(made)
        return made

    def theirs(self) -> Channel:
        """A worker of Celery's listens."""
        link = self.transport.connect(0.0, "theirs")
        self.opened.append(link)
        channel, queue = link.channel(), f"{uuid.uuid4()}.{self.topic.exchange}"
        for which, arguments, answer in (
            (frames.EXCHANGE_DECLARE, declare_exchange(self.topic.exchange, "fanout",
             durable=False), frames.EXCHANGE_DECLARE_OK),
            (frames.QUEUE_DECLARE, declare_queue(queue, {}, durable=False, exclusive=True),
             frames.QUEUE_DECLARE_OK),
            (frames.QUEUE_BIND, bind_queue(queue, self.topic.exchange, ""), frames.QUEUE_BIND_OK),
            (frames.BASIC_CONSUME, b"\0\0" + short(queue) + b"\0\x02" + bytes(4),
             frames.BASIC_CONSUME_OK),
        ):  # fmt: skip
            channel.call(which, arguments, answer)
        return channel

    def publish(self, body: bytes = b"x", transport: AmqpTransport | None = None) -> int | None:
        channel = (transport or self.transport).broadcast()
        return channel.publish([Notice(self.topic, Message(body))])


@pytest.fixture(scope="module")
def poor_url(rabbitmq: Server) -> str:
    """Of a user who may not touch what is Caraway's own."""
    rabbitmq.control("add_user", "poor", "pw")
    rabbitmq.control("set_permissions", "-p", "/", "poor", *["^(?!caraway)"] * 3)
    return rabbitmq.url.replace("guest:guest@", "poor:pw@")


@pytest.fixture
def fleet(rabbitmq: Server) -> Iterator[Fleet]:
    made = Fleet(rabbitmq.url)
    yield made
    for each in reversed(made.opened):
        each.close()


def heard(subscription: Subscription) -> list[tuple[Topic, bytes]]:
    """All that came, up to a last one that is sent now."""
    return [(each.topic, each.message.body) for each in subscription.receive(LONG)]


def test_nobody_listens_where_nobody_ever_did(fleet: Fleet) -> None:
    assert fleet.publish() == 0
    assert fleet.publish() == 0


def test_our_workers_are_counted_and_hear_each_request_once(fleet: Fleet) -> None:
    workers = [fleet.ours(name) for name in ("a@x", "b@x", "")]
    for count in (3, 2, 1):
        assert fleet.publish(b"%d" % count) == count
        for worker in workers:
            assert heard(worker) == [(fleet.topic, b"%d" % count)]
        workers.pop().close()
    assert fleet.publish() == 0


def test_two_of_one_name_are_two(fleet: Fleet) -> None:
    first, second = fleet.ours("a@x"), fleet.ours("a@x", fleet.connect())
    assert fleet.publish() == 2
    assert heard(first) == heard(second) == [(fleet.topic, b"x")]


def test_with_a_worker_of_celery_nobody_can_say(fleet: Fleet) -> None:
    theirs = fleet.theirs()
    assert fleet.publish() is None
    ours = fleet.ours()
    assert fleet.publish() is None
    until(lambda: theirs.link.pump(1.0) and len(theirs.deliveries) == 2, "Celery's hears both")
    assert heard(ours) == [(fleet.topic, b"x")]
    theirs.link.close()
    assert fleet.publish() == 1


@pytest.mark.parametrize("key", ["", "celery", "a.b"])
def test_what_celerys_clients_send_reaches_both_kinds(fleet: Fleet, key: str) -> None:
    ours, theirs = fleet.ours(), fleet.theirs()
    content = frames.content(theirs.number, Message(b"x"), {}, theirs.link.frame_max)
    theirs.send(publish_to(theirs.number, fleet.topic.exchange, key) + content)
    assert heard(ours) == [(fleet.topic, b"x")]
    until(lambda: theirs.link.pump(1.0) and theirs.deliveries, "Celery's hears it")


def test_fleets_with_exchanges_of_their_own_are_counted_apart(fleet: Fleet) -> None:
    fleet.ours("a@x")
    other = Notice(Topic(f"o{fleet.topic.exchange}"), Message(b""))
    assert fleet.transport.broadcast().publish([other]) == 0
    assert fleet.publish() == 1


def test_who_may_not_be_on_the_roll_listens_as_celerys_do(fleet: Fleet, poor_url: str) -> None:
    poor = fleet.connect(poor_url)
    counted, other = fleet.ours(), fleet.ours("a@x", poor)
    assert fleet.publish(b"1") is None
    assert fleet.publish(b"2", poor) is None
    for worker in (counted, other):
        found = heard(worker)
        found += heard(worker) if len(found) == 1 else []
        assert found == [(fleet.topic, b"1"), (fleet.topic, b"2")]
    other.close()
    assert fleet.publish() == 1


def test_a_client_may_be_poorer_than_the_workers(fleet: Fleet, poor_url: str) -> None:
    ours, poor = fleet.ours(), fleet.connect(poor_url)
    # It sees that there is a roll, but must not write to our exchange.
    assert fleet.publish(b"1", poor) is None
    assert heard(ours) == [(fleet.topic, b"1")]


def test_queues_that_outlive_their_connection_are_not_counted(fleet: Fleet) -> None:
    """They may be bound from before, and would hear everything twice."""
    ours = fleet.ours("a@x", fleet.connect(control_queue_exclusive=False))
    assert fleet.publish() is None
    assert heard(ours) == [(fleet.topic, b"x")]


def test_a_roll_that_goes_is_entered_again(fleet: Fleet) -> None:
    ours = fleet.ours("a@x")
    channel = fleet.transport.connect(0.0, "admin").channel()
    fleet.opened.append(channel.link)
    gone = b"\0\0" + short(fleet.roll.name) + b"\0"
    channel.call(frames.QUEUE_DELETE, gone, frames.QUEUE_DELETE_OK)
    # Nobody is on it, but somebody listens.
    assert fleet.publish() in (None, 1)
    assert fleet.publish(b"y") in (None, 1)
    until(lambda: ours.receive(0.1) or fleet.publish() == 1, "it is counted again")


def test_an_exchange_of_ours_that_goes_is_no_reason_to_miss_anybody(fleet: Fleet) -> None:
    theirs = fleet.theirs()
    fleet.ours("a@x")
    gone = b"\0\0" + short(fleet.roll.name) + b"\0"
    theirs.call((40, 20), gone, (40, 21))
    assert fleet.publish() is None
    assert fleet.publish() is None
    until(lambda: theirs.link.pump(1.0) and len(theirs.deliveries) == 2, "Celery's hears both")


def test_what_is_written_to_the_roll_is_no_request(fleet: Fleet) -> None:
    ours = fleet.ours()
    channel = fleet.transport.connect(0.0, "admin").channel()
    fleet.opened.append(channel.link)
    content = frames.content(channel.number, Message(b"junk"), {}, channel.link.frame_max)
    channel.answer(
        publish_to(channel.number, "", fleet.roll.name) + content
        + method(channel.number, frames.BASIC_QOS, bytes(7)), frames.BASIC_QOS_OK,
    )  # fmt: skip
    assert fleet.publish() == 1
    found: list[Any] = []
    until(lambda: found.extend(ours.receive(1.0)) or found, "the request comes")
    assert [each.message.body for each in found] == [b"x"]


def test_the_broker_may_lead_nothing_to_other_exchanges(fleet: Fleet) -> None:
    link = fleet.transport.connect(0.0, "plain")
    fleet.opened.append(link)
    link.able = frozenset()
    assert not fleet.roll.enroll(link.channel(), "q", None)


def test_a_round_ends_with_the_last_worker_s_answer(place: Callable[..., Place]) -> None:
    here = place(control_exchange=f"f{uuid.uuid4().hex[:8]}")
    ping = here.app.control.ping
    assert ping(timeout=LONG) == []
    with here.worker("-n", "a@here", wait=False), here.worker("-n", "b@here", wait=False):
        with here.worker("-n", "c@here", wait=False) as third:
            # One that comes while a round begins is waited for, though it heard nothing.
            until(lambda: len(ping(timeout=1.0)) == 3, "all answer")
            began = time.monotonic()
            for _ in range(10):
                assert nodes(ping(timeout=LONG)) == ["a@here", "b@here", "c@here"]
            for _ in range(10):
                found = ping(pattern="[ab]@*", timeout=LONG)
                assert nodes(found) == ["a@here", "b@here"]
            assert ping(pattern="x@*", timeout=LONG) == []
            third.kill()
            # It is waited for as long as the broker knows no better.
            until(lambda: nodes(ping(timeout=0.5)) == ["a@here", "b@here"], "it is gone")
            assert nodes(ping(timeout=LONG)) == ["a@here", "b@here"]
            assert time.monotonic() - began < LONG
        # The last round of one that leaves has its answer.
        assert nodes(here.app.control.shutdown(reply=True, timeout=LONG)) == ["a@here", "b@here"]


def nodes(answers: list[dict[str, Any]]) -> list[str]:
    return sorted(node for answer in answers for node in answer)
