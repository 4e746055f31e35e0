"""What publishing, moving and giving back messages is in SQL.

Functions here work inside a write transaction of the caller, and return the ports to
ring once it is committed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from caraway.builtin.sqlite.faults import moved
from caraway.errors import PublishError
from caraway.message import Message

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence

    from caraway.builtin.sqlite.store import Store
    from caraway.message import Completion, Publication, Tag

LARGEST = 900_000_000
"""Bytes of one message, of the 1e9 that SQLite takes for a row."""
_UNWRITABLE = (AttributeError, TypeError, ValueError, OverflowError, RecursionError)
_RIPEN_AT_ONCE = 1000
_EMPTY_AT_ONCE = 20_000

encode_json = msgspec.json.Encoder().encode
decode_head = msgspec.json.Decoder(tuple[dict[str, Any], dict[str, Any], str, str]).decode

_INSERT_MESSAGE = "INSERT INTO message(id, expires, due, head, body) VALUES(?,?,?,?,?)"
_INSERT_READY = "INSERT INTO ready(queue, rank, id, attempts) VALUES(?,?,?,0)"
_INSERT_READY_RANGE = (
    "INSERT INTO ready(queue, rank, id, attempts) SELECT ?, ?, id, 0 FROM message WHERE id >= ?"
)
_INSERT_DELAYED = "INSERT INTO delayed(due, id, queue, rank, attempts) VALUES(?,?,?,?,0)"
_NEWEST = "SELECT max(id), EXISTS(SELECT 1 FROM waiter) FROM message"
_FIND_WAITERS = "SELECT port FROM waiter WHERE queue=? LIMIT ?"
_FIND_LATE_WAITER = "SELECT port FROM waiter WHERE queue=? AND look > ? LIMIT 1"
_DROP_WAITER = "DELETE FROM waiter WHERE port=?"


class Prepared:
    """Publications as rows, made before the transaction begins."""

    __slots__ = ("failed", "reasons", "rows")

    def __init__(self) -> None:
        self.rows: list[tuple[str, int, float, float, bytes, bytes]] = []
        self.failed: list[int] = []
        self.reasons: list[str] = []

    def raise_failed(self) -> None:
        """Tell of those that can't be written at all.

        Raises:
            PublishError: there are such.
        """
        if self.failed:
            raise PublishError(
                f"{len(self.failed)} of the messages can't be written: {self.reasons[0]}",
                failed=self.failed,
                hint="Headers and properties must be what JSON can hold, a body bytes of "
                f"at most {LARGEST // 1_000_000} MB.",
            )


def prepare(publications: Iterable[Publication]) -> Prepared:
    """Encode publications: (queue, rank, due, expires, head, body) each."""
    prepared = Prepared()
    add = prepared.rows.append
    for position, publication in enumerate(publications):
        message = publication.message
        try:
            head = encode_json(
                (
                    message.headers,
                    message.properties,
                    message.content_type,
                    message.content_encoding,
                )
            )
            body = message.body
            if type(body) is not bytes:
                body = _as_bytes(body)
            if len(body) + len(head) > LARGEST:
                raise ValueError(f"it has {len(body) + len(head)} bytes")
            rank = 9 - publication.priority
            if not 0 <= rank <= 9:
                rank = 0 if rank < 0 else 9
            if not publication.queue.isascii():
                publication.queue.encode()  # half a character can't be stored
            add((publication.queue, rank, publication.due, publication.expires, head, body))
        except (msgspec.MsgspecError, *_UNWRITABLE) as exc:
            prepared.failed.append(position)
            prepared.reasons.append(str(exc))
    return prepared


def _as_bytes(body: object) -> bytes:
    if isinstance(body, (bytearray, memoryview)):
        return bytes(body)
    raise TypeError(f"its body is {type(body).__name__}, not bytes")


def resolve(store: Store, names: Iterable[str], *, timeout: float | None = None) -> dict[str, int]:
    """Ids of queues; those that don't exist are made, in a transaction of their own.

    Rows of queues are never deleted, so that an id once learned stays good.
    """
    known = store.queue_ids
    if all(name in known for name in names):
        return known
    return declare(store, names, timeout=timeout)


def declare(store: Store, names: Iterable[str], *, timeout: float | None = None) -> dict[str, int]:
    """Make queues that don't exist, and those that were deleted visible again."""
    wanted = [(name,) for name in dict.fromkeys(names)]
    with store.write(timeout=timeout) as connection:
        connection.executemany(
            "INSERT INTO queue(name, hidden) VALUES(?, 0)"
            " ON CONFLICT(name) DO UPDATE SET hidden=0 WHERE hidden",
            wanted,
        )
        rows = connection.execute("SELECT name, id FROM queue").fetchall()
    store.queue_ids.update(rows)
    return store.queue_ids


