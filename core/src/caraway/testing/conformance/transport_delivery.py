"""What a transport may do with messages: delay, rank, expire, revoke, keep the dead."""

from __future__ import annotations

import time

from caraway.interfaces.context import Capability
from caraway.message import DeadLetter, Settlement, new_owner_id
from caraway.testing.conformance.suite import needs, timed
from caraway.testing.conformance.transport_case import TransportCase, bodies


class DelayTests(TransportCase):
    """`Capability.DELAY`."""

    @needs(Capability.DELAY)
    @timed
    def test_a_message_is_not_delivered_before_it_is_due(self) -> None:
        due = self.now() + 2 * self.unit
        self.publish("later", due=due)
        consumer = self.consumer()
        self.nothing(consumer)
        self.pass_time(1)
        self.nothing(consumer)
        self.pass_time(1.1)
        (delivery,) = self.take(consumer, 1)
        assert delivery.message.body == b"later"
        assert abs(delivery.due - due) < 0.01
        assert delivery.attempt == 1

    @needs(Capability.DELAY)
    def test_what_is_due_in_the_past_is_delivered_at_once(self) -> None:
        self.publish("past", due=self.now() - self.unit)
        assert bodies(self.consumer().fetch(1, 0.2)) == [b"past"]

    @needs(Capability.DELAY)
    def test_a_waiting_fetch_is_given_what_becomes_due(self) -> None:
        self.use_real_time()
        consumer = self.consumer(transport=self.open())
        fetching = self.spawn(self.wait_one, consumer)
        time.sleep(0.05)
        due = time.time() + self.tick
        self.publish("soon", due=due)
        assert bodies([fetching.result(self.patience)]) == [b"soon"]
        assert time.time() >= due - 0.005

    @needs(Capability.DELAY)
    def test_delayed_messages_do_not_hold_up_ready_ones(self) -> None:
        self.publish(*range(100), due=self.now() + 100 * self.unit)
        self.publish("ready")
        consumer = self.consumer()
        assert bodies(consumer.fetch(10, 0.2)) == [b"ready"]
        stats = self.depth()
        assert (stats.ready, stats.delayed, stats.held) == (0, 100, 1)

    @needs(Capability.DELAY)
    @timed
    def test_messages_become_due_one_by_one(self) -> None:
        now = self.now()
        for index in (3, 1, 2):
            self.publish(index, due=now + index * self.unit)
        consumer = self.consumer()
        for index in (1, 2, 3):
            self.pass_time(1.02)
            assert bodies(self.take(consumer, 1)) == [b"%d" % index]
            self.nothing(consumer)

    @needs(Capability.DELAY)
    @timed
    def test_a_release_may_delay(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        assert not consumer.settle([Settlement(delivery.tag, "release", delay=2 * self.unit)])
        self.nothing(consumer)
        self.nothing(self.consumer())
        assert self.depth().delayed == 1
        self.pass_time(2.1)
        (again,) = self.take(consumer, 1)
        assert again.attempt == 2

    @needs(Capability.DELAY)
    @timed
    def test_a_delayed_release_outlives_its_owner(self) -> None:
        self.publish(1)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        consumer.settle([Settlement(delivery.tag, "release", delay=self.unit, counted=False)])
        consumer.close()
        self.nothing(self.consumer())
        self.pass_time(1.1)
        (again,) = self.take(self.consumer(), 1)
        assert again.attempt == 1

    @needs(Capability.DELAY)
    def test_purge_drops_delayed_messages_too(self) -> None:
        self.publish(1, 2, due=self.now() + 100 * self.unit)
        self.publish(3)
        assert self.transport.purge(self.name()) == 3

    @needs(Capability.DELAY)
    def test_delete_removes_delayed_messages_too(self) -> None:
        self.publish(1, 2, due=self.now() + 100 * self.unit)
        assert self.transport.delete(self.name()) == 2

    @needs(Capability.DELAY)
    def test_delayed_messages_outlive_their_connection(self) -> None:
        transport = self.open()
        transport.publish([self.publication(1, due=self.now() + self.unit)])
        transport.close()
        consumer = self.consumer(transport=self.open())
        self.nothing(consumer)
        self.pass_time(1.1)
        assert bodies(self.take(consumer, 1)) == [b"1"]


class PriorityTests(TransportCase):
    """`Capability.PRIORITY`."""

    @needs(Capability.PRIORITY)
    def test_nine_is_served_before_zero(self) -> None:
        for priority in (0, 5, 9):
            self.publish(priority, priority=priority)
        taken = self.take(self.consumer(), 3)
        assert bodies(taken) == [b"9", b"5", b"0"]
        assert [delivery.priority for delivery in taken] == [9, 5, 0]

    @needs(Capability.PRIORITY)
    def test_messages_of_one_priority_keep_their_order(self) -> None:
        for index in range(20):
            self.publish(f"low{index}", priority=1)
            self.publish(f"high{index}", priority=8)
        expected = [f"high{i}" for i in range(20)] + [f"low{i}" for i in range(20)]
        assert bodies(self.take(self.consumer(), 40)) == [body.encode() for body in expected]

    @needs(Capability.PRIORITY)
    def test_a_released_message_keeps_its_priority(self) -> None:
        self.publish("low", priority=0)
        self.publish("high", priority=9)
        consumer = self.consumer()
        (high,) = self.take(consumer, 1)
        consumer.settle([Settlement(high.tag, "release")])
        assert bodies(self.take(consumer, 2)) == [b"high", b"low"]

    @needs(Capability.PRIORITY, Capability.DELAY)
    def test_a_delayed_message_keeps_its_priority(self) -> None:
        self.publish("high", priority=9, due=self.now() + self.unit)
        self.publish("low", priority=0)
        self.pass_time(1.1)
        assert bodies(self.take(self.consumer(), 2)) == [b"high", b"low"]


class ExpiryTests(TransportCase):
    """`Capability.EXPIRY`."""

    @needs(Capability.EXPIRY)
    def test_expires_is_carried_to_the_delivery(self) -> None:
        expires = self.now() + 50 * self.unit
        self.publish("until", expires=expires)
        self.publish("forever")
        until, forever = self.take(self.consumer(), 2)
        assert abs(until.expires - expires) < 0.01
        assert forever.expires == 0.0

    @needs(Capability.EXPIRY)
    def test_expires_outlives_a_release(self) -> None:
        expires = self.now() + 50 * self.unit
        self.publish("until", expires=expires)
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        consumer.settle([Settlement(delivery.tag, "release")])
        (again,) = self.take(consumer, 1)
        assert abs(again.expires - expires) < 0.01


class RevokeTests(TransportCase):
    """`Capability.REVOKE`."""

    @needs(Capability.REVOKE)
    def test_revoked_tasks_are_remembered(self) -> None:
        mine = [self.task_id(index) for index in range(50)]
        self.transport.revoke(mine[:30])
        self.transport.revoke(mine[:1])
        assert self.open().revoked(mine) == set(mine[:30])

    @needs(Capability.REVOKE)
    def test_a_revoked_task_is_marked_at_the_fetch(self) -> None:
        self.publish("before", "other")
        self.open().revoke([self.task_id("before"), self.task_id("after")])
        self.publish("after")
        taken = self.take(self.consumer(), 3)
        marked = {delivery.message.body: delivery.revoked for delivery in taken}
        assert marked == {b"before": True, b"other": False, b"after": True}

    @needs(Capability.REVOKE)
    def test_a_revocation_ends_with_its_time(self) -> None:
        self.transport.revoke([self.task_id("x")], ttl=self.unit)
        assert self.transport.revoked([self.task_id("x")]) == {self.task_id("x")}
        self.pass_time(1.2)
        assert self.transport.revoked([self.task_id("x")]) == set()
        self.publish("x")
        (delivery,) = self.take(self.consumer(), 1)
        assert not delivery.revoked


class DeadLetterTests(TransportCase):
    """`Capability.DEAD_LETTERS`."""

    def bury(self, *names: str, queue: str = "", parked: bool = False) -> list[DeadLetter]:
        """Reject messages of these bodies; their letters."""
        chosen = queue or self.name()
        self.publish(*names, queue=chosen)
        consumer = self.consumer(chosen)
        for name in names:
            (delivery,) = self.take(consumer, 1)
            settlement = Settlement(delivery.tag, "reject", reason=f"no {name}", parked=parked)
            assert not consumer.settle([settlement])
        consumer.close()
        return list(self.transport.dead(chosen))

    @needs(Capability.DEAD_LETTERS)
    def test_a_rejected_message_is_kept_whole_with_its_reason(self) -> None:
        before = self.now()
        (letter,) = self.bury("bad")
        publication = self.publication("bad")
        assert letter.message.body == b"bad"
        assert letter.message.headers == publication.message.headers
        assert letter.message.content_type == "application/json"
        assert (letter.queue, letter.reason, letter.kind) == (self.name(), "no bad", "dead")
        assert letter.attempt == 1
        assert before - 1 <= letter.at <= self.now() + 1
        assert list(self.open().dead_get([letter.id])) == [letter]

    @needs(Capability.DEAD_LETTERS)
    def test_parked_messages_are_told_from_dead_ones(self) -> None:
        self.bury("failed")
        letters = self.bury("unknown", parked=True)
        assert [letter.kind for letter in letters] == ["dead", "parked"]

    @needs(Capability.DEAD_LETTERS)
    def test_dead_letters_are_listed_oldest_first_page_by_page(self) -> None:
        letters = self.bury(*"abcdefg")
        assert bodies(letters) == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
        first = self.transport.dead(self.name(), limit=3)
        assert bodies(first) == [b"a", b"b", b"c"]
        # The page goes on even where its last letter is gone meanwhile.
        self.transport.dead_drop([first[-1].id])
        second = self.transport.dead(self.name(), limit=3, after=first[-1].id)
        assert bodies(second) == [b"d", b"e", b"f"]
        assert bodies(self.transport.dead(self.name(), after=second[-1].id)) == [b"g"]

    @needs(Capability.DEAD_LETTERS)
    def test_dead_letters_are_listed_by_queue(self) -> None:
        self.bury("a", queue=self.name("a"))
        self.bury("b", queue=self.name("b"))
        assert bodies(self.transport.dead(self.name("b"))) == [b"b"]
        ids = [letter.id for letter in self.transport.dead(limit=10_000)]
        assert len(set(ids)) == len(ids) >= 2

    @needs(Capability.DEAD_LETTERS)
    def test_a_replayed_letter_goes_to_the_tail_with_no_attempts(self) -> None:
        self.publish("again")
        consumer = self.consumer()
        for _ in range(3):
            (delivery,) = self.take(consumer, 1)
            consumer.settle([Settlement(delivery.tag, "release")])
        (delivery,) = self.take(consumer, 1)
        consumer.settle([Settlement(delivery.tag, "reject", reason="poison")])
        (letter,) = self.transport.dead(self.name())
        assert letter.attempt == 4
        self.publish("younger")
        assert self.transport.dead_replay([letter.id]) == 1
        younger, again = self.take(consumer, 2)
        assert bodies([younger, again]) == [b"younger", b"again"]
        assert again.attempt == 1
        assert not self.transport.dead(self.name())

    @needs(Capability.DEAD_LETTERS)
    def test_a_waiting_fetch_is_given_what_is_replayed(self) -> None:
        self.use_real_time()
        (letter,) = self.bury("again")
        fetching = self.spawn(self.wait_one, self.consumer())
        time.sleep(0.05)
        self.transport.dead_replay([letter.id])
        assert bodies([fetching.result(self.patience)]) == [b"again"]

    @needs(Capability.DEAD_LETTERS)
    def test_a_letter_is_replayed_by_one_of_many(self) -> None:
        letters = self.bury(*"abcdef")
        ids = [letter.id for letter in letters]
        transports = [self.open() for _ in range(4)]
        replayed = self.at_once(lambda index: transports[index].dead_replay(ids), 4)
        assert sum(replayed) == 6
        consumer = self.consumer()
        assert len(self.drain(consumer, 6)) == 6
        self.nothing(consumer)

    @needs(Capability.DEAD_LETTERS)
    def test_a_dropped_letter_is_gone(self) -> None:
        one, two = self.bury("one", "two")
        assert self.transport.dead_drop([one.id]) == 1
        assert self.transport.dead_drop([one.id]) == 0
        assert bodies(self.transport.dead(self.name())) == [b"two"]
        assert list(self.transport.dead_get([one.id])) == []
        assert self.transport.dead_drop([two.id]) == 1
        self.nothing(self.consumer())

    @needs(Capability.DEAD_LETTERS)
    def test_unknown_letters_are_no_error(self) -> None:
        for ids in ([new_owner_id()], ["0"], ["999999999"], ["'; --"], []):
            assert self.transport.dead_replay(ids) == 0
            assert self.transport.dead_drop(ids) == 0
            assert list(self.transport.dead_get(ids)) == []

    @needs(Capability.DEAD_LETTERS)
    def test_dead_letters_outlive_a_purge(self) -> None:
        self.bury("kept")
        self.publish("dropped")
        assert self.transport.purge(self.name()) == 1
        assert bodies(self.transport.dead(self.name())) == [b"kept"]
