"""For people: depths, owners, and where a task's message is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from caraway.builtin.sqlite import queues as q
from caraway.message import Located, Owner, OwnerStats, QueueStats

if TYPE_CHECKING:
    from collections.abc import Sequence

    from caraway.builtin.sqlite.store import Store

_decode_owner = msgspec.json.Decoder(Owner).decode
_decode_names = msgspec.json.Decoder(tuple[str, ...]).decode

_FIND = """
SELECT id, head, body, due, expires FROM message WHERE instr(head, ?) > 0 ORDER BY id"""
_PLACES = (
    "SELECT queue, rank, attempts FROM ready WHERE id=? AND queue IN (SELECT id FROM queue)"
    " AND rank IN (0,1,2,3,4,5,6,7,8,9)",
    "SELECT queue, due, attempts FROM delayed WHERE id=?",
    "SELECT h.queue, o.id, h.attempts FROM owner o JOIN held h ON h.owner=o.key AND h.id=?",
)


def queue_names(store: Store) -> dict[int, str]:
    """Names of all queues by id, hidden ones too."""
    return dict(store.read("SELECT id, name FROM queue"))


def stats(store: Store, queues: Sequence[str], now: float, monotonic: float) -> list[QueueStats]:
    """Depths; what is due counts as ready, though nobody has moved it yet."""
    rows = store.read("SELECT id, name, hidden FROM queue")
    ids = {name: key for key, name, _ in rows}
    ready: dict[int, int] = dict(store.read("SELECT queue, count(*) FROM ready GROUP BY queue"))
    held: dict[int, int] = dict(store.read("SELECT queue, count(*) FROM held GROUP BY queue"))
    delayed: dict[int, int] = {}
    for queue, due, count in store.read(
        "SELECT queue, due <= ?, count(*) FROM delayed GROUP BY 1, 2", (now,)
    ):
        target = ready if due else delayed
        target[queue] = target.get(queue, 0) + count
    consumers: dict[str, int] = {}
    for (names,) in store.read("SELECT queues FROM owner WHERE expires > ?", (monotonic,)):
        for name in _decode_names(names):
            consumers[name] = consumers.get(name, 0) + 1
    visible = [
        name
        for key, name, hidden in rows
        if not hidden or key in ready or key in delayed or key in held
    ]
    found = []
    for name in sorted(dict.fromkeys(queues or visible)):
        key = ids.get(name, -1)
        found.append(
            QueueStats(
                name=name,
                ready=ready.get(key, 0),
                delayed=delayed.get(key, 0),
                held=held.get(key, 0),
                oldest=_oldest(store, key, now) if key in ready else None,
                consumers=consumers.get(name, 0),
            )
        )
    return found


def _oldest(store: Store, queue: int, now: float) -> float:
    """Seconds since the oldest ready message was published, or became due."""
    rows = store.read(
        "SELECT min(id) FROM ready WHERE queue=? AND rank IN (0,1,2,3,4,5,6,7,8,9) GROUP BY rank"
        " UNION ALL SELECT * FROM (SELECT id FROM delayed WHERE due <= ? AND queue=?"
        " ORDER BY due LIMIT 1)",
        (queue, now, queue),
    )
    since = now
    for (key,) in rows:
        due = store.read("SELECT due FROM message WHERE id=?", (key,))
        since = min(since, max(key / 1_000_000, (due[0][0] if due else 0.0) or 0.0))
    return now - since


def owners(store: Store, now: float, monotonic: float) -> list[OwnerStats]:
    """Owners whose lease isn't over, oldest first."""
    rows = store.read(
        "SELECT info, queues, expires, (SELECT count(*) FROM held WHERE held.owner=owner.key)"
        " FROM owner WHERE expires > ? AND expires <= ? + lease + 1 ORDER BY key",
        (monotonic, monotonic),
    )
    return [
        OwnerStats(
            owner=_decode_owner(info),
            queues=_decode_names(names),
            held=held,
            expires=now + expires - monotonic,
        )
        for info, names, expires, held in rows
    ]


def peek(store: Store, queue: str, limit: int, now: float) -> list[Located]:
    """The next of a queue, in the order in which they will be taken."""
    # What is due but not moved yet has its place among the others: by rank, then id.
    rows = store.read(
        "WITH this(key) AS (SELECT id FROM queue WHERE name=?),"
        " next AS ("
        "  SELECT * FROM (SELECT rank, id, attempts FROM ready WHERE queue=(SELECT key FROM this)"
        "   ORDER BY rank, id LIMIT ?)"
        "  UNION ALL"
        "  SELECT rank, id, attempts FROM delayed WHERE due <= ?"
        "   AND queue=(SELECT key FROM this))"
        " SELECT n.attempts, m.head, m.body, m.due, m.expires FROM next n"
        " LEFT JOIN message m ON m.id=n.id ORDER BY n.rank, n.id LIMIT ?",
        (queue, limit, now, limit),
    )
    return [
        Located(
            message=q.read_message(head, body)[0],
            queue=queue,
            place="ready",
            due=due or 0.0,
            expires=expires or 0.0,
            attempt=attempts,
            ahead=position,
        )
        for position, (attempts, head, body, due, expires) in enumerate(rows)
    ]


def find(store: Store, task_id: str, now: float) -> list[Located]:
    """Where a task's messages are.

    Reads all messages: an index would cost each publish, to serve people now and then.
    The text is looked for first, in C, and the headers read where it was seen.
    """
    if not task_id:
        return []
    names = queue_names(store)
    needle = q.encode_json(task_id)
    found = []
    for key, head, body, due, expires in store.read(_FIND, (needle,)):
        message, _ = q.read_message(head, body)
        if q.task_id_of(message) == task_id:
            place = _place(store, key, names, now)
            if place is not None:
                found.append(
                    Located(
                        message=message,
                        **{"due": due or 0.0, **place},
                        expires=expires or 0.0,
                    )
                )
    for queue, kind, reason, attempts, expires, head, body in store.read(
        "SELECT queue, kind, reason, attempts, expires, head, body FROM dead"
        " WHERE instr(head, ?) > 0 ORDER BY id",
        (needle,),
    ):
        message, _ = q.read_message(head, body)
        if q.task_id_of(message) == task_id:
            found.append(
                Located(
                    message=message,
                    queue=queue,
                    place=kind,
                    expires=expires or 0.0,
                    attempt=attempts,
                    reason=reason,
                )
            )
    return found


def _place(store: Store, key: int, names: dict[int, str], now: float) -> dict[str, Any] | None:
    """Where one message is; None if it was settled a moment ago."""
    for place, sql in zip(("ready", "delayed", "held"), _PLACES, strict=True):
        for queue, detail, attempts in store.read(sql, (key,)):
            here: dict[str, Any] = {"queue": names.get(queue, ""), "attempt": attempts}
            kind: Literal["ready", "delayed", "held"] = place  # type: ignore[assignment]
            if place == "held":
                here["owner"] = detail
            elif place == "delayed":
                here["due"] = detail
                if detail <= now:
                    kind = "ready"
            else:
                here["ahead"] = store.read(
                    "SELECT count(*) FROM ready WHERE queue=? AND (rank, id) < (?, ?)",
                    (queue, detail, key),
                )[0][0]
            return {"place": kind, **here}
    return None