def insert(
    store: Store,
    connection: sqlite3.Connection,
    rows: Sequence[tuple[str, int, float, float, bytes, bytes]],
    now: float,
) -> list[int]:
    """Put encoded publications into their queues; return the ports to ring."""
    ids = store.queue_ids
    newest, waiting = connection.execute(_NEWEST).fetchone()
    first = max(int(now * 1_000_000), (newest or 0) + 1, store.last_id + 1)
    store.last_id = first + len(rows) - 1
    connection.executemany(
        _INSERT_MESSAGE,
        [
            (key, expires or None, due if due > now else None, head, body)
            for key, (_, _, due, expires, head, body) in enumerate(rows, first)
        ],
    )
    places = {row[:3] for row in rows}
    if any(place[0] not in ids for place in places):
        raise moved(store.path)  # ids were learned from a file that is no more
    if len(places) == 1 and rows[0][2] <= now:
        name, rank, _ = rows[0][:3]
        queue = ids[name]
        if len(rows) == 1:
            connection.execute(_INSERT_READY, (queue, rank, first))
        else:
            connection.execute(_INSERT_READY_RANGE, (queue, rank, first))
        return pick_waiters(connection, {queue: len(rows)}) if waiting else []
    ready: list[tuple[int, int, int]] = []
    delayed: list[tuple[float, int, int, int]] = []
    arrived: dict[int, int] = {}
    earliest: dict[int, float] = {}
    for key, (name, rank, due, _, _, _) in enumerate(rows, first):
        queue = ids[name]
        if due > now:
            delayed.append((due, key, queue, rank))
            earliest[queue] = min(due, earliest.get(queue, due))
        else:
            ready.append((queue, rank, key))
            arrived[queue] = arrived.get(queue, 0) + 1
    connection.executemany(_INSERT_READY, ready)
    connection.executemany(_INSERT_DELAYED, delayed)
    return pick_waiters(connection, arrived, earliest) if waiting else []


def pick_waiters(
    connection: sqlite3.Connection,
    arrived: Mapping[int, int],
    earliest: Mapping[int, float] | None = None,
) -> list[int]:
    """Choose who is to be rung, and take them off the list.

    Args:
        connection: in a write transaction.
        arrived: how many messages became ready, by queue: at most that many are rung.
        earliest: the first due time of what was delayed, by queue: somebody is rung who
            would otherwise look too late.
    """
    ports: dict[int, None] = {}
    for queue, count in arrived.items():
        for (port,) in connection.execute(_FIND_WAITERS, (queue, count)).fetchall():
            ports[port] = None
    for queue, due in (earliest or {}).items():
        for (port,) in connection.execute(_FIND_LATE_WAITER, (queue, due)).fetchall():
            ports[port] = None
    if ports:
        connection.executemany(_DROP_WAITER, [(port,) for port in ports])
    return list(ports)


def ripen(connection: sqlite3.Connection, now: float, at_least: int = 0) -> list[int]:
    """Move what is due to the ready; return the ports to ring."""
    batch = max(_RIPEN_AT_ONCE, at_least)
    bound = connection.execute(
        "SELECT due, id FROM delayed WHERE due <= ? ORDER BY due, id LIMIT 1 OFFSET ?",
        (now, batch - 1),
    ).fetchone() or (now, 1 << 62)
    arrived = dict(
        connection.execute(
            "SELECT queue, count(*) FROM delayed WHERE (due, id) <= (?, ?) GROUP BY queue", bound
        ).fetchall()
    )
    connection.execute(
        "INSERT INTO ready(queue, rank, id, attempts)"
        " SELECT queue, rank, id, attempts FROM delayed WHERE (due, id) <= (?, ?)",
        bound,
    )
    connection.execute("DELETE FROM delayed WHERE (due, id) <= (?, ?)", bound)
    return pick_waiters(connection, arrived)


def end_owner(connection: sqlite3.Connection, key: int, *, counted: bool) -> tuple[int, list[int]]:
    """Give back what an owner holds, and forget it: whatever it does later is fenced.

    Returns how many messages it held, and the ports to ring.
    """
    connection.execute("DELETE FROM owner WHERE key=?", (key,))
    # Rung as well: a waiting call of the ended owner has nothing to wait for.
    ended = {
        port
        for (port,) in connection.execute(
            "DELETE FROM waiter WHERE owner=? RETURNING port", (key,)
        ).fetchall()
    }
    arrived = dict(
        connection.execute(
            "SELECT queue, count(*) FROM held WHERE owner=? GROUP BY queue", (key,)
        ).fetchall()
    )
    if not arrived:
        return 0, list(ended)
    connection.execute(
        "INSERT INTO ready(queue, rank, id, attempts)"
        " SELECT queue, rank, id, attempts - ? FROM held WHERE owner=?",
        (0 if counted else 1, key),
    )
    connection.execute("DELETE FROM held WHERE owner=?", (key,))
    return sum(arrived.values()), [*ended, *pick_waiters(connection, arrived)]


