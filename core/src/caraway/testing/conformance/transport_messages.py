"""What every transport owes: `Transport.publish`, `Consumer.fetch`, `Consumer.wake`."""

from __future__ import annotations

import time

from caraway.errors import PublishError
from caraway.message import Message, Publication, Queue, Settlement
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies

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
