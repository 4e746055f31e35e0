"""The suite of result backends.

::

    from caraway.testing.conformance import BackendSuite


    class TestShelfBackend(BackendSuite):
        factory = "caraway_shelf.backend:ShelfBackend"

        def url(self, tmp_path):
            return f"shelf://{tmp_path}/store"

Each sentence of `caraway.interfaces.backend` has a test here.
"""

from __future__ import annotations

import time

import msgspec

from caraway import states
from caraway.errors import CarawayError
from caraway.interfaces.context import Capability
from caraway.message import StoredResult
from caraway.testing.conformance.backend_case import BackendCase, meta
from caraway.testing.conformance.backend_chords import ChordProcessTests, ChordTests
from caraway.testing.conformance.backend_groups import GroupTests, ProcessTests
from caraway.testing.conformance.suite import needs, raises, skip

FINAL = sorted(states.READY_STATES)
PASSING = ("RECEIVED", "STARTED", "RETRY", "PROGRESS")


class StoreTests(BackendCase):
    """`Backend.store`, `Backend.get`, `Backend.forget`."""

    def test_what_was_stored_is_got_as_it_was(self) -> None:
        value = "".join(map(chr, range(0x250))) + "\u2028\U0001f955"
        self.store("x", states.SUCCESS, value)
        payload = meta(states.SUCCESS, value)
        found = self.open().get([self.id("x")])
        assert list(found) == [self.id("x")]
        result = found[self.id("x")]
        assert (result.task_id, result.state, result.payload) == (self.id("x"), "SUCCESS", payload)

    def test_unknown_ids_are_left_out(self) -> None:
        self.store("known")
        found = self.backend.get([self.id("known"), self.id("unknown"), "", "'; --", "ü\x00"])
        assert list(found) == [self.id("known")]
        assert not self.backend.get([])

    def test_a_batch_of_thousands_is_stored_and_got(self) -> None:
        results = [
            StoredResult(self.id(index), "SUCCESS", meta("SUCCESS", str(index)))
            for index in range(3000)
        ]
        self.backend.store(results)
        found = self.backend.get([result.task_id for result in results])
        assert {i: r.payload for i, r in found.items()} == {r.task_id: r.payload for r in results}

    def test_a_payload_of_16_mebibytes_is_kept(self) -> None:
        value = "0123456789abcdef" * (1024 * 1024)
        self.store("big", value=value)
        payload = meta(states.SUCCESS, value)
        assert self.backend.get([self.id("big")])[self.id("big")].payload == payload

    def test_a_payload_of_another_serializer_is_kept(self) -> None:
        payload = msgspec.msgpack.encode({"status": "FAILURE", "result": bytes(range(256))})
        self.backend.store([StoredResult(self.id(), "FAILURE", payload)])
        found = self.open().get([self.id()])[self.id()]
        assert (found.state, found.payload) == ("FAILURE", payload)

    def test_a_later_passing_state_replaces_an_earlier_one(self) -> None:
        for state in PASSING:
            self.store(state=state, value=state)
            assert self.state() == state
        self.store(state=states.SUCCESS)
        assert self.state() == states.SUCCESS

    def test_a_final_state_never_gives_way(self) -> None:
        for final in FINAL:
            self.store(final, final, "first")
            for late in (*PASSING, *FINAL):
                self.store(final, late, "late", backend=self.open())
                found = self.backend.get([self.id(final)])[self.id(final)]
                assert (found.state, found.payload) == (final, meta(final, "first")), (
                    f"gave way to {late}"
                )

    def test_a_final_state_never_gives_way_within_one_batch(self) -> None:
        batch = [
            StoredResult(self.id(), "STARTED", meta("STARTED")),
            StoredResult(self.id(), "FAILURE", meta("FAILURE")),
            StoredResult(self.id(), "SUCCESS", meta("SUCCESS")),
            StoredResult(self.id(), "RETRY", meta("RETRY")),
        ]
        self.backend.store(batch)
        found = self.backend.get([self.id()])[self.id()]
        assert (found.state, found.payload) == ("FAILURE", meta("FAILURE"))

    def test_of_many_who_store_at_once_the_first_final_stands(self) -> None:
        backends = [self.open() for _ in range(6)]
        for number in range(10):

            def work(index: int, number: int = number) -> bytes:
                self.store(number, FINAL[index % 3], str(index), backend=backends[index])
                return bytes(backends[index].get([self.id(number)])[self.id(number)].payload)

            answers = set(self.at_once(work, 6))
            assert len(answers) == 1, f"a final state changed: {answers}"

    def test_storing_again_is_safe(self) -> None:
        for _ in range(3):
            self.store(value="same")
        assert self.backend.get([self.id()])[self.id()].payload == meta(states.SUCCESS, "same")

    def test_forgetting_drops_and_counts(self) -> None:
        for label in "abc":
            self.store(label)
        assert self.backend.forget([self.id("a"), self.id("b"), self.id("never")]) == 2
        assert self.backend.forget([self.id("a")]) == 0
        assert list(self.backend.get([self.id(label) for label in "abc"])) == [self.id("c")]

    def test_a_forgotten_task_may_be_stored_anew(self) -> None:
        self.store(state=states.FAILURE)
        self.backend.forget([self.id()])
        self.store(state=states.STARTED)
        assert self.state() == states.STARTED

    def test_a_batch_that_fails_leaves_the_store_sound(self) -> None:
        good = StoredResult(self.id("good"), "SUCCESS", meta("SUCCESS"))
        bad = StoredResult(self.id("bad"), "SUCCESS", object())  # type: ignore[arg-type]
        try:
            self.backend.store([good, bad])
        except (CarawayError, TypeError):
            pass
        self.store("after")
        assert self.state("after") == states.SUCCESS

    def test_threads_may_share_one_connection(self) -> None:
        def work(index: int) -> None:
            for number in range(20):
                label = f"{index}-{number}"
                self.store(label)
                assert self.state(label) == states.SUCCESS

        self.at_once(work, 8)


