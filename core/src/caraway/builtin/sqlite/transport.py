"""The broker in a SQLite file."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.sqlite import dead_letters, inspection
from caraway.builtin.sqlite import queues as q
from caraway.builtin.sqlite.broadcast import SqliteBroadcast
from caraway.builtin.sqlite.consumer import SqliteConsumer
from caraway.builtin.sqlite.doorbell import ring
from caraway.builtin.sqlite.store import Store
from caraway.builtin.sqlite.stores import close_store, open_store
from caraway.errors import TransportError
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.interfaces.backend import Backend
    from caraway.interfaces.context import Context
    from caraway.url import Url


class SqliteTransport(Transport):
    """A connection to the queues in one file.

    Args:
        url: ``sqlite://`` (the project's file), ``sqlite:///relative.db``,
            ``sqlite:////absolute.db``; its query may hold options.
        options: see `caraway.builtin.sqlite.options.Options`.
        context: its clocks are used (``clock`` for due times and expiry, ``monotonic``
            for leases), and its directory is where relative paths start.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
        TransportError: the file can't be opened; the subclass and the hint say why.
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

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        self._closed = True
        self.file: Store = open_store(url, options, context)
        self._closed = False
        self._context = context
        self._clock = context.clock
        self._monotonic = context.monotonic
        self._consumers: set[SqliteConsumer] = set()

    @property
    def path(self) -> str:
        """The file, absolute: for the worker's banner and for people."""
        return self.file.path

    def _open(self) -> Store:
        if self._closed:
            raise TransportError("this sqlite transport is closed", hint="Build another one.")
        return self.file

    # -- queues ------------------------------------------------------------------------

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        store = self._open()
        prepared = q.prepare(publications)
        rows = prepared.rows
        if rows:
            ids = store.queue_ids
            if any(row[0] not in ids for row in rows):
                q.declare(store, [row[0] for row in rows], timeout=timeout)
            with store.write(timeout=timeout) as connection:
                ports = q.insert(store, connection, rows, self._clock())
            if ports:
                ring(ports)
        if prepared.failed:
            prepared.raise_failed()

    def consume(self, queues: Sequence[Queue], owner: Owner) -> SqliteConsumer:
        store = self._open()
        names = list(dict.fromkeys(queue.name for queue in queues))
        ids = q.declare(store, names)
        pairs = [(name, ids[name]) for name in names]
        try:
            with store.write(durable=False) as connection:
                key = connection.execute(
                    "INSERT INTO owner(id, expires, lease, queues, info) VALUES(?,?,?,?,?)",
                    (
                        owner.id,
                        self._monotonic() + owner.lease,
                        owner.lease,
                        q.encode_json(names).decode(),
                        q.encode_json(owner),
                    ),
                ).lastrowid
        except TransportError as exc:
            if isinstance(exc.__cause__, sqlite3.IntegrityError):
                raise TransportError(
                    f"owner {owner.id} is consuming already",
                    hint="An owner id is never used twice: make one with new_owner_id().",
                ) from exc
            raise
        consumer = SqliteConsumer(
            store, self._context, owner, key or 0, pairs, self._consumers.discard
        )
        self._consumers.add(consumer)
        return consumer

    def declare(self, queues: Sequence[Queue]) -> None:
        q.declare(self._open(), [queue.name for queue in queues])

    def delete(self, queue: str) -> int:
        store = self._open()
        # The row stays, hidden: other processes know its id, and may publish to it.
        with store.write() as connection:
            connection.execute("UPDATE queue SET hidden=1 WHERE name=?", (queue,))
        return q.empty(store, queue, ("ready", "delayed", "held"))

    def purge(self, queue: str) -> int:
        return q.empty(self._open(), queue, ("ready", "delayed"))

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        return inspection.stats(self._open(), queues, self._clock(), self._monotonic())

    def ping(self) -> None:
        with self._open().write(durable=False) as connection:
            # A write, so that it fails where publishing would.
            connection.execute("UPDATE leader SET id=1 WHERE id=1")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self.file.is_inherited():
            return
        try:
            for consumer in list(self._consumers):
                consumer.close()
        finally:
            close_store(self.file)

    # -- LEASE, ADOPT ------------------------------------------------------------------

    def renew(self, owners: Sequence[OwnerId]) -> Sequence[OwnerId]:
        now = self._monotonic()
        lost = []
        with self._open().write(durable=False) as connection:
            for owner in owners:
                cursor = connection.execute(
                    "UPDATE owner SET expires = ? + lease WHERE id=?", (now, owner)
                )
                if cursor.rowcount == 0:
                    lost.append(owner)
        return lost

    def reclaim(self, owner: OwnerId) -> int:
        with self._open().write(durable=False) as connection:
            key = _owner_key(connection, owner)
            if key is None:
                return 0
            count, ports = q.end_owner(connection, key, counted=False)
        ring(ports)
        return count

    def adopt(self, owner: OwnerId, tags: Sequence[Tag], heir: OwnerId) -> Sequence[Delivery]:
        store = self._open()
        with store.write(durable=False) as connection:
            giver = _owner_key(connection, owner)
            taker = _owner_key(connection, heir)
            if giver is None or taker is None:
                return ()
            wanted = q.encode_json([tag for tag in tags if isinstance(tag, int)]).decode()
            chosen = "owner=? AND id IN (SELECT value FROM json_each(?))"
            rows = connection.execute(
                "SELECT h.id, h.queue, h.rank, h.attempts, m.expires, m.due, m.head, m.body"
                " FROM held h LEFT JOIN message m ON m.id = h.id"
                " WHERE h.owner=? AND h.id IN (SELECT value FROM json_each(?))",
                (giver, wanted),
            ).fetchall()
            connection.execute(f"UPDATE held SET owner=? WHERE {chosen}", (taker, giver, wanted))  # noqa: S608 - a constant
        names = inspection.queue_names(store)
        deliveries = []
        for key, queue, rank, attempts, expires, due, head, body in rows:
            message, defect = q.read_message(head, body)
            deliveries.append(
                Delivery(
                    message=message,
                    tag=key,
                    queue=names.get(queue, ""),
                    attempt=attempts,
                    expires=expires or 0.0,
                    priority=9 - rank,
                    defect=defect,
                    due=due or 0.0,
                )
            )
        revoked = self.revoked([q.task_id_of(delivery.message) for delivery in deliveries])
        if not revoked:
            return deliveries
        from msgspec.structs import replace

        return [
            replace(delivery, revoked=q.task_id_of(delivery.message) in revoked)
            for delivery in deliveries
        ]

    # -- REVOKE ------------------------------------------------------------------------

    def revoke(self, task_ids: Sequence[str], *, ttl: float = 86400.0) -> None:
        now = self._clock()
        with self._open().write() as connection:
            connection.execute("DELETE FROM revoked WHERE until <= ?", (now,))
            connection.executemany(
                "INSERT OR REPLACE INTO revoked(task_id, until) VALUES(?,?)",
                [(task_id, now + ttl) for task_id in task_ids],
            )

    def revoked(self, task_ids: Sequence[str]) -> set[str]:
        rows = self._open().read(
            "SELECT task_id FROM revoked"
            " WHERE until > ? AND task_id IN (SELECT value FROM json_each(?))",
            (self._clock(), q.encode_json(list(task_ids)).decode()),
        )
        return {task_id for (task_id,) in rows}

    # -- DEAD_LETTERS ------------------------------------------------------------------

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Sequence[DeadLetter]:
        return dead_letters.page(self._open(), queue, limit, after)

    def dead_get(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return dead_letters.get(self._open(), ids)

    def dead_replay(self, ids: Sequence[str]) -> int:
        return dead_letters.replay(self._open(), ids, self._clock())

    def dead_drop(self, ids: Sequence[str]) -> int:
        return dead_letters.drop(self._open(), ids)

    # -- INSPECT -----------------------------------------------------------------------

    def find(self, task_id: str) -> Sequence[Located]:
        return inspection.find(self._open(), task_id, self._clock())

    def owners(self) -> Sequence[OwnerStats]:
        return inspection.owners(self._open(), self._clock(), self._monotonic())

    def peek(self, queue: str, *, limit: int = 20) -> Sequence[Located]:
        return inspection.peek(self._open(), queue, limit, self._clock())

    # -- BROADCAST, ATOMIC_COMMIT ------------------------------------------------------

    def broadcast(self) -> SqliteBroadcast:
        return SqliteBroadcast(self._open(), self._clock)

    def shares_store(self, backend: Backend) -> bool:
        from caraway.builtin.sqlite.backend import SqliteBackend

        return isinstance(backend, SqliteBackend) and backend.file.path == self.file.path


def _owner_key(connection: sqlite3.Connection, owner: OwnerId) -> int | None:
    row = connection.execute("SELECT key FROM owner WHERE id=?", (owner,)).fetchone()
    return row[0] if row is not None else None
