"""The transports' suite turns red on consumers that are broken on purpose: fetching, settling,
committing.

Each names the tests that must fail on it; that they pass on the sound implementation is
what test_memory.py shows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from caraway.builtin.memory import MemoryConsumer, MemoryTransport
from caraway.builtin.memory.consumer import keep
from caraway.builtin.memory.space import Entry
from caraway.errors import OwnerLost
from caraway.message import Publication, Settlement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caraway.message import Completion, Delivery, Message, Tag


class Broken(MemoryTransport):
    """A memory transport whose consumers are of another class."""

    consumer_class: type[MemoryConsumer] = MemoryConsumer

    def consume(self, queues: Any, owner: Any) -> MemoryConsumer:
        consumer = super().consume(queues, owner)
        consumer.__class__ = self.consumer_class
        return consumer


def broken_by(consumer: type[MemoryConsumer]) -> type[Broken]:
    return type(consumer.__name__, (Broken,), {"consumer_class": consumer})


class AcksEarly(MemoryConsumer):
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, timeout)
        super().settle([Settlement(delivery.tag) for delivery in taken])
        return taken


class LosesOrderOnRequeue(MemoryConsumer):
    def _return(self, entry: Entry, settlement: Settlement) -> None:
        self._space.seq += 1
        entry.seq = self._space.seq
        super()._return(entry, settlement)


class LosesPriorityOnRequeue(MemoryConsumer):
    def _return(self, entry: Entry, settlement: Settlement) -> None:
        entry.rank = 9
        super()._return(entry, settlement)


class DeliversTwice(MemoryConsumer):
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, timeout)
        with self._space.lock:
            for delivery in taken[:1]:
                self._space.put([Publication(delivery.message, delivery.queue)], 0.0)
        return taken


class NeverSaysFenced(MemoryConsumer):
    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        super().settle(settlements)
        return ()


class SettlesForAnybody(MemoryConsumer):
    """No fencing: a tag goes by the message, whoever holds it now."""

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, timeout)
        with self._space.lock:
            held = self._holder.held
            renamed = []
            for delivery in taken:
                entry = held.pop(delivery.tag)
                held[entry.seq] = entry
                renamed.append(_with_tag(delivery, entry.seq))
        return renamed

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        space = self._space
        fenced = []
        with space.lock:
            for settlement in settlements:
                for holder in space.holders.values():
                    entry = holder.held.pop(settlement.tag, None)
                    if entry is not None:
                        if settlement.action != "ack":
                            self._return(entry, settlement)
                        break
                else:
                    fenced.append(settlement.tag)
        return fenced


def _with_tag(delivery: Delivery, tag: Tag) -> Delivery:
    from msgspec.structs import replace

    return replace(delivery, tag=tag)


class ForgetsRelease(MemoryConsumer):
    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        return super().settle([Settlement(s.tag) for s in settlements])


class CountsNothing(MemoryConsumer):
    def _return(self, entry: Entry, settlement: Settlement) -> None:
        entry.attempts = 0
        super()._return(entry, settlement)


class CountsEverything(MemoryConsumer):
    def _return(self, entry: Entry, settlement: Settlement) -> None:
        super()._return(entry, Settlement(settlement.tag, settlement.action, settlement.delay))


class IgnoresDelayOfRelease(MemoryConsumer):
    def _return(self, entry: Entry, settlement: Settlement) -> None:
        kept = Settlement(
            settlement.tag,
            settlement.action,
            counted=settlement.counted,
            reason=settlement.reason,
            parked=settlement.parked,
        )
        super()._return(entry, kept)


class DropsUndecodable(MemoryConsumer):
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, timeout)
        good = [delivery for delivery in taken if _is_json(delivery.message)]
        bad = [Settlement(delivery.tag) for delivery in taken if not _is_json(delivery.message)]
        super().settle(bad)
        return good


def _is_json(message: Message) -> bool:
    return isinstance(message.headers.get("task", ""), str) and b"\xff" not in message.body[:300]


class FetchesTooMuch(MemoryConsumer):
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        return super().fetch(limit + 5, timeout)


class NeverWaits(MemoryConsumer):
    """Told to wait, it looks once more when the time is over."""

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, 0)
        if not taken and timeout > 0:
            time.sleep(timeout)
            taken = super().fetch(limit, 0)
        return taken


class MissesBetween(MemoryConsumer):
    """What arrives after the look and before the wait begins wakes nobody."""

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = super().fetch(limit, 0)
        if taken or timeout <= 0:
            return taken
        time.sleep(0.001)
        with self._space.lock:
            self._space.waiting += 1
            try:
                self._space.arrived.wait(timeout)
            finally:
                self._space.waiting -= 1
        return super().fetch(limit, 0)


class ForgetsWakes(MemoryConsumer):
    def wake(self) -> None:
        with self._space.lock:
            if self._space.waiting:
                self._woken = True
                self._space.arrived.notify_all()


class WakesForEver(MemoryConsumer):
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        woken = self._woken
        taken = super().fetch(limit, timeout)
        self._woken = woken or self._woken
        return taken


class OutlivesItsLease(MemoryConsumer):
    """Fetching without a lease gives nothing, for ever, and no word of it."""

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        try:
            return super().fetch(limit, timeout)
        except OwnerLost:
            return ()


class StarvesQueues(MemoryConsumer):
    def _take(self, limit: int) -> list[Delivery]:
        queues = self.queues
        try:
            for name in queues:
                self.queues = (name,)
                taken = super()._take(limit)
                if taken:
                    return taken
            return []
        finally:
            self.queues = queues


class KeepsOnClose(MemoryConsumer):
    def close(self) -> None:
        self._closed = True


class CommitsFenced(MemoryConsumer):
    """The commit is three steps, and the fence is looked at in the last."""

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        with self._space.lock:
            keep(
                self._space,
                [c.result for c in completions if c.result],
                self._pause.clock(),
            )
            for completion in completions:
                self._space.put(completion.publications, self._pause.clock())
        return self.settle([completion.settlement for completion in completions])


class CommitsHalf(MemoryConsumer):
    """A bad publication is found after half of the batch was applied."""

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        fenced: list[Tag] = []
        for completion in completions:
            for publication in completion.publications:
                if "object" in publication.message.headers:
                    from caraway.errors import EncodeError

                    raise EncodeError("half is applied already")
            fenced += super().commit([completion])
        return fenced


class CommitForgetsFollowUps(MemoryConsumer):
    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        from msgspec.structs import replace

        return super().commit([replace(c, publications=()) for c in completions])


class CommitOverwritesFinal(MemoryConsumer):
    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        with self._space.lock:
            for completion in completions:
                if completion.result is not None:
                    self._space.results.pop(completion.result.task_id, None)
        return super().commit(completions)


CASES: list[tuple[type[MemoryTransport], list[str]]] = [
    (
        broken_by(AcksEarly),
        [
            "a_message_that_is_not_settled_stays_with_its_owner",
            "a_closed_consumer_gives_back_what_it_held_uncounted",
            "when_a_lease_ends_others_are_given_the_messages_attempts_counted",
            "a_rejected_message_is_kept_whole_with_its_reason",
        ],
    ),
    (
        broken_by(LosesOrderOnRequeue),
        ["a_released_message_keeps_its_age"],
    ),
    (broken_by(LosesPriorityOnRequeue), ["a_released_message_keeps_its_priority"]),
    (
        broken_by(DeliversTwice),
        ["no_message_goes_to_two_consumers", "an_acknowledged_message_is_gone"],
    ),
    (
        broken_by(NeverSaysFenced),
        [
            "settling_twice_returns_the_tag_and_changes_nothing",
            "who_lost_the_lease_is_fenced_off",
            "an_owner_can_not_settle_what_another_holds",
            "reclaiming_ends_the_owner",
        ],
    ),
    (
        broken_by(SettlesForAnybody),
        ["who_lost_the_lease_is_fenced_off", "an_owner_can_not_settle_what_another_holds"],
    ),
    (
        broken_by(ForgetsRelease),
        ["a_released_message_is_delivered_again", "a_batch_may_mix_settlements"],
    ),
    (
        broken_by(CountsNothing),
        ["deliveries_are_counted_from_one", "reclaiming_keeps_attempts_counted_before"],
    ),
    (
        broken_by(CountsEverything),
        ["a_release_that_does_not_count_is_taken_off_the_attempts"],
    ),
    (broken_by(IgnoresDelayOfRelease), ["a_release_may_delay"]),
    (
        broken_by(DropsUndecodable),
        [
            "hostile_messages_arrive_as_they_are_or_are_refused",
            "a_message_is_delivered_as_it_was_published",
        ],
    ),
    (broken_by(FetchesTooMuch), ["a_fetch_takes_no_more_than_its_limit"]),
    (
        broken_by(NeverWaits),
        [
            "a_waiting_fetch_is_given_what_another_connection_publishes",
            "a_waiting_fetch_returns_when_it_is_woken",
            "a_waiting_fetch_is_given_what_becomes_due",
            "reclaiming_wakes_who_waits",
        ],
    ),
    (broken_by(MissesBetween), ["no_message_is_missed_between_looking_and_waiting"]),
    (broken_by(ForgetsWakes), ["a_wake_that_finds_nobody_waiting_ends_the_next_wait_only"]),
    (broken_by(WakesForEver), ["a_wake_that_finds_nobody_waiting_ends_the_next_wait_only"]),
    (
        broken_by(OutlivesItsLease),
        ["reclaiming_ends_the_owner", "who_lost_the_lease_is_fenced_off"],
    ),
    (broken_by(StarvesQueues), ["a_full_queue_does_not_starve_another"]),
    (
        broken_by(KeepsOnClose),
        [
            "a_closed_consumer_gives_back_what_it_held_uncounted",
            "consumers_end_with_their_connection",
        ],
    ),
    (
        broken_by(CommitsFenced),
        [
            "nothing_of_a_fenced_completion_is_applied",
            "the_rest_of_a_batch_is_applied_beside_a_fenced_one",
            "a_commit_repeated_is_fenced_and_publishes_nothing",
        ],
    ),
    (broken_by(CommitsHalf), ["a_commit_that_fails_applies_nothing"]),
    (
        broken_by(CommitForgetsFollowUps),
        ["a_commit_applies_result_follow_ups_and_settlement"],
    ),
    (broken_by(CommitOverwritesFinal), ["a_commit_does_not_change_a_final_state"]),
]


@pytest.mark.parametrize(("broken", "expected"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_consumer_fails_the_tests_that_are_about_it(
    assert_fails: Any, broken: type[MemoryTransport], expected: list[str]
) -> None:
    assert_fails(broken, expected)