def sweep(connection: sqlite3.Connection, monotonic: float, spare: int = -1) -> list[int]:
    """End the owners whose lease is over; return the ports to ring.

    Leases are kept on the clock that never jumps, which all processes of a machine
    share.  It starts afresh at boot: a lease that ends later than any can is from before.

    Args:
        connection: in a write transaction.
        monotonic: now.
        spare: the caller's own key: it lives, for it is calling.
    """
    ports: list[int] = []
    for (key,) in connection.execute(
        "SELECT key FROM owner WHERE (expires <= ? OR expires > ? + lease + 1) AND key <> ?",
        (monotonic, monotonic, spare),
    ).fetchall():
        ports += end_owner(connection, key, counted=True)[1]
    return ports


def runs(
    held: Sequence[int], gone: set[int], settled: set[int]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Ranges to delete: what one fetch took mostly goes in one or two.

    Args:
        held: ids that the owner holds, ascending.
        gone: those whose messages are to be deleted.
        settled: those that are held no more.

    Returns:
        Ranges of settled ids with no other *held* one between, and ranges of gone ids
        with no other *message* between, which could be anybody's.
    """
    held_runs: list[tuple[int, int]] = []
    message_runs: list[tuple[int, int]] = []
    first = last = -2
    begin = end = -1
    for key in held:
        if key in settled:
            begin = key if begin < 0 else begin
            end = key
        elif begin >= 0:
            held_runs.append((begin, end))
            begin = -1
        if key in gone:
            if key != last + 1:
                if last >= 0:
                    message_runs.append((first, last))
                first = key
            last = key
    if begin >= 0:
        held_runs.append((begin, end))
    if last >= 0:
        message_runs.append((first, last))
    return held_runs, message_runs


def empty(store: Store, queue: str, places: Sequence[str]) -> int:
    """Drop a queue's messages of before now in these tables of places; return how many.

    In steps, so that nobody waits long for the lock, and the log stays small.
    """
    bounds = store.read(
        "SELECT id, (SELECT max(id) FROM message) FROM queue WHERE name=?", (queue,)
    )
    count = 0
    for place in places:
        for key, newest in bounds:
            step = _EMPTY_AT_ONCE
            while step == _EMPTY_AT_ONCE:
                with store.write() as connection:
                    step = _empty_step(connection, place, key, newest)
                count += step
    return count


def _empty_step(connection: sqlite3.Connection, place: str, queue: int, newest: int) -> int:
    columns = {"ready": "rank, queue", "delayed": "due, queue", "held": "owner, queue"}[place]
    rows = connection.execute(
        f"SELECT id, {columns} FROM {place} WHERE queue=? AND id <= ? LIMIT ?",  # noqa: S608 - constants
        (queue, newest, _EMPTY_AT_ONCE),
    ).fetchall()
    first = columns.split(",")[0]
    connection.executemany("DELETE FROM message WHERE id=?", [row[:1] for row in rows])
    connection.executemany(
        f"DELETE FROM {place} WHERE id=? AND {first}=? AND queue=?",  # noqa: S608 - constants
        rows,
    )
    return len(rows)


def read_message(head: bytes | None, body: object) -> tuple[Message, str]:
    """A message from its row, and what is wrong with it (nothing: empty)."""
    if type(body) is bytes:
        try:
            headers, properties, content_type, content_encoding = decode_head(head or b"")
        except (msgspec.MsgspecError, TypeError, UnicodeDecodeError, RecursionError) as exc:
            return Message(body), f"its headers can't be read: {exc}"
        return Message(body, headers, content_type, content_encoding, properties), ""
    if body is None:
        return Message(b""), "its row is missing from the store"
    text = body.encode() if isinstance(body, str) else str(body).encode()
    message, _ = read_message(head, text)
    return message, f"its body is stored as {type(body).__name__}, not as bytes"


def task_id_of(message: Message) -> str:
    """The task's id by the headers, or by what protocol 1 leaves outside the body."""
    found = message.headers.get("id") or message.properties.get("correlation_id")
    return found if isinstance(found, str) else ""


def without(completions: Sequence[Completion], fenced: Sequence[Tag]) -> list[Completion]:
    """The completions whose settlement was applied.

    Of two with one tag in a batch the first counts; the second was fenced.
    """
    left = list(fenced)
    applied = []
    for completion in reversed(completions):
        if completion.settlement.tag in left:
            left.remove(completion.settlement.tag)
        else:
            applied.append(completion)
    applied.reverse()
    return applied
