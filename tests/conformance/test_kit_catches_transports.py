"""The transports' suite turns red on transports that are broken on purpose: publishing,
leases, queues, dead letters, broadcasts.

Each names the tests that must fail on it; that they pass on the sound implementation is
what test_memory.py shows.  Consumers are in test_kit_catches_consumers.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from caraway.builtin.memory import MemoryConsumer, MemoryTransport
from caraway.interfaces import Capability
from caraway.testing.conformance import run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caraway.message import DeadLetter, Delivery, Message


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
    assert_fails: Any, broken: type[MemoryTransport], expected: list[str]
) -> None:
    assert_fails(broken, expected)


def test_a_class_that_claims_more_than_its_entry_is_found_out() -> None:
    report = run(
        "transport",
        MemoryTransport,
        lambda path: f"memory://{path.name}",
        only=lambda name: name == "test_the_class_declares_what_its_entry_declares",
        entry_capabilities=MemoryTransport.capabilities - {Capability.PRIORITY},
    )
    assert [check.result for check in report.checks] == ["failed"]
