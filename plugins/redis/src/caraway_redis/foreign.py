"""What Celery's workers hold, and sometimes abandon.

Their messages lie in `unacked` and `unacked_index` (docs/reference/wire-format.md,
"Redis").  They are theirs until the visibility timeout has passed; then whoever comes
first puts them back, a worker of Celery's or we.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from caraway_redis.wires import Script

if TYPE_CHECKING:
    from caraway_redis.connection import Link
    from caraway_redis.keys import Keys

Bound = Callable[[str, str], Sequence[str]]
RESTORE = Script("payload", "restore")
UNLOCK = Script("unlock")


def restore_abandoned(link: Link, keys: Keys, now: float, bound: Bound) -> int:
    """Put back what is held for longer than the visibility timeout; return how many.

    Args:
        now: the server's time (epoch seconds).
        bound: the queues that an exchange and a routing key lead to.
    """
    options = link.options
    timeout = options.visibility_timeout
    if timeout <= 0:
        return 0
    tags = link.call(
        "ZRANGEBYSCORE", keys.unacked_index, 0, now - timeout,
        "LIMIT", 0, options.unacked_restore_limit,
    )  # fmt: skip
    if not tags:
        return 0
    # The lock that Celery's workers take for the same.
    mine = os.urandom(16).hex()
    expire = int(options.unacked_mutex_expire * 1000)
    if not link.call("SET", keys.unacked_mutex, mine, "NX", "PX", max(1, expire)):
        return 0
    count = 0
    try:
        values = link.call("HMGET", keys.unacked, *tags)
        for tag, value in zip(tags, values, strict=True):
            found = b"" if value is None else value
            names = (keys.unacked, keys.unacked_index)
            more = _redelivered(found, link, keys, bound)
            count += link.run(RESTORE, names, (tag, now - timeout, found, *more))
    finally:
        link.run(UNLOCK, (keys.unacked_mutex,), (mine,))
    return count


def _redelivered(value: bytes, link: Link, keys: Keys, bound: Bound) -> Sequence[str | bytes]:
    """The lists and the payload of an entry ``[envelope, exchange, routing_key]``, marked
    as kombu marks it; nothing for one that can't be read."""
    try:
        envelope, exchange, routing_key = msgspec.json.decode(value)
        properties: dict[str, Any] = envelope["properties"]
        priority = int(properties.get("priority") or 0)
        envelope.setdefault("headers", {})["redelivered"] = True
        properties.setdefault("delivery_info", {})["redelivered"] = True
        steps = link.options.priority_steps
        step = max(s for s in steps if s <= max(0, min(9, priority)))
        queues: Sequence[str] = (str(routing_key),)
        if exchange:
            queues = bound(str(exchange), str(routing_key)) or queues
        return (*[keys.list(queue, step) for queue in queues], msgspec.json.encode(envelope))
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError, AttributeError):
        return ()
