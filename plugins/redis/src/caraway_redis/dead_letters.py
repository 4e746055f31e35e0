"""Messages taken out of their queues for good, until somebody decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caraway.message import DeadLetter
from caraway_redis.fetching import delivery
from caraway_redis.wires import Script, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link
    from caraway_redis.keys import Keys

REPLAY = Script("payload", "replay")
DROP = Script("drop")
_FIELDS = ("payload", "queue", "reason", "kind", "attempt", "at")


def page(link: Link, keys: Keys, queue: str, limit: int, after: str) -> list[DeadLetter]:
    """See `caraway.interfaces.transport.Transport.dead`."""
    index = keys.dead_of + queue if queue else keys.dead_index
    begin = f"({after}" if after.isdigit() else "-inf"
    ids = link.call("ZRANGEBYSCORE", index, begin, "+inf", "LIMIT", 0, max(0, limit))
    return get(link, keys, [each.decode() for each in ids])


def get(link: Link, keys: Keys, ids: Sequence[str]) -> list[DeadLetter]:
    """Those of these that exist."""
    if not ids:
        return []
    packed = [pack("HMGET", keys.dead + each, *_FIELDS) for each in ids]
    answers = link.exchange(b"".join(packed), len(packed))
    return [
        _letter(each, fields)
        for each, fields in zip(ids, answers, strict=True)
        if fields[0] is not None
    ]


def _letter(each: str, fields: Sequence[Any]) -> DeadLetter:
    payload, queue, reason, kind, attempt, at = fields
    name = queue.decode(errors="replace")
    return DeadLetter(
        id=each,
        message=delivery(0, name, payload).message,
        queue=name,
        reason=reason.decode(errors="replace"),
        kind="parked" if kind == b"parked" else "dead",
        attempt=int(attempt),
        at=float(at),
    )


def replay(link: Link, keys: Keys, ids: Sequence[str]) -> int:
    """Move back to the tails of their queues."""
    if not ids:
        return 0
    arguments = (keys.prefix, keys.sep, keys.dead, keys.dead_of, *ids)
    return int(link.run(REPLAY, (keys.dead_index,), arguments))


def drop(link: Link, keys: Keys, ids: Sequence[str]) -> int:
    """Delete."""
    if not ids:
        return 0
    return int(link.run(DROP, (keys.dead_index,), (keys.dead, keys.dead_of, *ids)))
