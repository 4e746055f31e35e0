"""What a transport may do for people and remote control: inspect, broadcast."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from caraway.interfaces.context import Capability
from caraway.message import Message, Notice, Queue, Settlement, Topic
from caraway.testing.conformance.suite import needs
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies

if TYPE_CHECKING:
    from caraway.interfaces.transport import Subscription


class InspectTests(TransportCase):
    """`Capability.INSPECT`."""

    @needs(Capability.INSPECT)
    def test_a_ready_message_is_found_with_what_goes_first(self) -> None:
        self.publish("first", "second", "third")
        (found,) = self.transport.find(self.task_id("third"))
        assert (found.place, found.queue, found.message.body) == ("ready", self.name(), b"third")
        assert found.ahead in (2, None)

    @needs(Capability.INSPECT, Capability.DELAY)
    def test_a_delayed_message_is_found_with_its_time(self) -> None:
        due = self.now() + 100 * self.unit
        self.publish("later", due=due)
        (found,) = self.transport.find(self.task_id("later"))
        assert found.place == "delayed"
        assert abs(found.due - due) < 0.01

    @needs(Capability.INSPECT)
    def test_a_held_message_is_found_with_its_owner(self) -> None:
        self.publish("held")
        consumer = self.consumer()
        self.take(consumer, 1)
        (found,) = self.open().find(self.task_id("held"))
        assert (found.place, found.owner, found.attempt) == ("held", consumer.owner.id, 1)

    @needs(Capability.INSPECT, Capability.DEAD_LETTERS)
    def test_a_dead_message_is_found_with_its_reason(self) -> None:
        self.publish("dead", "parked")
        consumer = self.consumer()
        dead, parked = self.take(consumer, 2)
        consumer.settle(
            [
                Settlement(dead.tag, "reject", reason="poison"),
                Settlement(parked.tag, "reject", reason="unknown task", parked=True),
            ]
        )
        (found,) = self.transport.find(self.task_id("dead"))
        assert (found.place, found.reason) == ("dead", "poison")
        (found,) = self.transport.find(self.task_id("parked"))
        assert (found.place, found.reason) == ("parked", "unknown task")

    @needs(Capability.INSPECT)
    def test_what_is_nowhere_is_not_found(self) -> None:
        self.publish("done")
        consumer = self.consumer()
        consumer.settle(ack(*self.take(consumer, 1)))
        assert not self.transport.find(self.task_id("done"))
        assert not self.transport.find(self.task_id("never"))

    @needs(Capability.INSPECT)
    def test_peeking_takes_nothing(self) -> None:
        self.publish(*range(30))
        for _ in range(2):
            seen = self.transport.peek(self.name(), limit=5)
            assert bodies(seen) == [b"0", b"1", b"2", b"3", b"4"]
        assert len(self.transport.peek(self.name())) == 20
        assert not self.transport.peek(self.name("never"))
        (delivery,) = self.take(self.consumer(), 1)
        assert (delivery.message.body, delivery.attempt) == (b"0", 1)

    @needs(Capability.INSPECT)
    def test_live_owners_are_listed_with_what_they_told(self) -> None:
        self.publish(1, 2)
        consumer = self.consumer(
            self.name(), self.name("b"), worker="w@h", host="h", pid=7, tasks=("a", "b")
        )
        self.take(consumer, 2)
        (found,) = (f for f in self.open().owners() if f.owner.id == consumer.owner.id)
        assert found.owner == consumer.owner
        assert sorted(found.queues) == sorted([self.name(), self.name("b")])
        assert found.held == 2
        assert found.expires > self.now()
        consumer.close()
        assert consumer.owner.id not in [f.owner.id for f in self.transport.owners()]

    @needs(Capability.INSPECT, Capability.LEASE)
    def test_owners_whose_lease_ended_are_not_listed(self) -> None:
        consumer = self.consumer(lease=self.unit)
        self.pass_time(1.5)
        self.consumer(self.name("other")).fetch(1, 0)
        assert consumer.owner.id not in [f.owner.id for f in self.transport.owners()]


class BroadcastTests(TransportCase):
    """`Capability.BROADCAST`."""

    def topic(self, key: str = "", kind: Literal["fanout", "direct", "topic"] = "topic") -> Topic:
        """A topic that only this test uses."""
        return Topic(f"check.{self.unique}.{kind}", key, kind)

    def notice(self, body: bytes, topic: Topic) -> Notice:
        return Notice(topic, Message(body))

    def receive(self, subscription: Subscription, count: int) -> list[tuple[str, bytes]]:
        """Receive so many; return (routing key, body) pairs."""
        deadline = time.monotonic() + self.patience
        got: list[Notice] = []
        while len(got) < count and time.monotonic() < deadline:
            got += subscription.receive(0.2)
        return [(notice.topic.routing_key, notice.message.body) for notice in got]

    @needs(Capability.BROADCAST)
    def test_every_subscriber_of_a_fanout_exchange_is_reached(self) -> None:
        self.use_real_time()
        topic = self.topic(kind="fanout")
        channels = [self.open().broadcast() for _ in range(3)]
        subscriptions = [channel.subscribe([topic], name="me@here") for channel in channels]
        channels[0].publish([self.notice(b"\x00\xff", topic)])
        for subscription in subscriptions:
            assert self.receive(subscription, 1) == [("", b"\x00\xff")]
            subscription.close()

    @needs(Capability.BROADCAST)
    def test_publishing_tells_how_many_were_reached_or_that_it_cannot(self) -> None:
        self.use_real_time()
        # Exchanges of remote control may be declared otherwise than any other.
        for topic in (self.topic(kind="fanout"), Topic(f"check.{self.unique}.pidbox")):
            channel = self.open().broadcast()
            subscriptions = [self.open().broadcast().subscribe([topic]) for _ in range(2)]
            reached = channel.publish([self.notice(b"1", topic)])
            assert reached is None or reached >= 2
            for subscription in subscriptions:
                assert self.receive(subscription, 1) == [("", b"1")]
                subscription.close()

    @needs(Capability.BROADCAST)
    def test_a_direct_message_reaches_those_who_subscribed_to_its_key(self) -> None:
        self.use_real_time()
        channel = self.open().broadcast()
        mine = channel.subscribe([self.topic("mine", "direct")])
        other = channel.subscribe([self.topic("other", "direct")])
        self.open().broadcast().publish(
            [
                self.notice(b"1", self.topic("mine", "direct")),
                self.notice(b"2", self.topic("nobody", "direct")),
                self.notice(b"3", self.topic("mine", "direct")),
            ]
        )
        assert self.receive(mine, 2) == [("mine", b"1"), ("mine", b"3")]
        assert not other.receive(0.05)
        mine.close()
        other.close()

    @needs(Capability.BROADCAST)
    def test_a_notice_arrives_as_it_was_sent(self) -> None:
        self.use_real_time()
        topic = self.topic("a.b")
        subscription = self.transport.broadcast().subscribe([topic])
        message = Message(b'{"x": 1}', {"clock": 7, "hostname": "w@h", "nested": {"é": [None]}})
        self.open().broadcast().publish([Notice(topic, message)])
        deadline = time.monotonic() + self.patience
        got: list[Notice] = []
        while not got and time.monotonic() < deadline:
            got += subscription.receive(0.2)
        (found,) = got
        assert (found.topic.exchange, found.topic.routing_key) == (topic.exchange, "a.b")
        assert found.message.body == message.body
        assert found.message.headers == message.headers
        assert found.message.content_type == "application/json"
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_only_subscribed_topics_are_received_in_order(self) -> None:
        self.use_real_time()
        channel = self.transport.broadcast()
        exact = channel.subscribe([self.topic("a"), self.topic("b.c")])
        below = channel.subscribe([self.topic("b.#")])
        every = channel.subscribe([self.topic("#")])
        keys = ["a", "c", "b.c", "b.d", "ab"]
        channel.publish([self.notice(key.encode(), self.topic(key)) for key in keys])
        channel.publish([self.notice(b"end", self.topic("b.c"))])
        assert [body for _, body in self.receive(exact, 3)] == [b"a", b"b.c", b"end"]
        assert [body for _, body in self.receive(below, 3)] == [b"b.c", b"b.d", b"end"]
        assert [key for key, _ in self.receive(every, 6)] == [*keys, "b.c"]
        assert not exact.receive(0.05)
        exact.close()
        below.close()
        every.close()

    @needs(Capability.BROADCAST)
    def test_late_subscribers_miss_what_went_before(self) -> None:
        self.use_real_time()
        channel = self.transport.broadcast()
        channel.publish([self.notice(b"early", self.topic("x"))])
        subscription = channel.subscribe([self.topic("x")])
        channel.publish([self.notice(b"late", self.topic("x"))])
        assert self.receive(subscription, 1) == [("x", b"late")]
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_publishing_to_nobody_is_no_error(self) -> None:
        self.transport.broadcast().publish(
            [self.notice(b"1", self.topic("x")), self.notice(b"", self.topic("y"))]
        )

    @needs(Capability.BROADCAST)
    def test_a_waiting_subscriber_is_woken_by_a_message(self) -> None:
        self.use_real_time()
        subscription = self.open().broadcast().subscribe([self.topic("x")])
        receiving = self.spawn(self.receive, subscription, 1)
        time.sleep(0.1)
        self.transport.broadcast().publish([self.notice(b"now", self.topic("x"))])
        assert receiving.result(self.patience) == [("x", b"now")]
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_a_waiting_subscriber_returns_when_it_is_woken(self) -> None:
        self.use_real_time()
        subscription = self.transport.broadcast().subscribe([self.topic("x")])
        receiving = self.spawn(subscription.receive, self.patience * 3)
        time.sleep(0.1)
        subscription.wake()
        assert list(receiving.result(self.patience)) == []
        subscription.close()
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_a_receive_that_gets_nothing_ends_with_its_timeout(self) -> None:
        self.use_real_time()
        subscription = self.transport.broadcast().subscribe([self.topic("x")])
        started = time.monotonic()
        assert not subscription.receive(0)
        assert not subscription.receive(0.1)
        assert time.monotonic() - started < self.patience / 2
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_messages_of_many_publishers_all_arrive(self) -> None:
        self.use_real_time()
        subscription = self.transport.broadcast().subscribe([self.topic("#")])
        channels = [self.open().broadcast() for _ in range(4)]

        def publish(index: int) -> None:
            for number in range(50):
                channels[index].publish([self.notice(b"%d" % number, self.topic(str(index)))])

        self.at_once(publish, 4)
        got = self.receive(subscription, 200)
        assert len(got) == 200
        for index in range(4):
            mine = [body for key, body in got if key == str(index)]
            assert mine == [b"%d" % number for number in range(50)]
        subscription.close()

    @needs(Capability.BROADCAST)
    def test_broadcasts_do_not_go_to_queues(self) -> None:
        self.transport.declare([Queue(name=self.name())])
        self.transport.broadcast().publish([self.notice(b"x", Topic(self.name()))])
        self.nothing(self.consumer())
