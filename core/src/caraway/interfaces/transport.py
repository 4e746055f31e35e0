"""The broker's contract.

Every method takes a batch of one or more, and blocks.  `Transport` methods may be called
from any thread.  A `Consumer` is used by one thread at a time; only `Consumer.wake` may
be called from another.  No object here is used across a fork: the child builds its own.

Errors: `TransportUnavailable` when trying again later may help, another
`TransportError` when it won't; never a driver's own exception.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from caraway.interfaces.context import Capability
from caraway.message import (
    Completion,
    DeadLetter,
    Delivery,
    Located,
    Notice,
    Owner,
    OwnerId,
    OwnerStats,
    Publication,
    Queue,
    QueueStats,
    Settlement,
    Tag,
    Topic,
)

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend


class Transport(ABC):
    """A connection to a broker."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    publishes_at_once: ClassVar[int] = 1
    """How many publishes of several threads it may pay to have under way at a time, where
    the broker is far: more than one if they use connections of their own."""
    fetches_at_once: int = 1024
    """How many short messages a fetch of a lane takes at most, unless the setting
    ``worker_prefetch_limit`` says so: more cost memory, fewer cost round trips."""
    alone: bool = True
    """False is set by who has other brokers to go to: then a publish that finds nobody to send
    to says so at once, rather than to try again until its timeout."""
    caution: str = ""
    """What this broker doesn't keep of Caraway's promises, one line; the worker's banner
    shows it."""

    @abstractmethod
    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        """Put messages into their queues; return when the broker has them all.

        Queues that don't exist are created.  Order within a queue and priority is the
        order of the batch.  May be repeated after an error: the worst is a duplicate.
        Killed half-way, each message is either whole in the broker or absent.

        Args:
            publications: one or more.
            timeout: seconds after which it gives up.

        Raises:
            PublishError: says which are not in the broker; the others are.
            TransportUnavailable: none is.
        """

    @abstractmethod
    def consume(self, queues: Sequence[Queue], owner: Owner) -> Consumer:
        """Register the owner with a fresh lease and open its consumer.

        Queues that don't exist are created.
        """

    @abstractmethod
    def declare(self, queues: Sequence[Queue]) -> None:
        """Create queues that don't exist.  Idempotent."""

    @abstractmethod
    def delete(self, queue: str) -> int:
        """Remove a queue and its messages, held ones too; return how many."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Drop a queue's ready and delayed messages, not held ones; return how many."""

    @abstractmethod
    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        """Depths of these queues, of all known ones if none is named, by name."""

    @abstractmethod
    def ping(self) -> None:
        """One round trip that fails where publishing would."""

    @abstractmethod
    def close(self) -> None:
        """Free what is held here.  Idempotent.  Consumers opened from here end too."""

    # -- LEASE -------------------------------------------------------------------------

    def renew(self, owners: Sequence[OwnerId]) -> Sequence[OwnerId]:
        """Extend the owners' leases from now; return those already lost.

        Costs per owner, not per message.  An owner once lost stays lost.
        """
        return ()

    def reclaim(self, owner: OwnerId) -> int:
        """Give back at once all that a dead owner held; return how many messages.

        They return to the head of their queue, with their attempt taken off the
        count: call `adopt` first for those that were running.  Ends the owner: what it
        does later is fenced off.  Unknown or already reclaimed owners are no error.
        Consumers sweep owners whose lease ended by themselves; then attempts stay
        counted, since nobody knows what ran.
        """
        return 0

    # -- ADOPT -------------------------------------------------------------------------

    def adopt(self, owner: OwnerId, tags: Sequence[Tag], heir: OwnerId) -> Sequence[Delivery]:
        """Hand deliveries from one owner to another; return those that could be.

        The attempt count stays.  The tags stay valid, for the heir's consumer.
        """
        raise NotImplementedError

    # -- REVOKE ------------------------------------------------------------------------

    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        """Mark tasks as revoked for ``ttl`` seconds, whether or not they exist yet."""
        raise NotImplementedError

    def revoked(self, task_ids: Sequence[str]) -> set[str]:
        """Those of these tasks that are revoked."""
        return set()

    # -- DEAD_LETTERS ------------------------------------------------------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        """Dead letters, oldest first; of one queue if named; page on with ``after``
        (the last id seen)."""
        raise NotImplementedError

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Those of these dead letters that exist."""
        raise NotImplementedError

    def dead_replay(self, ids: Sequence[str]) -> int:
        """Move dead letters back to the tail of their queue, attempts at zero;
        atomic per letter; return how many."""
        raise NotImplementedError

    def dead_drop(self, ids: Sequence[str]) -> int:
        """Delete dead letters; return how many."""
        raise NotImplementedError

    # -- INSPECT -----------------------------------------------------------------------

    def find(self, task_id: str) -> Sequence[Located]:
        """Where the messages of this task are.  May be slow; for people."""
        raise NotImplementedError

    def owners(self) -> Sequence[OwnerStats]:
        """Live owners."""
        raise NotImplementedError

    def peek(self, queue: str, *, limit: int = 20) -> Sequence[Located]:
        """The next ready messages of a queue, not taken.  For people."""
        raise NotImplementedError

    # -- BROADCAST ---------------------------------------------------------------------

    def broadcast(self) -> Broadcast:
        """The channel for remote control and events."""
        raise NotImplementedError

    # -- ATOMIC_COMMIT -----------------------------------------------------------------

    def shares_store(self, backend: Backend) -> bool:
        """True if `Consumer.commit` can store this backend's results too."""
        return False


