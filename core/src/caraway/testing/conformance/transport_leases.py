"""Who may settle what: leases and adoption."""

from __future__ import annotations

import time

from caraway.errors import CarawayError, OwnerLost
from caraway.interfaces.context import Capability
from caraway.message import (
    Settlement,
    new_owner_id,
)
from caraway.testing.conformance.suite import needs, raises, skip
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies


class LeaseTests(TransportCase):
    """`Capability.LEASE`: `Transport.renew`, `Transport.reclaim`, and fencing."""

    @needs(Capability.LEASE)
    def test_when_a_lease_ends_others_are_given_the_messages_attempts_counted(self) -> None:
        self.publish(1, 2)
        late = self.consumer(lease=2 * self.unit)
        self.take(late, 2)
        other = self.consumer(transport=self.open())
        self.nothing(other)
        self.pass_time(1)
        self.nothing(other)
        self.pass_time(1.5)
        taken = self.take(other, 2)
        assert bodies(taken) == [b"1", b"2"]
        assert [delivery.attempt for delivery in taken] == [2, 2]

    @needs(Capability.LEASE)
    def test_who_lost_the_lease_is_fenced_off(self) -> None:
        self.publish(1)
        late = self.consumer(lease=self.unit)
        (mine,) = self.take(late, 1)
        self.pass_time(1.5)
        other = self.consumer(transport=self.open())
        (theirs,) = self.take(other, 1)
        for action in ("ack", "release", "reject"):
            settlement = Settlement(mine.tag, action)
            assert list(late.settle([settlement])) == [mine.tag]
        assert self.depth().held == 1, "a fenced settlement had an effect"
        with raises(OwnerLost):
            late.fetch(1, 0)
        self.nothing(self.consumer())
        assert not other.settle(ack(theirs))

    @needs(Capability.LEASE)
    def test_a_renewed_lease_does_not_end(self) -> None:
        self.publish(1)
        consumer = self.consumer(lease=2 * self.unit)
        (delivery,) = self.take(consumer, 1)
        other = self.consumer(transport=self.open())
        renewer = self.open()
        for _ in range(5):
            self.pass_time(1)
            assert list(renewer.renew([consumer.owner.id])) == []
            self.nothing(other)
        assert not consumer.settle(ack(delivery))

    @needs(Capability.LEASE)
    def test_renewing_tells_which_owners_are_lost_for_good(self) -> None:
        alive = self.consumer(lease=100 * self.unit)
        lost = self.consumer(lease=self.unit)
        unknown = new_owner_id()
        self.pass_time(1.5)
        self.consumer(transport=self.open()).fetch(1, 0)
        asked = [alive.owner.id, lost.owner.id, unknown]
        for _ in range(2):
            gone = set(self.transport.renew(asked))
            assert alive.owner.id not in gone
            assert unknown in gone
        reclaimed = self.consumer(lease=100 * self.unit)
        self.transport.reclaim(reclaimed.owner.id)
        for _ in range(2):
            assert list(self.transport.renew([reclaimed.owner.id])) == [reclaimed.owner.id]

    @needs(Capability.LEASE)
    def test_consumers_sweep_by_themselves_while_they_wait(self) -> None:
        self.use_real_time()
        self.publish(1)
        late = self.consumer(lease=2 * self.tick)
        self.take(late, 1)
        other = self.consumer(transport=self.open())
        fetching = self.spawn(self.wait_one, other)
        assert fetching.result(self.patience).attempt == 2

    @needs(Capability.LEASE)
    def test_reclaiming_gives_all_back_at_once_uncounted(self) -> None:
        self.publish(*range(10))
        dead = self.consumer()
        self.take(dead, 7)
        assert self.open().reclaim(dead.owner.id) == 7
        taken = self.take(self.consumer(), 10)
        assert bodies(taken) == [b"%d" % index for index in range(10)]
        assert {delivery.attempt for delivery in taken} == {1}

    @needs(Capability.LEASE)
    def test_reclaiming_keeps_attempts_counted_before(self) -> None:
        self.publish(1)
        dead = self.consumer()
        (delivery,) = self.take(dead, 1)
        dead.settle([Settlement(delivery.tag, "release")])
        self.take(dead, 1)
        self.transport.reclaim(dead.owner.id)
        (again,) = self.take(self.consumer(), 1)
        assert again.attempt == 2

    @needs(Capability.LEASE)
    def test_reclaiming_ends_the_owner(self) -> None:
        self.publish(1)
        dead = self.consumer()
        (mine,) = self.take(dead, 1)
        self.transport.reclaim(dead.owner.id)
        assert list(dead.settle(ack(mine))) == [mine.tag]
        with raises(OwnerLost):
            dead.fetch(10, 0)
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]

    @needs(Capability.LEASE)
    def test_a_waiting_fetch_ends_when_its_owner_is_reclaimed(self) -> None:
        self.use_real_time()
        dead = self.consumer()
        fetching = self.spawn(dead.fetch, 1, self.patience / 2)
        time.sleep(0.1)
        self.transport.reclaim(dead.owner.id)
        self.publish(1)
        try:
            assert not fetching.result(self.patience), "an owner that was ended took messages"
        except OwnerLost:
            pass
        with raises(OwnerLost):
            dead.fetch(1, 0)
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]

    @needs(Capability.LEASE)
    def test_reclaiming_the_unknown_is_no_error(self) -> None:
        consumer = self.consumer()
        assert self.transport.reclaim(new_owner_id()) == 0
        assert self.transport.reclaim(consumer.owner.id) == 0
        assert self.transport.reclaim(consumer.owner.id) == 0

    @needs(Capability.LEASE)
    def test_reclaiming_wakes_who_waits(self) -> None:
        self.use_real_time()
        self.publish(1)
        dead = self.consumer()
        self.take(dead, 1)
        fetching = self.spawn(self.wait_one, self.consumer(transport=self.open()))
        time.sleep(0.1)
        self.transport.reclaim(dead.owner.id)
        assert bodies([fetching.result(self.patience)]) == [b"1"]

    @needs(Capability.LEASE)
    def test_what_was_settled_does_not_come_back(self) -> None:
        self.publish(1, 2)
        dead = self.consumer()
        one, _ = self.take(dead, 2)
        dead.settle(ack(one))
        assert self.transport.reclaim(dead.owner.id) == 1
        consumer = self.consumer()
        assert bodies(self.take(consumer, 1)) == [b"2"]
        self.nothing(consumer)

    @needs(Capability.LEASE)
    def test_a_jump_of_the_wall_clock_loses_nothing(self) -> None:
        if self.clock is None:
            raise skip("needs a virtual clock")
        self.publish(1, 2)
        consumer = self.consumer(lease=100 * self.unit)
        held = self.take(consumer, 1)
        for jump in (-86400.0, 2 * 86400.0, -86400.0):
            self.clock.jump(jump)
            self.transport.renew([consumer.owner.id])
            consumer.fetch(0, 0)
        taken = self.take(consumer, 1)
        assert bodies(taken) == [b"2"]
        fenced = consumer.settle(ack(*held, *taken))
        left = self.depth()
        # A store whose leases go by the wall clock may take the jump for the lease's
        # end; then the message is back in its queue, not gone.
        assert left.ready + left.held == len(fenced)

    @needs(Capability.LEASE, Capability.DELAY)
    def test_a_wall_clock_put_back_delays_but_loses_nothing(self) -> None:
        if self.clock is None:
            raise skip("needs a virtual clock")
        self.publish("later", due=self.now() + self.unit)
        consumer = self.consumer()
        self.clock.jump(-10 * self.unit)
        self.nothing(consumer)
        self.clock.jump(20 * self.unit)
        consumer = self.consumer()
        assert bodies(self.take(consumer, 1)) == [b"later"]


