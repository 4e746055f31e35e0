"""What every transport owes: publish, fetch, settle, and the care of queues."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from caraway.errors import CarawayError, PublishError, TransportError
from caraway.message import Delivery, Message, Publication, Queue, Settlement
from caraway.testing.conformance.suite import raises
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies

if TYPE_CHECKING:
    from caraway.interfaces.transport import Transport

MEBIBYTE = 1024 * 1024


class PublishTests(TransportCase):
    """`Transport.publish`, and that what comes out is what went in."""

    def test_a_message_is_delivered_as_it_was_published(self) -> None:
        message = Message(
            body=bytes(range(256)),
            headers={
                "task": "täsk.名前",
                "id": self.task_id(),
                "eta": None,
                "retries": 3,
                "ratio": 0.1,
                "timelimit": [None, 2.5],
                "flag": True,
                "nested": {"list": [1, "two", {"three": [3]}], "empty": {}},
            },
            content_type="application/x-check",
            content_encoding="binary",
            properties={"correlation_id": self.task_id(), "delivery_mode": 2, "reply_to": "x"},
        )
        self.transport.publish([Publication(message, self.name())])
        (delivery,) = self.take(self.consumer(), 1)
        assert delivery.message.body == message.body
        assert delivery.message.headers == message.headers
        assert delivery.message.content_type == message.content_type
        assert delivery.message.content_encoding == message.content_encoding
        for name, value in message.properties.items():
            assert delivery.message.properties.get(name) == value
        assert delivery.queue == self.name()
        assert delivery.attempt == 1
        assert not delivery.defect
        assert not delivery.revoked

    def test_publish_returns_when_the_broker_has_the_messages(self) -> None:
        consumer = self.consumer(transport=self.open())
        for index in range(20):
            self.publish(index)
            assert bodies(consumer.fetch(5, 0)) == [b"%d" % index]

    def test_publish_creates_queues_that_do_not_exist(self) -> None:
        self.publish(1, queue=self.name("new"))
        assert self.depth(self.name("new")).ready == 1

    def test_the_order_of_batches_is_kept(self) -> None:
        self.publish(*range(50))
        self.publish(*range(50, 60))
        taken = self.take(self.consumer(), 60)
        assert bodies(taken) == [b"%d" % index for index in range(60)]

    def test_a_message_goes_to_its_queue_only(self) -> None:
        self.publish("a", queue=self.name("a"))
        self.publish("b", queue=self.name("b"))
        assert bodies(self.consumer(self.name("b")).fetch(10, 0.2)) == [b"b"]
        assert bodies(self.consumer(self.name("a")).fetch(10, 0.2)) == [b"a"]

    def test_one_batch_may_go_to_many_queues(self) -> None:
        names = [self.name(f"many{index}") for index in range(5)]
        self.transport.publish([self.publication(name, name) for name in names])
        for name in names:
            assert bodies(self.take(self.consumer(name), 1)) == [name.encode()]

    def test_a_batch_of_thousands_arrives_whole_and_in_order(self) -> None:
        self.publish(*range(3000))
        consumer = self.consumer()
        assert self.drain(consumer, 3000, limit=500) == [b"%d" % index for index in range(3000)]

    def test_threads_may_publish_on_one_connection(self) -> None:
        def publish(thread: int) -> None:
            for index in range(25):
                self.publish(f"{thread}:{index}")

        self.transport.declare([Queue(name=self.name())])
        self.at_once(publish, 8)
        done = self.drain(self.consumer(), 200)
        assert len(done) == 200
        for thread in range(8):
            mine = [body for body in done if body.startswith(b"%d:" % thread)]
            assert mine == [b"%d:%d" % (thread, index) for index in range(25)]

    def test_an_empty_body_arrives(self) -> None:
        self.publish(b"")
        assert bodies(self.take(self.consumer(), 1)) == [b""]

    def test_a_body_of_16_mebibytes_arrives(self) -> None:
        body = bytes(range(256)) * (16 * MEBIBYTE // 256)
        self.publish(body)
        (delivery,) = self.take(self.consumer(), 1)
        assert delivery.message.body == body

    def test_a_header_of_a_mebibyte_arrives(self) -> None:
        message = Message(b"[]", {"task": "check", "id": self.task_id(), "long": "x" * MEBIBYTE})
        self.transport.publish([Publication(message, self.name())])
        (delivery,) = self.take(self.consumer(), 1)
        assert delivery.message.headers == message.headers

    def test_odd_names_of_queues_do_no_harm(self) -> None:
        for label in (
            "a b",
            "ü名",
            "it's",
            'q"; DROP TABLE message; --',
            "a/b",
            "%s{0}",
            "*",
            "x?",
        ):
            name = self.name(label)
            self.publish(label, queue=name)
            assert bodies(self.take(self.consumer(name), 1)) == [label.encode()]

    def test_hostile_messages_arrive_as_they_are_or_are_refused(self) -> None:
        deep: object = "end"
        for _ in range(100):
            deep = [deep]
        hostile = [
            Message(b"\x00\xff\xfe not utf-8 \x80", {"id": "\x00", "task": "a\nb"}),
            Message(b"{", {}),
            Message(b"x", {"deep": deep}),
            Message(b"x", {"id": ["not", "text"], "task": 7, "retries": "many"}),
            Message(b"x", {"id": "x" * 10_000, "": "", "__proto__": {}}),
            Message(b"x", {"big": 2**70, "small": -(2**63), "exp": 1e308}),
            Message(b"x", {"nan": float("nan")}, content_type="", content_encoding=""),
            Message(b"x", {"surrogate": "\ud800"}),
            Message(b"x", {"bytes": b"\xff"}),
            Message(b"x", {}, properties={"priority": "high", "expiration": [], "headers": 1}),
        ]
        for index, message in enumerate(hostile):
            queue = self.name(f"hostile{index}")
            try:
                self.transport.publish([Publication(message, queue)])
            except PublishError as error:
                if error.failed != (0,):
                    raise AssertionError(f"message {index}: failed is {error.failed}") from error
                continue
            (delivery,) = self.take(self.consumer(queue), 1)
            assert delivery.message.body == message.body or delivery.defect

    def test_of_a_batch_with_one_bad_message_it_is_known_which_are_in(self) -> None:
        bad = Message(b"bad", {"task": "check", "id": self.task_id("bad"), "object": object()})
        batch = [
            self.publication("one"),
            Publication(bad, self.name()),
            self.publication("two"),
        ]
        failed: tuple[int, ...] = ()
        try:
            self.transport.publish(batch)
        except PublishError as error:
            failed = error.failed
            if 1 not in failed:
                raise AssertionError(f"failed doesn't name the bad one: {failed}") from error
        expected = sorted(
            bytes(item.message.body) for index, item in enumerate(batch) if index not in failed
        )
        consumer = self.consumer()
        assert sorted(bodies(self.take(consumer, len(expected)))) == expected
        self.nothing(consumer)


class FetchTests(TransportCase):
    """`Consumer.fetch` and `Consumer.wake`."""

    def test_ready_messages_are_returned_at_once_however_few(self) -> None:
        consumer = self.consumer()
        self.publish(1, 2)
        started = time.monotonic()
        taken = consumer.fetch(100, self.patience)
        assert taken
        assert time.monotonic() - started < self.patience / 2

    def test_a_fetch_takes_no_more_than_its_limit(self) -> None:
        self.publish(*range(10))
        consumer = self.consumer()
        assert bodies(consumer.fetch(3, 0.2)) == [b"0", b"1", b"2"]
        assert bodies(consumer.fetch(1, 0.2)) == [b"3"]

    def test_a_fetch_with_timeout_zero_does_not_wait(self) -> None:
        consumer = self.consumer()
        started = time.monotonic()
        for _ in range(5):
            assert not consumer.fetch(10, 0)
        assert time.monotonic() - started < 1.0

    def test_a_fetch_that_finds_nothing_ends_with_its_timeout(self) -> None:
        consumer = self.consumer()
        fetching = self.spawn(consumer.fetch, 10, 0.2)
        assert not fetching.result(self.patience)

    def test_a_waiting_fetch_is_given_what_another_connection_publishes(self) -> None:
        self.use_real_time()
        consumer = self.consumer(transport=self.open())
        fetching = self.spawn(self.wait_one, consumer)
        time.sleep(0.1)
        self.publish("late")
        assert bodies([fetching.result(self.patience)]) == [b"late"]

    def test_no_message_is_missed_between_looking_and_waiting(self) -> None:
        self.use_real_time()
        consumer = self.consumer(transport=self.open())
        for index in range(60):
            fetching = self.spawn(self.wait_one, consumer)
            time.sleep((index % 6) / 2000)
            self.publish(index)
            delivery = fetching.result(self.patience)
            consumer.settle(ack(delivery))
            assert delivery.message.body == b"%d" % index

    def test_a_waiting_fetch_returns_when_it_is_woken(self) -> None:
        self.use_real_time()
        consumer = self.consumer()
        fetching = self.spawn(consumer.fetch, 10, self.patience * 3)
        time.sleep(0.1)
        consumer.wake()
        assert not fetching.result(self.patience)

    def test_a_wake_that_finds_nobody_waiting_ends_the_next_wait_only(self) -> None:
        self.use_real_time()
        consumer = self.consumer()
        consumer.wake()
        fetching = self.spawn(consumer.fetch, 10, self.patience * 3)
        assert not fetching.result(self.patience)
        fetching = self.spawn(consumer.fetch, 10, 0.3)
        fetching.result(self.patience)
        assert fetching.seconds >= 0.2, "one wake ended two waits"

    def test_deliveries_are_counted_from_one(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        for attempt in (1, 2, 3):
            (delivery,) = self.take(consumer, 1)
            assert delivery.attempt == attempt
            consumer.settle([Settlement(delivery.tag, "release")])

    def test_a_full_queue_does_not_starve_another(self) -> None:
        full, small = self.name("full"), self.name("small")
        self.publish(*range(200), queue=full)
        self.publish("small", queue=small)
        consumer = self.consumer(full, small)
        served = [body for _ in range(4) for body in bodies(consumer.fetch(10, 0.2))]
        assert b"small" in served

    def test_no_message_goes_to_two_consumers(self) -> None:
        self.publish(*range(400))

        def consume(_: int) -> list[bytes]:
            transport = self.open()
            consumer = self.consumer(transport=transport)
            done: list[bytes] = []
            while taken := consumer.fetch(7, 0.1):
                done += bodies(taken)
                consumer.settle(ack(*taken))
            return done

        done = [body for part in self.at_once(consume, 4) for body in part]
        assert sorted(done) == sorted(b"%d" % index for index in range(400))

    def test_consumers_of_one_connection_do_not_disturb_each_other(self) -> None:
        one, two = self.consumer(self.name("one")), self.consumer(self.name("two"))
        self.publish(1, queue=self.name("one"))
        self.publish(2, queue=self.name("two"))
        first, second = self.take(one, 1), self.take(two, 1)
        one.close()
        assert not two.settle(ack(*second))
        assert bodies(first) == [b"1"]


class SettleTests(TransportCase):
    """`Consumer.settle` and `Consumer.close`."""

    def test_an_acknowledged_message_is_gone(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        assert consumer.settle(ack(*self.take(consumer, 1))) in ([], ())
        consumer.close()
        self.nothing(self.consumer())
        stats = self.depth()
        assert (stats.ready, stats.held) == (0, 0)

    def test_a_message_that_is_not_settled_stays_with_its_owner(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        self.take(consumer, 1)
        self.nothing(self.consumer(transport=self.open()))
        assert self.depth().held == 1

    def test_a_released_message_is_delivered_again(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        assert not consumer.settle([Settlement(delivery.tag, "release")])
        (again,) = self.take(consumer, 1)
        assert again.message.body == b"1"
        assert again.attempt == 2

    def test_a_release_that_does_not_count_is_taken_off_the_attempts(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        for _ in range(3):
            (delivery,) = self.take(consumer, 1)
            assert delivery.attempt == 1
            consumer.settle([Settlement(delivery.tag, "release", counted=False)])

    def test_a_released_message_keeps_its_age(self) -> None:
        self.publish(1, 2, 3, 4)
        consumer = self.consumer()
        first, second = self.take(consumer, 2)
        consumer.settle([Settlement(d.tag, "release") for d in (second, first)])
        assert bodies(self.take(consumer, 4)) == [b"1", b"2", b"3", b"4"]

    def test_a_rejected_message_leaves_its_queue(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        assert not consumer.settle([Settlement(delivery.tag, "reject", reason="check")])
        consumer.close()
        self.nothing(self.consumer())

    def test_settling_twice_returns_the_tag_and_changes_nothing(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        consumer.settle(ack(delivery))
        for action in ("ack", "release", "reject"):
            settlement = Settlement(delivery.tag, action)
            assert list(consumer.settle([settlement])) == [delivery.tag]
        self.nothing(consumer)
        assert self.depth().ready == 0

    def test_of_one_tag_settled_twice_in_a_batch_the_first_holds(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        fenced = consumer.settle([Settlement(delivery.tag), Settlement(delivery.tag, "release")])
        assert list(fenced) == [delivery.tag]
        self.nothing(consumer)

    def test_an_owner_can_not_settle_what_another_holds(self) -> None:
        self.publish(1)
        holder, other = self.consumer(), self.consumer(transport=self.open())
        (delivery,) = self.take(holder, 1)
        assert list(other.settle(ack(delivery))) == [delivery.tag]
        assert self.depth().held == 1
        assert not holder.settle(ack(delivery))

    def test_a_batch_may_mix_settlements(self) -> None:
        self.publish(*range(6))
        consumer = self.consumer()
        taken = self.take(consumer, 6)
        actions = ("ack", "release", "reject", "ack", "release", "reject")
        fenced = consumer.settle(
            [Settlement(d.tag, a) for d, a in zip(taken, actions, strict=True)]  # type: ignore[arg-type]
        )
        assert not fenced
        assert bodies(self.take(consumer, 2)) == [b"1", b"4"]
        self.nothing(consumer)

    def test_one_fenced_settlement_does_not_hinder_the_others(self) -> None:
        self.publish(1, 2, 3)
        consumer = self.consumer()
        one, two, three = self.take(consumer, 3)
        consumer.settle(ack(two))
        assert list(consumer.settle(ack(one, two, three))) == [two.tag]
        stats = self.depth()
        assert (stats.ready, stats.held) == (0, 0)

    def test_a_closed_consumer_gives_back_what_it_held_uncounted(self) -> None:
        self.publish(1, 2, 3)
        consumer = self.consumer()
        self.take(consumer, 2)
        consumer.close()
        taken = self.take(self.consumer(transport=self.open()), 3)
        assert bodies(taken) == [b"1", b"2", b"3"]
        assert [delivery.attempt for delivery in taken] == [1, 1, 1]

    def test_what_a_closed_consumer_settles_is_fenced_off(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        consumer.close()
        try:
            assert list(consumer.settle(ack(delivery))) == [delivery.tag]
        except TransportError:
            pass
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]


class QueueTests(TransportCase):
    """Declaring, deleting, purging, counting."""

    def test_declaring_is_idempotent_and_keeps_messages(self) -> None:
        queues = [Queue(name=self.name()), Queue(name=self.name("other"))]
        self.transport.declare(queues)
        self.publish(1)
        self.transport.declare(queues)
        self.open().declare(queues)
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]

    def test_consume_creates_queues_that_do_not_exist(self) -> None:
        self.nothing(self.consumer(self.name("new")))
        assert self.name("new") in [stats.name for stats in self.transport.stats()]

    def test_delete_removes_the_messages_held_ones_too(self) -> None:
        self.publish(1, 2, 3)
        consumer = self.consumer()
        (held,) = self.take(consumer, 1)
        assert self.transport.delete(self.name()) == 3
        assert list(consumer.settle([Settlement(held.tag, "release")])) == [held.tag]
        self.nothing(self.consumer())

    def test_a_deleted_queue_can_be_used_again(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        self.transport.delete(self.name())
        self.publish(2)
        assert bodies(self.take(consumer, 1)) == [b"2"]

    def test_deleting_what_does_not_exist_removes_nothing(self) -> None:
        assert self.transport.delete(self.name("never")) == 0
        assert self.transport.purge(self.name("never")) == 0

    def test_purge_drops_what_is_ready_but_not_what_is_held(self) -> None:
        self.publish(1, 2, 3)
        self.publish("other", queue=self.name("other"))
        consumer = self.consumer()
        held = self.take(consumer, 1)
        assert self.transport.purge(self.name()) == 2
        self.nothing(consumer)
        assert not consumer.settle(ack(*held))
        assert self.depth(self.name("other")).ready == 1

    def test_stats_count_what_is_ready_and_held(self) -> None:
        self.publish(1, 2, 3)
        self.publish(1, queue=self.name("other"))
        self.take(self.consumer(), 1)
        stats = {found.name: found for found in self.transport.stats()}
        assert (stats[self.name()].ready, stats[self.name()].held) == (2, 1)
        assert stats[self.name("other")].ready == 1
        assert [found.name for found in self.transport.stats([self.name()])] == [self.name()]

    def test_the_age_of_the_oldest_message_is_told_if_known(self) -> None:
        self.publish(1)
        self.pass_time(1)
        oldest = self.depth().oldest
        assert oldest is None or self.unit * 0.8 <= oldest < self.unit * 10 + 60
        self.transport.purge(self.name())
        assert self.depth().oldest is None

    def test_consumers_are_counted_if_known(self) -> None:
        consumer = self.consumer()
        assert self.depth().consumers in (1, None)
        consumer.close()
        assert self.depth().consumers in (0, None)


class LifecycleTests(TransportCase):
    """Opening and closing, once, twice and very often."""

    def test_ping_is_answered(self) -> None:
        self.transport.ping()
        self.transport.ping()

    def test_closing_is_idempotent(self) -> None:
        transport = self.open()
        consumer = self.consumer(transport=transport)
        consumer.close()
        consumer.close()
        transport.close()
        transport.close()
        consumer.close()

    def test_a_connection_that_was_never_used_can_be_closed(self) -> None:
        self.open().close()

    def test_consumers_end_with_their_connection(self) -> None:
        self.publish(1)
        transport = self.open()
        consumer = self.consumer(transport=transport)
        self.take(consumer, 1)
        transport.close()
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]
        try:
            assert not consumer.fetch(10, 0)
        except TransportError:
            pass

    def test_a_waiting_fetch_ends_when_its_consumer_is_closed(self) -> None:
        self.use_real_time()
        consumer = self.consumer()

        def fetch() -> list[Delivery]:
            try:
                return list(consumer.fetch(10, self.patience * 3))
            except TransportError:
                return []

        fetching = self.spawn(fetch)
        time.sleep(0.1)
        consumer.wake()
        assert fetching.result(self.patience) == []
        consumer.close()

    def test_a_closed_connection_says_so_in_our_words(self) -> None:
        transport = self.open()
        transport.close()
        with raises(CarawayError):
            transport.publish([self.publication(1)])
        with raises(CarawayError):
            transport.ping()

    def test_closing_one_connection_leaves_the_others_alone(self) -> None:
        other = self.open()
        consumer = self.consumer()
        other.close()
        self.publish(1)
        assert bodies(self.take(consumer, 1)) == [b"1"]

    def test_messages_outlive_the_connection_that_published_them(self) -> None:
        transport = self.open()
        transport.publish([self.publication(1)])
        transport.close()
        assert bodies(self.take(self.consumer(transport=self.open()), 1)) == [b"1"]

    def test_connections_may_come_and_go_all_at_once(self) -> None:
        self.transport.declare([Queue(name=self.name())])

        def come_and_go(thread: int) -> None:
            for index in range(12):
                transport: Transport = self._makers["make"](self.context)
                try:
                    transport.publish([self.publication(f"{thread}:{index}")])
                    consumer = self.consumer(transport=transport)
                    consumer.fetch(1, 0)
                    consumer.close()
                finally:
                    transport.close()

        self.at_once(come_and_go, 8)
        assert len(set(self.drain(self.consumer(), 96))) == 96
