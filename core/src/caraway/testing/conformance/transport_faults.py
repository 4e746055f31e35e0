"""What happens when processes die, and when connections are cut."""

from __future__ import annotations

import random
import time
from typing import Any

from caraway.errors import TransportError
from caraway.interfaces.context import Capability
from caraway.message import Message, Publication
from caraway.testing.conformance.processes import ProcessCase
from caraway.testing.conformance.suite import needs, skip
from caraway.testing.conformance.transport_case import TransportCase, ack, bodies


class KillTests(TransportCase, ProcessCase):
    """What `Capability.SHARED` and `Capability.PERSISTENT` promise when processes die.

    Attributes:
        rounds: how often the tests kill at a random moment.
    """

    rounds = 5

    def victim_options(self) -> dict[str, Any]:
        backend = self.plain("backend_factory")
        return {
            "backend": backend if isinstance(backend, str) else "",
            "backend_url": self.backend_url(self.tmp_path) if backend else "",
            "queue": self.name(),
        }

    @needs(Capability.SHARED)
    def test_a_message_goes_to_one_of_many_processes(self) -> None:
        self.use_real_time()
        victims = [self.victim("consume", lease=600) for _ in range(3)]
        for victim in victims:
            victim.wait_for(1, self.patience)
        count = 300
        for begin in range(0, count, 10):
            self.publish(*range(begin, begin + 10))
        deadline = time.monotonic() + self.patience
        while sum(len(victim.said()) - 1 for victim in victims) < count:
            assert time.monotonic() < deadline, "not all messages were consumed"
            time.sleep(0.01)
        got = [line for victim in victims for line in victim.said()[1:]]
        assert sorted(got, key=int) == [str(index) for index in range(count)]

    @needs(Capability.SHARED)
    def test_a_process_that_waits_is_given_what_another_publishes(self) -> None:
        self.use_real_time()
        victim = self.victim("consume", lease=600)
        victim.wait_for(1, self.patience)
        for number in range(10):
            # Long enough for the other to be waiting.
            time.sleep(0.05)
            self.publish(number)
            victim.wait_for(number + 2, self.patience)
        assert victim.said()[1:] == [str(number) for number in range(10)]

    @needs(Capability.SHARED, Capability.PERSISTENT)
    def test_what_was_published_outlives_its_publisher(self) -> None:
        for _ in range(self.rounds):
            victim = self.victim("publish", count=100000)
            victim.wait_for(1 + random.randrange(20), self.patience)  # noqa: S311 - a moment
            victim.kill()
            acknowledged = {line.encode() for line in victim.said()}
            found = set(self.drain_all())
            assert acknowledged <= found, f"lost {sorted(acknowledged - found)[:5]}"
            assert len(found - acknowledged) <= 1, "a message that wasn't whole is there"

    def drain_all(self) -> list[bytes]:
        """All that is in the test's queue."""
        consumer = self.consumer(transport=self.open())
        done: list[bytes] = []
        while taken := consumer.fetch(500, 0.1):
            done += bodies(taken)
            consumer.settle(ack(*taken))
        consumer.close()
        return done

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE)
    def test_what_a_killed_owner_held_is_reclaimed_at_once(self) -> None:
        self.use_real_time()
        self.publish(*range(10))
        victim = self.victim("hold", count=4, lease=600)
        victim.wait_for(1, self.patience)
        victim.kill()
        owner = victim.said()[0]
        consumer = self.consumer()
        assert bodies(self.take(consumer, 6)) == [b"%d" % index for index in range(4, 10)]
        assert self.transport.reclaim(owner) == 4
        taken = self.take(consumer, 4)
        assert bodies(taken) == [b"0", b"1", b"2", b"3"]
        assert {delivery.attempt for delivery in taken} == {1}

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE)
    def test_what_a_killed_owner_held_comes_back_with_its_lease_counted(self) -> None:
        self.use_real_time()
        self.publish(1)
        victim = self.victim("hold", count=1, lease=3 * self.tick)
        victim.wait_for(1, self.patience)
        victim.kill()
        (delivery,) = self.take(self.consumer(), 1)
        assert delivery.attempt == 2

    @needs(Capability.SHARED, Capability.PERSISTENT, Capability.LEASE, Capability.ATOMIC_COMMIT)
    def test_a_kill_leaves_each_commit_whole_or_undone(self) -> None:
        self.use_real_time()
        backend = self.open_by("make_backend")
        count = 400
        for _ in range(self.rounds):
            self.publish(*range(count))
            victim = self.victim("commit", batch=5, follow=self.name("follow"), lease=600)
            victim.wait_for(2 + random.randrange(15), self.patience)  # noqa: S311 - a moment
            victim.kill()
            self.transport.reclaim(victim.said()[0])
            left = set(self.drain_all())
            followed = set(self.drain(self.consumer(self.name("follow")), count - len(left)))
            done = {b"%d" % index for index in range(count)} - left
            assert {b"after " + body for body in done} == followed
            ids = {body: self.task_id(body.decode()) for body in done | left}
            stored = backend.get(list(ids.values()))
            assert {body for body, task_id in ids.items() if task_id in stored} == done
            backend.forget(list(ids.values()))
            assert done or victim.said()[1:] == []


class ConnectionTests(TransportCase):
    """Connections that are cut, and brokers that aren't there."""

    unreachable: str = ""
    """A URL of this kind where nothing answers; empty if there can be none."""

    def cut(self) -> None:
        """Break the store's connections, as a restart of its server would; a suite
        whose store has no connections leaves this as it is."""
        raise skip("no cut() given")

    def test_after_a_cut_work_goes_on(self) -> None:
        self.use_real_time()
        consumer = self.consumer(lease=600)
        self.publish("before")
        self.cut()
        deadline = time.monotonic() + self.patience
        while True:
            try:
                self.publish("after")
                break
            except TransportError:
                # A lost answer: publishing again may double, and must not lose.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        done: set[bytes] = set()
        while done != {b"before", b"after"}:
            assert time.monotonic() < deadline, f"only {done} came after the cut"
            try:
                taken = consumer.fetch(10, 0.2)
                done |= set(bodies(taken))
                consumer.settle(ack(*taken)) if taken else None
            except TransportError:
                time.sleep(0.05)

    def test_an_unreachable_broker_is_told_in_our_words(self) -> None:
        if not self.unreachable:
            raise skip("no unreachable URL given")
        from caraway.testing.conformance.suite import load
        from caraway.url import Url

        try:
            transport = load(self.plain("factory"))(Url.parse(self.unreachable), {}, self.context)
            try:
                transport.publish([Publication(Message(b"x"), "x")], timeout=0.5)
            finally:
                transport.close()
        except TransportError:
            return
        raise AssertionError("publishing where nothing answers raised nothing")