class Consumer(ABC):
    """One owner's way to its deliveries."""

    owner: Owner
    queues: Sequence[str]

    @abstractmethod
    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        """Take up to ``limit`` messages under the owner's lease.

        Ready messages are returned at once, however few; of few it may leave some to
        other owners, which would be idle else.  If there are none, it waits
        up to ``timeout`` seconds (0 does not wait) for the first, without busy polling
        where the store can, and may return nothing earlier.  The attempt is counted
        in the store before this returns.  Queues are served fairly, within a queue by
        priority then age.  A message that can't be read is delivered with its
        ``defect``, never raised and never dropped.  Killed here, what was taken is
        reclaimed with the owner's lease.

        Raises:
            TransportUnavailable: nothing was taken, or what was is under the lease;
                calling again later is right, the consumer reconnects by itself.
            OwnerLost: the owner has no lease any more, and never will again.
        """

    @abstractmethod
    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        """Apply settlements; return the tags that were no longer ours (fenced off).

        Idempotent: settling twice returns the tag the second time and changes nothing.
        A rejected message is in the dead letters before it leaves the queue.
        """

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        """ATOMIC_COMMIT: apply whole completions as one; return the tags fenced off.

        Nothing of a fenced completion is applied: no result, no publication.  Killed
        half-way, all of the batch is applied or none.  A stored final state never
        gives way to a late one.
        """
        raise NotImplementedError

    def exchange(
        self, completions: Sequence[Completion], limit: int
    ) -> Callable[[], tuple[Sequence[Tag], Sequence[Delivery]]]:
        """Begin a `commit`, and in the same round trip what ``fetch(limit, 0)`` would
        return; without completions, the fetch alone.

        For brokers that are a round trip away; the others needn't have it.  May fetch
        nothing, though there is something: an error of the fetch is left to the next.

        Returns:
            What waits for the answer, and returns both.  Called once, before anything else
            is asked of this consumer (but `recede` and `wake`); what runs meanwhile runs
            beside the broker's work.  Raises as this does.

        Raises:
            TransportError: as `commit`; then nothing was fetched.
        """
        fenced = self.commit(completions)
        return lambda: (fenced, ())

    def recede(self) -> None:
        """What was fetched takes long: let nothing wait here that was not handed out.

        For brokers that deliver ahead.  Any thread may call this, often, beside whatever
        else is asked; the next `fetch` ends it.  Raises nothing.
        """
        return

    @abstractmethod
    def wake(self) -> None:
        """Make a waiting `fetch` return early.  Any thread may call this; a wake
        that finds nobody waiting makes the next wait return early, at most once."""

    @abstractmethod
    def close(self) -> None:
        """End the owner: release what it holds, uncounted.  Idempotent."""


class Broadcast(ABC):
    """Publish and subscribe, best effort: late subscribers miss what went before."""

    @abstractmethod
    def publish(self, notices: Sequence[Notice]) -> int | None:
        """Send these to whoever subscribes to their topics now; nobody is no error.

        Returns:
            How many subscribers were reached, each notice counted; None if the broker
            can't tell.  It may be more than there are, never less.
        """

    @abstractmethod
    def subscribe(self, topics: Iterable[Topic], *, name: str = "") -> Subscription:
        """Receive what is published to these topics once this has returned.

        Args:
            topics: one or more; see `Topic` for patterns.
            name: what the broker calls what it makes for this subscriber, where it has
                a name: a worker's node name.  Empty is a random one.
        """


class Subscription(ABC):
    """An open subscription; used by one thread at a time."""

    @abstractmethod
    def receive(self, timeout: float) -> Sequence[Notice]:
        """Wait up to ``timeout`` seconds for notices, in order.

        Each carries the exchange and routing key that it was published to.  Reconnects
        by itself; what was published meanwhile may be missed.

        Raises:
            TransportUnavailable: not connected just now; receiving again later is right.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make a waiting `receive` return early.  Any thread may call this."""

    @abstractmethod
    def close(self) -> None:
        """Stop receiving and leave nothing behind.  Idempotent."""