class WaitTests(BackendCase):
    """`Backend.wait`."""

    def test_waiting_for_what_is_final_returns_at_once(self) -> None:
        self.store("done", states.FAILURE, "x")
        self.store("running", states.STARTED)
        started = time.monotonic()
        ids = [self.id("done"), self.id("running"), self.id("unknown")]
        found = self.backend.wait(ids, self.patience)
        assert time.monotonic() - started < self.patience / 2
        assert list(found) == [self.id("done")]
        assert found[self.id("done")].payload == meta(states.FAILURE, "x")

    def test_waiting_returns_all_that_are_final(self) -> None:
        for label in "abc":
            self.store(label)
        found = self.backend.wait([self.id(label) for label in "abcd"], self.patience)
        assert sorted(found) == [self.id(label) for label in "abc"]

    def test_waiting_in_vain_ends_with_the_timeout(self) -> None:
        self.use_real_time()
        self.store("running", states.STARTED)
        waiting = self.spawn(self.backend.wait, [self.id("running"), self.id("unknown")], 0.2)
        assert waiting.result(self.patience) == {}
        assert waiting.seconds >= 0.15
        assert self.backend.wait([self.id("unknown")], 0) == {}

    def test_a_result_stored_by_another_connection_ends_the_wait(self) -> None:
        self.use_real_time()
        other = self.open()
        waiting = self.spawn(self.backend.wait, [self.id("x"), self.id("y")], self.patience * 3)
        time.sleep(0.1)
        self.store("y", backend=other)
        assert list(waiting.result(self.patience)) == [self.id("y")]

    def test_a_state_that_is_not_final_does_not_end_the_wait(self) -> None:
        self.use_real_time()
        waiting = self.spawn(self.backend.wait, [self.id()], self.patience * 3)
        time.sleep(0.05)
        self.store(state=states.STARTED)
        time.sleep(0.05)
        assert not waiting.ended.is_set()
        self.store(state=states.SUCCESS)
        assert list(waiting.result(self.patience)) == [self.id()]

    def test_no_result_is_missed_between_looking_and_waiting(self) -> None:
        self.use_real_time()
        other = self.open()
        for index in range(40):
            waiting = self.spawn(self.backend.wait, [self.id(index)], self.patience * 3)
            time.sleep((index % 5) / 2000)
            self.store(index, backend=other)
            assert list(waiting.result(self.patience)) == [self.id(index)]

    def test_many_may_wait_for_one_result(self) -> None:
        self.use_real_time()
        backends = [self.open() for _ in range(4)]
        waiting = [
            self.spawn(b.wait, [self.id()], self.patience * 3) for b in backends for _ in "ab"
        ]
        time.sleep(0.1)
        self.store()
        for waiter in waiting:
            assert list(waiter.result(self.patience)) == [self.id()]

    def test_one_may_wait_for_many_results(self) -> None:
        self.use_real_time()
        ids = [self.id(index) for index in range(1500)]
        waiting = self.spawn(self.backend.wait, ids, self.patience * 3)
        time.sleep(0.05)
        self.store(1234, backend=self.open())
        assert list(waiting.result(self.patience)) == [self.id(1234)]


