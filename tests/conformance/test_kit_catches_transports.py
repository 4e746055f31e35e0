"""The transports' suite turns red on implementations that are broken on purpose.

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
from caraway.interfaces import Capability
from caraway.message import Publication, Settlement
from caraway.testing.conformance import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caraway.message import Completion, DeadLetter, Delivery, Message, Tag


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


class ForgetsDue(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from msgspec.structs import replace

        super().publish([replace(p, due=0.0) for p in publications])


class ForgetsPriority(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from msgspec.structs import replace

        super().publish([replace(p, priority=0) for p in publications])


class ForgetsExpiry(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from msgspec.structs import replace

        super().publish([replace(p, expires=0.0) for p in publications])


class LosesTheLastOfLargeBatches(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        super().publish(publications[:1000])


class TruncatesBodies(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from msgspec.structs import replace

        limit = 1024 * 1024
        super().publish(
            [
                replace(p, message=replace(p.message, body=p.message.body[:limit]))
                for p in publications
            ]
        )


class DecodesBodies(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from msgspec.structs import replace

        def through_text(message: Message) -> Message:
            return replace(message, body=message.body.decode("utf-8", "replace").encode())

        super().publish([replace(p, message=through_text(p.message)) for p in publications])


class PublishesLate(MemoryTransport):
    """``publish`` returns before the broker has the messages."""

    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        import threading

        kept = list(publications)

        def publish() -> None:
            with self.space.lock:
                self.space.put(kept, 0.0)

        later = threading.Timer(0.03, publish)
        later.daemon = True
        later.start()


class NamesTheWrongOnes(MemoryTransport):
    def publish(self, publications: Any, *, timeout: float = 5.0) -> None:
        from caraway.errors import PublishError

        good = [p for p in publications if "object" not in p.message.headers]
        super().publish(good)
        if len(good) < len(publications):
            raise PublishError("some failed", failed=(0,))


class LeaksForeignErrors(MemoryTransport):
    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("closed")


class RevivesTheLost(MemoryTransport):
    def renew(self, owners: Any) -> Sequence[str]:
        super().renew(owners)
        return ()


class RenewsNothing(MemoryTransport):
    def renew(self, owners: Any) -> Sequence[str]:
        return [owner for owner in owners if owner not in self.space.holders]


class ReclaimCounts(MemoryTransport):
    def reclaim(self, owner: str) -> int:
        with self.space.lock:
            return self.space.end_owner(owner, counted=True)


class ReclaimSpares(MemoryTransport):
    """Gives the messages back, but lets the owner live."""

    def reclaim(self, owner: str) -> int:
        with self.space.lock:
            holder = self.space.holders.get(owner)
            if holder is None:
                return 0
            entries = list(holder.held.values())
            holder.held.clear()
            return self.space.put_back(entries, counted=False)


class NeverSweeps(MemoryTransport):
    def consume(self, queues: Any, owner: Any) -> MemoryConsumer:
        from msgspec.structs import replace

        return super().consume(queues, replace(owner, lease=1e9))


class AdoptsCopies(MemoryTransport):
    """The heir gets the message, and so does the queue when the giver is reclaimed."""

    def adopt(self, owner: str, tags: Any, heir: str) -> Sequence[Delivery]:
        giver = self.space.holders.get(owner)
        kept = dict(giver.held) if giver is not None else {}
        adopted = super().adopt(owner, tags, heir)
        if giver is not None:
            giver.held.update(kept)
        return adopted


class ForgetsRevocations(MemoryTransport):
    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        super().revoke(task_ids, ttl=-1.0)


class RevokesForEver(MemoryTransport):
    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        super().revoke(task_ids, ttl=1e9)


class ReplaysAgainAndAgain(MemoryTransport):
    def dead_replay(self, ids: Sequence[str]) -> int:
        kept = dict(self.space.dead)
        count = super().dead_replay(ids)
        self.space.dead.update(kept)
        return count


class PagesByPosition(MemoryTransport):
    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        letters = list(super().dead(queue, limit=10**9))
        ids = [letter.id for letter in letters]
        begin = ids.index(after) + 1 if after in ids else 0
        return letters[begin : begin + limit]


class PurgesWhatIsHeld(MemoryTransport):
    def purge(self, queue: str) -> int:
        return self.delete(queue)


class PeekTakes(MemoryTransport):
    def peek(self, queue: str, *, limit: int = 20) -> Any:
        seen = super().peek(queue, limit=limit)
        line = self.space.lines.get(queue)
        if line is not None:
            line.ready.clear()
        return seen


class CountsOneTooFew(MemoryTransport):
    def broadcast(self) -> Any:
        channel = super().broadcast()
        publish = channel.publish
        channel.publish = lambda notices: publish(notices) - 1  # type: ignore[method-assign]
        return channel


class BroadcastsToOne(MemoryTransport):
    def broadcast(self) -> Any:
        subscriptions = self.space.subscriptions
        channel = super().broadcast()
        publish = channel.publish

        def publish_to_one(messages: Any) -> None:
            kept = subscriptions[1:]
            del subscriptions[1:]
            publish(messages)
            subscriptions.extend(kept)

        channel.publish = publish_to_one  # type: ignore[method-assign]
        return channel


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
    (
        ForgetsDue,
        [
            "a_message_is_not_delivered_before_it_is_due",
            "messages_become_due_one_by_one",
            "delayed_messages_do_not_hold_up_ready_ones",
        ],
    ),
    (ForgetsPriority, ["nine_is_served_before_zero", "messages_of_one_priority_keep_their_order"]),
    (ForgetsExpiry, ["expires_is_carried_to_the_delivery", "expires_outlives_a_release"]),
    (LosesTheLastOfLargeBatches, ["a_batch_of_thousands_arrives_whole_and_in_order"]),
    (TruncatesBodies, ["a_body_of_16_mebibytes_arrives"]),
    (
        DecodesBodies,
        [
            "a_message_is_delivered_as_it_was_published",
            "hostile_messages_arrive_as_they_are_or_are_refused",
        ],
    ),
    (PublishesLate, ["publish_returns_when_the_broker_has_the_messages"]),
    (NamesTheWrongOnes, ["of_a_batch_with_one_bad_message_it_is_known_which_are_in"]),
    (LeaksForeignErrors, ["a_closed_connection_says_so_in_our_words"]),
    (RevivesTheLost, ["renewing_tells_which_owners_are_lost_for_good"]),
    (RenewsNothing, ["a_renewed_lease_does_not_end"]),
    (ReclaimCounts, ["reclaiming_gives_all_back_at_once_uncounted"]),
    (ReclaimSpares, ["reclaiming_ends_the_owner"]),
    (
        NeverSweeps,
        [
            "when_a_lease_ends_others_are_given_the_messages_attempts_counted",
            "consumers_sweep_by_themselves_while_they_wait",
        ],
    ),
    (AdoptsCopies, ["an_heir_gets_the_deliveries_as_they_were"]),
    (
        ForgetsRevocations,
        ["revoked_tasks_are_remembered", "a_revoked_task_is_marked_at_the_fetch"],
    ),
    (RevokesForEver, ["a_revocation_ends_with_its_time"]),
    (ReplaysAgainAndAgain, ["a_letter_is_replayed_by_one_of_many"]),
    (PagesByPosition, ["dead_letters_are_listed_oldest_first_page_by_page"]),
    (PurgesWhatIsHeld, ["purge_drops_what_is_ready_but_not_what_is_held"]),
    (PeekTakes, ["peeking_takes_nothing"]),
    (CountsOneTooFew, ["publishing_tells_how_many_were_reached_or_that_it_cannot"]),
    (BroadcastsToOne, ["every_subscriber_of_a_fanout_exchange_is_reached"]),
]


@pytest.mark.parametrize(("broken", "expected"), CASES, ids=[case[0].__name__ for case in CASES])
def test_a_broken_transport_fails_the_tests_that_are_about_it(
    broken: type[MemoryTransport], expected: list[str]
) -> None:
    report = run(
        "transport",
        broken,
        lambda path: f"memory://{path.name}",
        backend_factory="caraway.builtin.memory:MemoryBackend",
        only=lambda name: name.removeprefix("test_") in expected,
        patience=1.0,
        entry_capabilities=broken.capabilities,
    )
    assert sorted(check.name for check in report.failed) == sorted(expected)
    assert not report.ok
    assert "does NOT keep the contract" in report.render()


def test_a_class_that_claims_more_than_its_entry_is_found_out() -> None:
    report = run(
        "transport",
        MemoryTransport,
        lambda path: f"memory://{path.name}",
        only=lambda name: name == "test_the_class_declares_what_its_entry_declares",
        entry_capabilities=MemoryTransport.capabilities - {Capability.PRIORITY},
    )
    assert [check.result for check in report.checks] == ["failed"]
