"""The broker in Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from msgspec.structs import replace

from caraway.errors import (
    OperationalError,
    PublishError,
    TransportError,
    TransportUnavailable,
)
from caraway.interfaces.context import Capability
from caraway.interfaces.transport import Transport
from caraway.message import (
    DeadLetter,
    Delivery,
    Located,
    Owner,
    OwnerId,
    OwnerStats,
    Publication,
    Queue,
    QueueStats,
    Tag,
)
from caraway_redis import dead_letters, inspection
from caraway_redis.bindings import Bindings
from caraway_redis.connection import Link
from caraway_redis.consumer import GIVE_BACK, RedisConsumer
from caraway_redis.faults import PASSING, said
from caraway_redis.fetching import entry_delivery
from caraway_redis.foreign import restore_abandoned
from caraway_redis.keys import Keys
from caraway_redis.publishing import Envelopes, Row
from caraway_redis.results import RESULT_KEY, prefix
from caraway_redis.wires import Script, pack

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend
    from caraway.interfaces.context import Context
    from caraway.url import Url
    from caraway_redis.broadcast import RedisBroadcast

RENEW = Script("payload", "renew")
REGISTER = Script("payload", "register")
DECLARE = Script("declare")
ADOPT = Script("adopt")
HOLDINGS = Script("holdings")
REVOKE = Script("payload", "revoke")
OVERDUE = Script("overdue")
ORPHANS = Script("payload", "orphans")
ORPHANED = 120
"""Seconds for which the inboxes of an owner that ended are looked at: longer than its
last wait, which the server may answer after that end."""
_SWEPT = 100
"""Owners whose lease ended that one sweep ends."""
_PASSES = 0.05
"""Seconds between two tries to send what a cluster refused for the moment."""
_AT_ONCE = 1000
"""Revocations written at a time."""
_FAR = 0.001
"""Seconds of a round trip from which on lanes take larger batches: more memory, fewer trips."""
_RENEWAL = 2.0
"""Seconds for the answer to a renewal: where the network swallows it, there must be time
for another one before the lease lapses."""


class RedisTransport(Transport):
    """Queues in a Redis, as kombu keeps them.

    Args:
        url: ``redis://``, ``rediss://``, ``redis+socket://``, ``sentinel://``; see
            docs/how-to/redis.md.
        options: see `caraway_redis.options.Options`.
        context: its settings `broker_use_ssl` and `broker_connection_timeout` are read.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.DELAY,
            Capability.PRIORITY,
            Capability.EXPIRY,
            Capability.BROADCAST,
            Capability.DEAD_LETTERS,
            Capability.LEASE,
            Capability.ADOPT,
            Capability.REVOKE,
            Capability.INSPECT,
            Capability.PERSISTENT,
            Capability.SHARED,
            Capability.ATOMIC_COMMIT,
        }
    )

    publishes_at_once: ClassVar[int] = 4
    fetches_at_once: int = 192

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        ssl = context.settings.get("broker_use_ssl")
        self.link = Link(url, options, context, ssl=ssl)
        chosen = self.link.options
        self.keys = Keys(chosen)
        self.result_key = prefix(chosen) + RESULT_KEY
        """Begin of results' keys, for commits; the backend's that shares this store."""
        steps = chosen.priority_steps
        self.steps = steps if chosen.priority_order == "celery" else tuple(reversed(steps))
        self._bindings = Bindings(self.link, self.keys)
        bound = self._bindings.bound
        self._envelopes = Envelopes(self.keys, steps, bound, self._served, context.clock)
        self._consumers: set[RedisConsumer] = set()
        self._known: set[str] = set()
        self._looked = False
        self._consumed: tuple[float, set[str]] = (0.0, set())

    # -- queues ------------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        failed: list[tuple[int, str]] = []
        rows = self._envelopes.rows(publications, failed)
        if rows:
            again = self._send(rows, failed, timeout)
            if again:
                self._send_again(again, failed, timeout)
        if failed:
            raise PublishError(
                f"{len(failed)} of {len(publications)} messages can't be published: {failed[0][1]}",
                failed=[position for position, _ in sorted(failed)],
                hint="What can't be written holds in its headers or properties what can't go "
                "into JSON. What was refused can be published again when its cause has passed.",
            )

    def _send(
        self, rows: Sequence[Row], failed: list[tuple[int, str]], timeout: float
    ) -> list[Row]:
        """Send rows; note in ``failed`` what is refused; return what is to be sent again."""
        packed, spans = self._envelopes.commands(rows)
        known = self._known
        new = {row[0] for row in rows if row[0] not in known}
        if new:
            # After the messages: a queue that is listed twice is no harm.
            packed.append(pack("SADD", self.keys.queues, *new))
            spans.append((0, 0))
        answers = self.link.answers(packed, len(packed), timeout)
        for answer in answers:
            if isinstance(answer, Exception):
                return self._refused(answers, spans, rows, failed)
        known |= new
        return []

    def _send_again(self, rows: list[Row], failed: list[tuple[int, str]], timeout: float) -> None:
        """Send what a server refused that took the rest, since one of its keys was on the
        way to another node of a cluster: whoever sent all again would send some twice.
        What isn't taken in time is noted in ``failed``."""
        end = monotonic() + timeout
        error = "its key is on the way to another node"
        while rows and monotonic() < end:
            sleep(_PASSES)
            try:
                rows = self._send(rows, failed, max(_PASSES, end - monotonic()))
            except OperationalError as exc:
                error = str(exc.args[0])
                if not isinstance(exc, TransportUnavailable):
                    break
        failed += [(row[5], error) for row in rows]

    def _refused(
        self,
        answers: Sequence[Any],
        spans: Sequence[tuple[int, int]],
        rows: Sequence[Row],
        failed: list[tuple[int, str]],
    ) -> list[Row]:
        """Note the publications that the server refused; return those to be sent again.

        Raises:
            TransportError: it refused them all.
        """
        again: list[Row] = []
        seen = {position for position, _ in failed}
        first: Exception | None = None
        kept = False
        for answer, (begin, end) in zip(answers, spans, strict=True):
            if not isinstance(answer, Exception):
                kept = kept or end > begin
                continue
            first = first or answer
            if said(answer).startswith((*PASSING, "MOVED")):
                again += rows[begin:end]
                continue
            for row in rows[begin:end]:
                if row[5] not in seen:
                    seen.add(row[5])
                    failed.append((row[5], str(answer)))
        if first is not None and not kept:
            raise self.link.fault(first) from first
        if again:
            # Where all that was left open leads elsewhere now, connections must, too.
            self.link.disconnect()
        return again

    def prepare(self, publications: Sequence[Publication]) -> list[Row]:
        """Rows of follow-ups, for a commit.

        Raises:
            PublishError: one can't be written.
        """
        if not publications:
            return []
        failed: list[tuple[int, str]] = []
        rows = self._envelopes.rows(publications, failed)
        if failed:
            raise PublishError(
                f"a follow-up can't be written: {failed[0][1]}",
                failed=[position for position, _ in failed],
            )
        return rows

    def consume(self, queues: Sequence[Queue], owner: Owner) -> RedisConsumer:
        names = list(dict.fromkeys(queue.name for queue in queues))
        self.declare(queues)
        if not self._looked:
            self._looked = True
            inspection.warn_of_eviction(self.link)
            if inspection.round_trip(self.link) > _FAR:
                self.fetches_at_once = Transport.fetches_at_once
        consumer = RedisConsumer(self, owner, names, self._consumers.discard)
        keys = self.keys
        info = msgspec.json.encode((owner, names))
        try:
            answer = self.link.run(
                REGISTER,
                (keys.owners, keys.leases, keys.infos, keys.inboxes),
                (owner.id, owner.lease, info, consumer.inboxes),
            )
        except BaseException:
            consumer.discard()
            raise
        if not answer:
            consumer.discard()
            raise TransportError(
                f"owner {owner.id} is consuming already",
                hint="An owner id is never used twice: make one with new_owner_id(). If the "
                "setting broker_url lists one database twice, as Celery does for Sentinels: "
                "write their hosts into one URL, sentinel://one,two,three/0.",
            )
        self._consumers.add(consumer)
        return consumer

    def declare(self, queues: Sequence[Queue]) -> None:
        if not queues:
            return
        for queue in queues:
            if not queue.name or "\n" in queue.name:
                raise TransportError(
                    f"{queue.name!r} can't be a queue's name",
                    hint="It must not be empty, nor have an end of line in it.",
                )
        rows = [(self.keys.queues, queue.name) for queue in queues]
        for queue in queues:
            rows += self._bindings.wanted(queue)
        tables = (self.keys.owners, *[table for table, _ in rows])
        self.link.run(DECLARE, tables, [member for _, member in rows])
        self._known |= {queue.name for queue in queues}
        self._bindings.forget()

    def _served(self, queue: str) -> bool:
        """True if a live owner consumes the queue; asked again after a while."""
        if any(queue in consumer.queues for consumer in self._consumers):
            return True
        asked, queues = self._consumed
        if not asked or monotonic() - asked > 2.0:
            queues = {name for owner in self.owners() for name in owner.queues}
            self._consumed = (monotonic(), queues)
        return queue in queues

    def delete(self, queue: str) -> int:
        keys = self.keys
        count = self._empty(queue)
        count += int(self.link.run(HOLDINGS, (keys.owners,), (keys.held, queue)))
        packed = [pack("SREM", keys.queues, queue)]
        for table, member in self._bindings.leading_to(queue):
            packed.append(pack("SREM", table, member))
        self.link.exchange(b"".join(packed), len(packed))
        self._known.discard(queue)
        self._bindings.forget()
        return count

    def purge(self, queue: str) -> int:
        return self._empty(queue)

    def _empty(self, queue: str) -> int:
        keys = self.keys
        names = [keys.list(queue, step) for step in self.steps]
        delayed = keys.delayed + queue
        commands = [pack("MULTI"), *[pack("LLEN", name) for name in names]]
        commands += [pack("ZCARD", delayed), pack("DEL", *names, delayed), pack("EXEC")]
        counts = self.link.exchange(b"".join(commands), len(commands))[-1]
        return sum(counts[:-1])

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        return inspection.stats(self.link, self.keys, self.steps, queues, HOLDINGS)

    def ping(self) -> None:
        # A write, so that it fails where publishing would; nothing of it stays.
        self.link.call("SET", self.keys.ping, "", "PX", 1)

    def close(self) -> None:
        failed: OperationalError | None = None
        for consumer in list(self._consumers):
            try:
                consumer.close()
            except OperationalError as exc:
                failed = failed or exc  # its lease ends by itself
        self.link.close()
        if failed is not None:
            raise failed

    # -- LEASE, ADOPT ------------------------------------------------------------------

    def renew(self, owners: Sequence[OwnerId]) -> Sequence[OwnerId]:
        if not owners:
            return ()
        keys = (self.keys.owners, self.keys.leases)
        lost = self.link.run(RENEW, keys, owners, timeout=_RENEWAL)
        return [owner.decode() for owner in lost]

    def reclaim(self, owner: OwnerId) -> int:
        return self.give_back(owner)

    def give_back(
        self, owner: OwnerId, *, counted: bool = False, swept: bool = False, clean: bool = False
    ) -> int:
        """End an owner; what it held returns to its queues; return how many.

        Args:
            owner: which.
            counted: its deliveries count.
            swept: only if its lease is over.
            clean: it waits for nothing any more: nothing can come to its inboxes.
        """
        keys = self.keys
        names = (
            keys.owners, keys.leases, keys.infos, keys.inboxes, keys.held + owner, keys.orphans,
        )  # fmt: skip
        arguments = (
            keys.prefix, keys.sep, owner, "counted" if counted else "", "1" if swept else "",
            0 if clean else ORPHANED,
        )  # fmt: skip
        return int(self.link.run(GIVE_BACK, names, arguments))

    def sweep(self) -> None:
        """End owners whose lease is over, and put back what Celery's workers abandoned.
        Called by the one of the fleet whose turn it is; what fails, the next one does."""
        keys = self.keys
        try:
            now = self.now()
            found = self.link.call("ZRANGEBYSCORE", keys.owners, "-inf", now, "LIMIT", 0, _SWEPT)
            for owner in found:
                self.give_back(owner.decode(), counted=True, swept=True)
            self.link.run(ORPHANS, (keys.orphans,), ())
            self.link.call("ZREMRANGEBYSCORE", keys.revoked, "-inf", now)
            self.link.run(OVERDUE, (keys.deadlines,), (keys.binding, keys.permanent))
            restore_abandoned(self.link, keys, now, self._bindings.bound)
        except OperationalError as exc:
            import logging

            logging.getLogger("caraway.transport.redis").warning("sweep: %s", exc)

    def now(self) -> float:
        """The server's time: leases and due times are by one clock."""
        seconds, micros = self.link.call("TIME")
        return int(seconds) + int(micros) / 1e6

    def adopt(self, owner: OwnerId, tags: Sequence[Tag], heir: OwnerId) -> Sequence[Delivery]:
        keys = self.keys
        if not tags:
            return ()
        names = (keys.owners, keys.held + owner, keys.held + heir)
        found = self.link.run(ADOPT, names, (owner, heir, *tags))
        taken = [
            entry_delivery(int(tag), entry)
            for tag, entry in zip(found[::2], found[1::2], strict=True)
        ]
        return self.mark_revoked(taken)

    # -- REVOKE ------------------------------------------------------------------------

    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        if not task_ids:
            return
        for begin in range(0, len(task_ids), _AT_ONCE):
            self.link.run(REVOKE, (self.keys.revoked,), (ttl, *task_ids[begin : begin + _AT_ONCE]))

    def revoked(self, task_ids: Sequence[str]) -> set[str]:
        ids = list(task_ids)
        if not ids:
            return set()
        packed = pack("TIME") + pack("ZMSCORE", self.keys.revoked, *ids)
        time, scores = self.link.exchange(packed, 2)
        now = int(time[0]) + int(time[1]) / 1e6
        return {
            task_id
            for task_id, score in zip(ids, scores, strict=True)
            if score is not None and float(score) > now
        }

    def mark_revoked(self, taken: list[Delivery]) -> list[Delivery]:
        """These deliveries, the revoked ones marked."""
        ids = [delivery.message.headers.get("id") for delivery in taken]
        revoked = self.revoked([each for each in ids if isinstance(each, str) and each])
        if not revoked:
            return taken
        return [
            replace(delivery, revoked=True) if each in revoked else delivery
            for delivery, each in zip(taken, ids, strict=True)
        ]

    # -- DEAD_LETTERS, INSPECT ---------------------------------------------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        return dead_letters.page(self.link, self.keys, queue, limit, after)

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return dead_letters.get(self.link, self.keys, ids)

    def dead_replay(self, ids: Sequence[str]) -> int:
        return dead_letters.replay(self.link, self.keys, ids)

    def dead_drop(self, ids: Sequence[str]) -> int:
        return dead_letters.drop(self.link, self.keys, ids)

    def find(self, task_id: str) -> Sequence[Located]:
        return inspection.find(self.link, self.keys, self.steps, task_id)

    def owners(self) -> Sequence[OwnerStats]:
        return inspection.owners(self.link, self.keys)

    def peek(self, queue: str, *, limit: int = 20) -> Sequence[Located]:
        return inspection.peek(self.link, self.keys, self.steps, queue, limit)

    # -- BROADCAST, ATOMIC_COMMIT ------------------------------------------------------

    def broadcast(self) -> RedisBroadcast:
        from caraway_redis.broadcast import RedisBroadcast

        return RedisBroadcast(self.link, self.keys)

    def shares_store(self, backend: Backend) -> bool:
        from caraway_redis.backend import RedisBackend

        if not isinstance(backend, RedisBackend):
            return False
        ours, theirs = self.link, backend.link
        if ours.address.same != theirs.address.same or ours.options.slot != theirs.options.slot:
            return False
        # As in Celery, results may have a prefix of their own.
        self.result_key = backend.result_key
        return True