class ExpiryTests(BackendCase):
    """``StoredResult.ttl`` and `Backend.cleanup`."""

    def test_an_expired_result_is_left_out(self) -> None:
        self.store("short", ttl=self.unit)
        self.store("long", ttl=100 * self.unit)
        self.store("forever")
        ids = [self.id(label) for label in ("short", "long", "forever")]
        assert len(self.backend.get(ids)) == 3
        self.pass_time(1.5)
        assert sorted(self.backend.get(ids)) == sorted(ids[1:])
        assert sorted(self.backend.wait(ids, 0)) == sorted(ids[1:])

    def test_an_expired_final_state_gives_way(self) -> None:
        self.store(state=states.FAILURE, ttl=self.unit)
        self.pass_time(1.5)
        self.store(state=states.STARTED)
        assert self.state() == states.STARTED

    def test_cleaning_up_keeps_what_is_not_expired(self) -> None:
        self.store("short", ttl=self.unit)
        self.store("forever")
        self.pass_time(1.5)
        assert self.backend.cleanup() >= 0
        assert self.state("forever") == states.SUCCESS
        assert self.state("short") == states.PENDING

    @needs(Capability.TTL)
    def test_nothing_is_left_to_forget_of_an_expired_result(self) -> None:
        self.store("short", ttl=self.unit)
        self.pass_time(1.5)
        assert self.backend.forget([self.id("short")]) == 0


class LifecycleTests(BackendCase):
    """Opening and closing, once, twice and very often."""

    def test_ping_is_answered(self) -> None:
        self.backend.ping()

    def test_closing_is_idempotent(self) -> None:
        backend = self.open()
        self.store(backend=backend)
        backend.close()
        backend.close()
        self.open().close()
        assert self.state() == states.SUCCESS

    def test_a_closed_connection_says_so_in_our_words(self) -> None:
        backend = self.open()
        backend.close()
        with raises(CarawayError):
            self.store(backend=backend)

    def test_connections_may_come_and_go_all_at_once(self) -> None:
        self.store("first")

        def come_and_go(thread: int) -> None:
            for index in range(12):
                backend = self._makers["make"](self.context)
                self.store(f"{thread}:{index}", backend=backend)
                backend.close()

        self.at_once(come_and_go, 8)
        ids = [self.id(f"{thread}:{index}") for thread in range(8) for index in range(12)]
        assert len(self.backend.get(ids)) == 96

    unreachable: str = ""
    """A URL of this kind where nothing answers; empty if there can be none."""

    def test_an_unreachable_store_is_told_in_our_words(self) -> None:
        if not self.unreachable:
            raise skip("no unreachable URL given")
        from caraway.testing.conformance.suite import load
        from caraway.url import Url

        with raises(CarawayError):
            backend = load(self.plain("factory"))(Url.parse(self.unreachable), {}, self.context)
            backend.store([StoredResult("x", "SUCCESS", meta("SUCCESS"))])


class BackendSuite(
    StoreTests,
    WaitTests,
    ExpiryTests,
    GroupTests,
    ChordTests,
    LifecycleTests,
    ProcessTests,
    ChordProcessTests,
):
    """All duties and extensions of a result backend."""
