"""The atomic commit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from caraway import states
from caraway.errors import CarawayError
from caraway.interfaces.context import Capability
from caraway.message import (
    Completion,
    Message,
    Publication,
    Settlement,
    StoredResult,
)
from caraway.testing.conformance.backend_case import meta
from caraway.testing.conformance.suite import needs
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend


class CommitTests(TransportCase):
    """`Capability.ATOMIC_COMMIT`: `Transport.shares_store` and `Consumer.commit`."""

    def pair(self) -> Backend:
        """The backend of the same store, after the transport was opened."""
        assert self.transport is not None
        backend: Backend = self.open_by("make_backend")
        return backend

    def result(self, name: str, state: str = states.SUCCESS, value: str = "") -> StoredResult:
        """A result of the task that `publication` makes of this body."""
        return StoredResult(self.task_id(name), state, meta(state, value))

    @needs(Capability.ATOMIC_COMMIT)
    def test_the_transport_knows_whose_results_it_can_commit(self) -> None:
        backend = self.pair()
        assert self.transport.shares_store(backend) is True

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_applies_result_follow_ups_and_settlement(self) -> None:
        backend = self.pair()
        self.publish("a", "b", "c")
        consumer = self.consumer()
        a, b, c = self.take(consumer, 3)
        fenced = consumer.commit(
            [
                Completion(
                    Settlement(a.tag),
                    self.result("a", value="\x00result"),
                    (
                        self.publication("next", self.name("next")),
                        self.publication("other", self.name("next"), due=self.now() + self.unit),
                    ),
                ),
                Completion(Settlement(b.tag, "release", counted=False), None),
                Completion(Settlement(c.tag, "reject", reason="x"), self.result("c", "FAILURE")),
            ]
        )
        assert not fenced
        found = backend.get([self.task_id(name) for name in "abc"])
        assert sorted(found) == [self.task_id("a"), self.task_id("c")]
        assert found[self.task_id("a")].payload == meta("SUCCESS", "\x00result")
        assert bodies(self.take(consumer, 1)) == [b"b"]
        follow = self.consumer(self.name("next"))
        assert bodies(self.take(follow, 1)) == [b"next"]
        self.nothing(follow)
        stats = self.depth()
        assert (stats.ready, stats.held) == (0, 1)

    @needs(Capability.ATOMIC_COMMIT)
    def test_nothing_of_a_fenced_completion_is_applied(self) -> None:
        backend = self.pair()
        self.publish("late", "good")
        late = self.consumer()
        lost, _ = self.take(late, 2)
        self.transport.reclaim(late.owner.id)
        other = self.consumer(transport=self.open())
        self.take(other, 2)
        follow_up = self.publication("follow", self.name("follow"))
        fenced = late.commit([Completion(Settlement(lost.tag), self.result("late"), (follow_up,))])
        assert list(fenced) == [lost.tag]
        assert not backend.get([self.task_id("late")])
        self.nothing(self.consumer(self.name("follow")))
        assert self.depth().held == 2

    @needs(Capability.ATOMIC_COMMIT)
    def test_the_rest_of_a_batch_is_applied_beside_a_fenced_one(self) -> None:
        backend = self.pair()
        self.publish("one", "two")
        consumer = self.consumer()
        one, two = self.take(consumer, 2)
        consumer.settle(ack(one))
        completions = [
            Completion(Settlement(one.tag), self.result("one"), (self.publication("f1"),)),
            Completion(Settlement(two.tag), self.result("two"), (self.publication("f2"),)),
        ]
        assert list(consumer.commit(completions)) == [one.tag]
        assert set(backend.get([self.task_id("one"), self.task_id("two")])) == {self.task_id("two")}
        assert bodies(self.take(consumer, 1)) == [b"f2"]
        self.nothing(consumer)

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_repeated_is_fenced_and_publishes_nothing(self) -> None:
        self.pair()
        self.publish("one")
        consumer = self.consumer()
        (one,) = self.take(consumer, 1)
        completion = Completion(Settlement(one.tag), None, (self.publication("follow"),))
        assert not consumer.commit([completion])
        assert list(consumer.commit([completion])) == [one.tag]
        assert self.depth().ready == 1

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_does_not_change_a_final_state(self) -> None:
        backend = self.pair()
        backend.store([self.result("x", states.REVOKED, "first")])
        self.publish("x")
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        assert not consumer.commit(
            [Completion(Settlement(delivery.tag), self.result("x", value="second"))]
        )
        found = backend.get([self.task_id("x")])[self.task_id("x")]
        assert (found.state, found.payload) == (
            states.REVOKED,
            meta(states.REVOKED, "first"),
        )
        assert self.depth().held == 0

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_that_fails_applies_nothing(self) -> None:
        backend = self.pair()
        self.publish("one", "two")
        consumer = self.consumer()
        one, two = self.take(consumer, 2)
        bad = Publication(Message(b"bad", {"object": object()}), self.name("follow"))
        good = self.publication("good", self.name("follow"))
        completions = [
            Completion(Settlement(one.tag), self.result("one"), (good,)),
            Completion(Settlement(two.tag), self.result("two"), (bad,)),
        ]
        try:
            consumer.commit(completions)
        except CarawayError:
            assert not backend.get([self.task_id("one"), self.task_id("two")])
            self.nothing(self.consumer(self.name("follow")))
            assert not consumer.settle(ack(one, two))
        else:
            assert len(backend.get([self.task_id("one"), self.task_id("two")])) == 2

    @needs(Capability.ATOMIC_COMMIT)
    def test_an_exchange_commits_and_fetches_no_more_than_is_there(self) -> None:
        backend = self.pair()
        self.publish(*"abcde")
        consumer = self.consumer()
        (first,) = taken = self.take(consumer, 1)
        fenced, fetched = consumer.exchange(
            [Completion(Settlement(first.tag), self.result("a"), (self.publication("f"),))], 2
        )()
        assert not fenced
        assert len(fetched) <= 2
        assert self.task_id("a") in backend.get([self.task_id("a")])
        taken += fetched
        taken += self.take(consumer, 6 - len(taken))
        assert bodies(taken) == [b"a", b"b", b"c", b"d", b"e", b"f"]
        assert {delivery.attempt for delivery in taken} == {1}
        # Again, and with one that is late by now.
        last = [Completion(Settlement(d.tag), self.result(str(n))) for n, d in enumerate(taken)]
        fenced, fetched = consumer.exchange(last, 10)()
        assert (list(fenced), list(fetched)) == ([first.tag], [])
        self.nothing(consumer)
        assert self.depth().held == 0

    @needs(Capability.ATOMIC_COMMIT)
    def test_an_exchange_may_be_ended_later(self) -> None:
        backend = self.pair()
        consumer, other = self.consumer(), self.consumer()
        self.publish(*"abcd")
        (first,) = self.take(consumer, 1)
        end = consumer.exchange([Completion(Settlement(first.tag), self.result("a"))], 1)
        # Others get on meanwhile.
        taken = self.take(other, 1)
        assert not other.settle(ack(*taken))
        fenced, fetched = end()
        assert not fenced
        assert self.task_id("a") in backend.get([self.task_id("a")])
        end = consumer.exchange((), 2)
        fenced, more = end()
        assert not fenced
        rest = [*fetched, *more]
        rest += self.take(consumer, 2 - len(rest))
        assert sorted(bodies([*taken, *rest])) == [b"b", b"c", b"d"]
        assert not consumer.settle(ack(*rest))
        assert self.depth().held == 0

    @needs(Capability.ATOMIC_COMMIT)
    def test_an_exchange_that_fails_loses_nothing(self) -> None:
        backend = self.pair()
        self.publish("one", "two", "three")
        consumer = self.consumer()
        (one,) = self.take(consumer, 1)
        bad = Publication(Message(b"bad", {"object": object()}), self.name("follow"))
        try:
            completion = Completion(Settlement(one.tag), self.result("one"), (bad,))
            fetched = list(consumer.exchange([completion], 1)()[1])
        except CarawayError:
            assert not backend.get([self.task_id("one")])
            assert not consumer.settle(ack(one))
            fetched = []
        fetched += self.take(consumer, 2 - len(fetched))
        assert bodies(fetched) == [b"two", b"three"]
        assert not consumer.settle(ack(*fetched))
        assert self.depth().held == 0

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_wakes_who_waits_for_the_result(self) -> None:
        self.use_real_time()
        backend = self.pair()
        self.publish("x")
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        waiting = self.spawn(backend.wait, [self.task_id("x")], self.patience * 3)
        time.sleep(0.1)
        consumer.commit([Completion(Settlement(delivery.tag), self.result("x"))])
        assert self.task_id("x") in waiting.result(self.patience)

    @needs(Capability.ATOMIC_COMMIT)
    def test_a_commit_wakes_who_waits_for_the_follow_up(self) -> None:
        self.use_real_time()
        self.pair()
        self.publish("x")
        consumer = self.consumer()
        (delivery,) = self.take(consumer, 1)
        other = self.consumer(self.name("follow"), transport=self.open())
        waiting = self.spawn(self.wait_one, other)
        time.sleep(0.1)
        follow_up = self.publication("follow", self.name("follow"))
        consumer.commit([Completion(Settlement(delivery.tag), None, (follow_up,))])
        assert bodies([waiting.result(self.patience)]) == [b"follow"]
