"""What every transport owes: settling, the care of queues, opening and closing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from caraway.errors import CarawayError, TransportError
from caraway.message import Delivery, Queue, Settlement
from caraway.testing.conformance.suite import raises
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies

if TYPE_CHECKING:
    from caraway.interfaces.transport import Transport


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