class AdoptTests(TransportCase):
    """`Capability.ADOPT`."""

    @needs(Capability.ADOPT)
    def test_an_heir_gets_the_deliveries_as_they_were(self) -> None:
        self.publish(1, 2, 3)
        dead, heir = self.consumer(), self.consumer(transport=self.open())
        one, two, _ = self.take(dead, 3)
        adopted = self.transport.adopt(dead.owner.id, [one.tag, two.tag], heir.owner.id)
        assert sorted(bodies(adopted)) == [b"1", b"2"]
        assert {delivery.tag for delivery in adopted} == {one.tag, two.tag}
        assert {delivery.attempt for delivery in adopted} == {1}
        assert self.transport.reclaim(dead.owner.id) == 1
        assert not heir.settle(ack(one, two))
        taken = self.take(self.consumer(), 1)
        assert bodies(taken) == [b"3"]

    @needs(Capability.ADOPT)
    def test_what_was_adopted_is_no_longer_the_giver_s(self) -> None:
        self.publish(1)
        dead, heir = self.consumer(), self.consumer()
        (delivery,) = self.take(dead, 1)
        self.transport.adopt(dead.owner.id, [delivery.tag], heir.owner.id)
        assert list(dead.settle(ack(delivery))) == [delivery.tag]
        assert not heir.settle([Settlement(delivery.tag, "release")])
        (again,) = self.take(heir, 1)
        assert again.attempt == 2

    @needs(Capability.ADOPT)
    def test_what_can_not_be_adopted_is_left_out(self) -> None:
        self.publish(1)
        dead, heir = self.consumer(), self.consumer()
        (delivery,) = self.take(dead, 1)
        dead.settle(ack(delivery))
        assert not self.transport.adopt(dead.owner.id, [delivery.tag], heir.owner.id)
        assert not self.transport.adopt(new_owner_id(), [delivery.tag], heir.owner.id)
        self.nothing(heir)

    @needs(Capability.ADOPT, Capability.LEASE)
    def test_an_unknown_heir_gets_nothing_and_nothing_is_lost(self) -> None:
        self.publish(1)
        dead = self.consumer()
        (delivery,) = self.take(dead, 1)
        try:
            assert not self.transport.adopt(dead.owner.id, [delivery.tag], new_owner_id())
        except CarawayError:
            pass
        self.transport.reclaim(dead.owner.id)
        assert bodies(self.take(self.consumer(), 1)) == [b"1"]
