"""Results in SQL: keeping, and dropping those whose time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.builtin.sqlite.queues import encode_json
from caraway.states import READY_STATES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from caraway.builtin.sqlite.store import Store
    from caraway.message import StoredResult

# A final state never gives way; one whose time is over isn't there any more.
_KEEP = """INSERT INTO result(task_id, final, expires, state, payload) VALUES(?,?,?,?,?)
    ON CONFLICT(task_id) DO UPDATE SET final=excluded.final, expires=excluded.expires,
        state=excluded.state, payload=excluded.payload
    WHERE result.final = 0 OR result.expires <= ?"""
_WATCHED = "SELECT 1 FROM watcher LIMIT 1"
_RING = """DELETE FROM watcher WHERE task_id IN (SELECT value FROM json_each(?)) RETURNING port"""
_RING_ANY = "SELECT port FROM watcher WHERE task_id=''"

SWEEP_INTERVAL = 1.0
SWEEP_ROWS = 500


def keep(connection: sqlite3.Connection, results: Sequence[StoredResult], now: float) -> list[int]:
    """Keep states; return the ports of those who wait for a final one of them."""
    connection.executemany(
        _KEEP,
        [
            (
                result.task_id,
                result.state in READY_STATES,
                now + result.ttl if result.ttl > 0 else None,
                result.state,
                result.payload,
                now,
            )
            for result in results
        ],
    )
    if connection.execute(_WATCHED).fetchone() is None:
        return []
    final = [result.task_id for result in results if result.state in READY_STATES]
    if not final:
        return []
    ports = {port for (port,) in connection.execute(_RING, (encode_json(final).decode(),))}
    ports.update(port for (port,) in connection.execute(_RING_ANY))
    return list(ports)


def sweep_results(store: Store, connection: sqlite3.Connection, now: float) -> int:
    """Drop expired results, some at a time, and no oftener than once in a while.

    Rows are in the order of storing, which for one lifetime is the order of expiry: a
    cursor walks them round and round, at once to the next rows where it found all
    expired.  No index on the time of expiry is needed, which each result would pay for.
    """
    if store.next_sweep > now >= store.next_sweep - 2 * SWEEP_INTERVAL:
        return 0
    rows = connection.execute(
        "SELECT id, expires <= ? FROM result WHERE id > ? ORDER BY id LIMIT ?",
        (now, store.sweep_cursor, SWEEP_ROWS),
    ).fetchall()
    expired = [(key,) for key, over in rows if over]
    connection.executemany("DELETE FROM result WHERE id=?", expired)
    store.sweep_cursor = rows[-1][0] if len(rows) == SWEEP_ROWS else 0
    store.next_sweep = now if len(expired) == SWEEP_ROWS else now + SWEEP_INTERVAL
    return len(expired)
