"""Dead letters in SQL: list, replay, drop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway.builtin.sqlite import queues as q
from caraway.builtin.sqlite.doorbell import ring
from caraway.message import DeadLetter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caraway.builtin.sqlite.store import Store

_COLUMNS = "id, queue, kind, at, reason, attempts, head, body"
_CHOSEN = "id IN (SELECT value FROM json_each(?))"


def page(store: Store, queue: str, limit: int, after: str) -> list[DeadLetter]:
    """The oldest after one id, of one queue or (empty) of all."""
    rows = store.read(
        f"SELECT {_COLUMNS} FROM dead WHERE id > ? AND ? IN ('', queue) ORDER BY id LIMIT ?",  # noqa: S608 - constants
        (_key(after) or 0, queue, limit),
    )
    return [_letter(row) for row in rows]


def get(store: Store, ids: Sequence[str]) -> list[DeadLetter]:
    """Those that exist."""
    rows = store.read(f"SELECT {_COLUMNS} FROM dead WHERE {_CHOSEN} ORDER BY id", (_keys(ids),))  # noqa: S608 - constants
    return [_letter(row) for row in rows]


def replay(store: Store, ids: Sequence[str], now: float) -> int:
    """Publish them anew and drop them, in one transaction; return how many."""
    chosen = _keys(ids)
    names = store.read(f"SELECT DISTINCT queue FROM dead WHERE {_CHOSEN}", (chosen,))  # noqa: S608 - constants
    q.resolve(store, [name for (name,) in names])
    with store.write() as connection:
        rows = connection.execute(
            "SELECT queue, rank, 0.0, coalesce(expires, 0.0), head, body FROM dead"  # noqa: S608 - constants
            f" WHERE {_CHOSEN} ORDER BY id",
            (chosen,),
        ).fetchall()
        if not rows:
            return 0
        ports = q.insert(store, connection, rows, now)
        connection.execute(f"DELETE FROM dead WHERE {_CHOSEN}", (chosen,))  # noqa: S608 - constants
    ring(ports)
    return len(rows)


def drop(store: Store, ids: Sequence[str]) -> int:
    """Delete them; return how many were there."""
    with store.write() as connection:
        return connection.execute(f"DELETE FROM dead WHERE {_CHOSEN}", (_keys(ids),)).rowcount  # noqa: S608 - constants


def _key(text: str) -> int | None:
    """A dead letter's key; None for what can't be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _keys(ids: Iterable[str]) -> str:
    return q.encode_json([key for text in ids if (key := _key(text)) is not None]).decode()


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    key, queue, kind, at, reason, attempts, head, body = row
    return DeadLetter(
        id=str(key),
        message=q.read_message(head, body)[0],
        queue=queue,
        reason=reason,
        kind=kind,
        attempt=attempts,
        at=at,
    )
