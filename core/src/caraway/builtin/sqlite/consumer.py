"""One owner's way to its deliveries."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError

from caraway.builtin.sqlite import queues as q
from caraway.builtin.sqlite.doorbell import Doorbell, ring
from caraway.builtin.sqlite.results import keep, sweep_results
from caraway.errors import OwnerLost, TransportError
from caraway.interfaces.transport import Consumer
from caraway.message import Completion, Delivery, Message, Settlement, Tag

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Sequence

    from caraway.builtin.sqlite.store import Store
    from caraway.interfaces.context import Context
    from caraway.message import Owner

_GATE = """SELECT EXISTS(SELECT 1 FROM owner WHERE key=?),
    (SELECT min(expires) FROM owner WHERE key<>?),
    EXISTS(SELECT 1 FROM owner WHERE expires > ? + lease + 1),
    (SELECT due FROM delayed ORDER BY due LIMIT 1),
    EXISTS(SELECT 1 FROM revoked),
    (SELECT count(*) FROM owner)"""
# A left join: should a message's row ever be missing, its slot is delivered as defective
# and not left behind.
_TAKE = """SELECT r.id, r.rank, r.attempts, m.expires, m.due, m.head, m.body
    FROM ready r LEFT JOIN message m ON m.id = r.id
    WHERE r.queue=? ORDER BY r.rank, r.id LIMIT ?"""
# What is taken is a prefix of its queue, so one range names it.
_HOLD = """INSERT INTO held(owner, id, queue, rank, attempts)
    SELECT ?, id, queue, rank, attempts + 1 FROM ready WHERE queue=? AND (rank, id) <= (?, ?)"""
_TAKE_DUE = """SELECT d.id, d.rank, d.attempts, m.expires, m.due, m.head, m.body, d.queue, d.due
    FROM delayed d LEFT JOIN message m ON m.id = d.id
    WHERE d.due <= ? ORDER BY d.due, d.id LIMIT ?"""
_HOLD_DUE = """INSERT INTO held(owner, id, queue, rank, attempts)
    SELECT ?, id, queue, rank, attempts + 1 FROM delayed WHERE (due, id) <= (?, ?)"""
_DROP_DUE = "DELETE FROM delayed WHERE (due, id) <= (?, ?)"
_DROP = "DELETE FROM ready WHERE queue=? AND (rank, id) <= (?, ?)"
_REGISTER = "INSERT OR REPLACE INTO waiter(queue, port, owner, look) VALUES(?,?,?,?)"
_DEREGISTER = "DELETE FROM waiter WHERE owner=?"
_REVOKED = """SELECT task_id FROM revoked
    WHERE until > ? AND task_id IN (SELECT value FROM json_each(?))"""
_MINE = "SELECT id, queue, rank, attempts FROM held WHERE owner=? AND id BETWEEN ? AND ?"
_COUNT_MINE = "SELECT count(*) FROM held WHERE owner=? AND id BETWEEN ? AND ?"
_DROP_HELD = "DELETE FROM held WHERE owner=? AND id BETWEEN ? AND ?"
_DROP_MESSAGES = "DELETE FROM message WHERE id BETWEEN ? AND ?"
_BURY = """INSERT INTO dead(queue, kind, at, reason, attempts, rank, expires, head, body)
    SELECT (SELECT name FROM queue WHERE id=?), ?, ?, ?, ?, ?, expires, head, body
    FROM message WHERE id=?"""
_RELEASE = "INSERT INTO ready(queue, rank, id, attempts) VALUES(?,?,?,?)"
_DELAY = "INSERT INTO delayed(due, id, queue, rank, attempts) VALUES(?,?,?,?,?)"


class SqliteConsumer(Consumer):
    """Takes messages of some queues for one owner.  Made by `SqliteTransport.consume`."""

    def __init__(
        self,
        store: Store,
        context: Context,
        owner: Owner,
        key: int,
        queues: Sequence[tuple[str, int]],
        closed: Callable[[SqliteConsumer], None],
    ) -> None:
        self.owner = owner
        self.queues = tuple(name for name, _ in queues)
        self.key = key
        self._store = store
        self._clock = context.clock
        self._monotonic = context.monotonic
        self._ids = [queue for _, queue in queues]
        self._names = {queue: name for name, queue in queues}
        self._first = 0
        self._bell = Doorbell()
        self._registered = False
        self._closed = False
        self._on_close = closed
        here = ",".join(map(str, self._ids)) or "-1"
        self._any_ready = f"SELECT EXISTS(SELECT 1 FROM ready WHERE queue IN ({here}))"  # noqa: S608 - integers of ours
        # Reads only: an idle consumer doesn't take the write lock to find nothing.
        self._peek = f"""SELECT EXISTS(SELECT 1 FROM ready WHERE queue IN ({here})),
            EXISTS(SELECT 1 FROM waiter WHERE queue={self._ids[0] if self._ids else -1} AND port=?),
            (SELECT due FROM delayed ORDER BY due LIMIT 1),
            (SELECT min(expires) FROM owner WHERE key<>?)"""  # noqa: S608 - integers of ours

    # -- taking ------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        if self._closed:
            raise TransportError("this consumer is closed", hint="Open another one.")
        if not self._registered:
            taken = self._claim(limit, register=timeout > 0)
            if taken or timeout <= 0:
                return taken
        deadline = time.monotonic() + timeout
        end = self._monotonic() + timeout
        poll = self._store.options.poll_interval
        while True:
            ready, registered, due, lapse = self._store.read(
                self._peek, (self._bell.port, self.key)
            )[0]
            now = self._clock()
            monotonic = self._monotonic()
            if (
                ready
                or not registered
                or (due is not None and due <= now)
                or (lapse is not None and lapse <= monotonic)
            ):
                taken = self._claim(limit, register=timeout > 0)
                if taken:
                    return taken
            left = min(deadline - time.monotonic(), end - monotonic)
            if left <= 0:
                return ()
            wait = min(left, poll)
            if due is not None and due > now:
                wait = min(wait, due - now)
            if lapse is not None and lapse > monotonic:
                wait = min(wait, lapse - monotonic)
            if self._bell.wait(wait) or self._closed:
                return ()

    def _claim(self, limit: int, *, register: bool) -> list[Delivery]:
        """Take what is ready; else write down, in the same transaction, that we wait."""
        store = self._store
        now = self._clock()
        monotonic = self._monotonic()
        ports: list[int] = []
        batches: list[tuple[str, list[tuple[Any, ...]]]] = []
        with store.write(durable=False) as connection:
            alive, lapse, stale, due, revocations, owners = connection.execute(
                _GATE, (self.key, self.key, monotonic)
            ).fetchone()
            if stale or (lapse is not None and lapse <= monotonic):
                ports += q.sweep(connection, monotonic, self.key)
            if due is not None and due <= now:
                if alive:
                    batches = self._take_due(connection, now, limit)
                if not batches:
                    ports += q.ripen(connection, now, limit)
            # An owner that lost its lease takes nothing: nobody would give it back.
            if alive:  # else what was swept and moved stands; then it is told
                batches = batches or self._take(connection, limit, min(owners, 8))
                if batches and self._registered:
                    connection.execute(_DEREGISTER, (self.key,))
                elif not batches and register and self._bell.port:
                    look = now + store.options.poll_interval
                    connection.executemany(
                        _REGISTER,
                        [(queue, self._bell.port, self.key, look) for queue in self._ids],
                    )
        if not alive:
            ring(ports)
            raise OwnerLost(
                f"owner {self.owner.id} has no lease any more",
                hint="Open a consumer with a new owner; its messages went to others.",
            )
        self._registered = not batches and register and bool(self._bell.port)
        others = [port for port in ports if port != self._bell.port]
        if others:
            ring(others)
        return self._deliver(batches, now, revocations=bool(revocations)) if batches else []

    def _take(
        self, connection: sqlite3.Connection, limit: int, sharers: int
    ) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """Move ready messages to the held, evenly from all queues.  Of the last of a queue
        no more than a share, else they would wait here while other owners are idle."""
        ids = self._ids
        if len(ids) > 1:
            self._first = (self._first + 1) % len(ids)
            ids = ids[self._first :] + ids[: self._first]
        batches = []
        left = limit
        while left > 0 and ids:
            share = -(-left // len(ids))
            unfinished = []
            for queue in ids:
                want = min(share, left)
                if want <= 0:
                    break
                rows = connection.execute(_TAKE, (queue, want)).fetchall()
                if rows:
                    if len(rows) == want:
                        unfinished.append(queue)
                    else:
                        rows = rows[: -(-len(rows) // sharers)]
                    last, rank = rows[-1][:2]
                    connection.execute(_HOLD, (self.key, queue, rank, last))
                    connection.execute(_DROP, (queue, rank, last))
                    batches.append((self._names[queue], rows))
                    left -= len(rows)
            ids = unfinished
        return batches

    def _take_due(
        self, connection: sqlite3.Connection, now: float, limit: int
    ) -> list[tuple[str, list[tuple[Any, ...]]]]:
        """Move due messages straight to the held, where that is the order in which they
        would be served: nothing ready goes before them, and they are all of one queue of
        ours and of one priority.  Else nothing."""
        if connection.execute(self._any_ready).fetchone()[0]:
            return []
        rows = connection.execute(_TAKE_DUE, (now, limit)).fetchall()
        queue, rank = rows[0][7], rows[0][1]
        name = self._names.get(queue)
        if name is None or any(row[7] != queue or row[1] != rank for row in rows):
            return []
        last, due = rows[-1][0], rows[-1][8]
        connection.execute(_HOLD_DUE, (self.key, due, last))
        connection.execute(_DROP_DUE, (due, last))
        return [(name, [row[:7] for row in rows])]

    def _deliver(
        self,
        batches: list[tuple[str, list[tuple[Any, ...]]]],
        now: float,
        *,
        revocations: bool,
    ) -> list[Delivery]:
        deliveries = []
        decode = q.decode_head
        for queue, rows in batches:
            for key, rank, attempts, expires, due, head, body in rows:
                defect = ""
                try:
                    headers, properties, content_type, encoding = decode(head)
                    message = Message(body, headers, content_type, encoding, properties)
                except (MsgspecError, TypeError, UnicodeDecodeError, RecursionError):
                    message, defect = q.read_message(head, body)
                if type(body) is not bytes:
                    message, defect = q.read_message(head, body)
                deliveries.append(
                    Delivery(
                        message,
                        key,
                        queue,
                        attempts + 1,
                        expires or 0.0,
                        9 - rank,
                        False,  # noqa: FBT003 - by position: this is the hottest loop
                        defect,
                        due or 0.0,
                    )
                )
        return self._mark_revoked(deliveries, now) if revocations else deliveries

    def _mark_revoked(self, deliveries: list[Delivery], now: float) -> list[Delivery]:
        from msgspec.structs import replace

        ids = [q.task_id_of(delivery.message) for delivery in deliveries]
        rows = self._store.read(_REVOKED, (now, q.encode_json(ids).decode()))
        revoked = {task_id for (task_id,) in rows}
        if not revoked:
            return deliveries
        return [
            replace(delivery, revoked=True) if task_id in revoked else delivery
            for delivery, task_id in zip(deliveries, ids, strict=True)
        ]

    # -- settling ----------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        with self._store.write() as connection:
            fenced, ports = self._settle(connection, settlements)
        if ports:
            ring(ports)
        return fenced

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        store = self._store
        now = self._clock()
        follow_ups = [p for completion in completions for p in completion.publications]
        prepared = q.prepare(follow_ups)
        if follow_ups:
            # Before the transaction: it is short, and ids learned in it could be undone.
            prepared.raise_failed()
            q.resolve(store, [publication.queue for publication in follow_ups])
        with store.write() as connection:
            fenced, ports = self._settle(connection, [c.settlement for c in completions])
            if fenced:
                completions = q.without(completions, fenced)
                prepared = q.prepare([p for c in completions for p in c.publications])
            results = [c.result for c in completions if c.result is not None]
            if results:
                ports = ports + keep(connection, results, now)
            if prepared.rows:
                ports = ports + q.insert(store, connection, prepared.rows, now)
            sweep_results(store, connection, now)
        if ports:
            ring(ports)
        return fenced

    def _settle(
        self, connection: sqlite3.Connection, settlements: Sequence[Settlement]
    ) -> tuple[list[Tag], list[int]]:
        """Apply settlements; return the tags fenced off, and the ports to ring."""
        tags = [s.tag for s in settlements if type(s.tag) is int]
        if not tags:
            return [s.tag for s in settlements], []
        first, last = min(tags), max(tags)
        span = (self.key, first, last)
        if (
            last - first == len(settlements) - 1
            and len({s.tag for s in settlements if s.action == "ack"}) == len(settlements)
            and connection.execute(_COUNT_MINE, span).fetchone()[0] == len(settlements)
        ):
            # What nearly every commit is: neighbours, all ours, all done.
            connection.execute(_DROP_HELD, span)
            connection.execute(_DROP_MESSAGES, (first, last))
            return [], []
        rows = connection.execute(_MINE, span).fetchall()
        mine = {row[0]: row for row in rows}
        fenced: list[Tag] = []
        gone: set[int] = set()
        kept: set[int] = set()
        arrived: dict[int, int] = {}
        earliest: dict[int, float] = {}
        for settlement in settlements:
            row = mine.pop(settlement.tag, None)
            if row is None:
                fenced.append(settlement.tag)
                continue
            key, queue, rank, attempts = row
            if settlement.action == "release":
                kept.add(key)
                attempts -= not settlement.counted
                if settlement.delay > 0:
                    due = self._clock() + settlement.delay
                    connection.execute(_DELAY, (due, key, queue, rank, attempts))
                    earliest[queue] = min(due, earliest.get(queue, due))
                else:
                    connection.execute(_RELEASE, (queue, rank, key, attempts))
                    arrived[queue] = arrived.get(queue, 0) + 1
                continue
            gone.add(key)
            if settlement.action == "reject":
                self._bury(connection, settlement, row)
        held_runs, message_runs = q.runs([row[0] for row in rows], gone, gone | kept)
        connection.executemany(_DROP_HELD, [(self.key, a, b) for a, b in held_runs])
        connection.executemany(_DROP_MESSAGES, message_runs)
        if arrived or earliest:
            return fenced, q.pick_waiters(connection, arrived, earliest)
        return fenced, []

    def _bury(
        self, connection: sqlite3.Connection, settlement: Settlement, row: tuple[int, ...]
    ) -> None:
        key, queue, rank, attempts = row
        connection.execute(
            _BURY,
            (
                queue,  # an heir may hold what comes from queues that it doesn't consume
                "parked" if settlement.parked else "dead",
                self._clock(),
                settlement.reason,
                attempts,
                rank,
                key,
            ),
        )

    # -- end ---------------------------------------------------------------------------

    def wake(self) -> None:
        self._bell.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._store.is_inherited():  # a parent waits at the same port
            self._bell.wake()
        try:
            # A store that can't be had now gets everything back when the lease ends.
            with contextlib.suppress(TransportError):
                with self._store.write(durable=False) as connection:
                    _, ports = q.end_owner(connection, self.key, counted=False)
                ring(ports)
        finally:
            self._bell.close()
            self._on_close(self)
