"""Task messages of protocol 2: docs/reference/wire-format.md, "Task messages".

Pure functions.  What is the same in every message of a task is made once
(`header_template`, `property_template`); a message is a copy of it with an id put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from caraway.message import Delivery, Message, Publication
from caraway.protocol.body import encode_body
from caraway.protocol.times import epoch, iso

if TYPE_CHECKING:
    from datetime import datetime

    from caraway.errors import Retry
    from caraway.interfaces.serializer import Compressor, Serializer

    class Codecs(Protocol):
        """What of the registry is needed here."""

        def serializer(self, name: str, /) -> Serializer: ...
        def compressor(self, name: str, /) -> Compressor: ...

    class Run(Protocol):
        """What of a request is needed here."""

        args: Any
        kwargs: Any
        embed: Mapping[str, Any]


def header_template(
    name: str,
    *,
    origin: str,
    ignore_result: bool = False,
    time_limit: float | None = None,
    soft_time_limit: float | None = None,
    shadow: str | None = None,
) -> dict[str, Any]:
    """All headers of a task's messages, with those of one message still empty."""
    return {
        "lang": "py",
        "task": name,
        "id": None,
        "shadow": shadow,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [time_limit, soft_time_limit],
        "root_id": None,
        "parent_id": None,
        "origin": origin,
        "ignore_result": ignore_result,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def expiration(seconds: float) -> str:
    """AMQP's ``expiration`` property: whole milliseconds as text, 0 at least."""
    return str(max(0, int(seconds * 1000)))


def due_time(
    *, countdown: float | None, eta: datetime | float | None, now: float, zone: Any = None
) -> float:
    """When a message is due (epoch seconds), 0.0 for at once.

    Args:
        countdown: seconds from ``now``; wins over ``eta``, as in Celery.
        eta: a datetime (naive ones are in ``zone``, UTC if None) or epoch seconds.
        now: epoch seconds.
        zone: a tzinfo.
    """
    if countdown is not None:
        return now + float(countdown) if countdown > 0 else 0.0
    if eta is not None:
        return epoch(eta, zone)
    return 0.0


def expiry_time(expires: datetime | float | str | None, *, now: float, zone: Any = None) -> float:
    """When a message expires (epoch seconds), 0.0 for never.

    Args:
        expires: seconds from ``now``, or a datetime, or ISO 8601 text.
        now: epoch seconds.
        zone: of naive datetimes, UTC if None.
    """
    if expires is None:
        return 0.0
    if isinstance(expires, (int, float)):
        return now + expires
    return epoch(expires, zone)


def retry_publication(
    delivery: Delivery, request: Run, retry: Retry, *, now: float, registry: Codecs
) -> Publication:
    """The message of a task that asked to run again: same id, one retry more.

    The body's bytes are used again unless the retry changes the arguments.

    Args:
        delivery: what was run.
        request: its decoded arguments.
        retry: ``when`` (seconds or datetime) and ``sig``, a mapping of what changes:
            ``args``, ``kwargs`` and options of `Task.apply_async`.
        now: epoch seconds.
        registry: finds serializers and compressors.

    Raises:
        EncodeError: the new arguments can't be written.
    """
    message = delivery.message
    changes: Mapping[str, Any] = retry.sig or {}
    headers = dict(message.headers)
    headers["retries"] = (headers.get("retries") or 0) + 1
    due = _when(retry.when, now)
    headers["eta"] = iso(due) if due else None
    properties = message.properties
    expires = delivery.expires
    if "expires" in changes:
        expires = expiry_time(changes["expires"], now=now)
        headers["expires"] = iso(expires) if expires else None
        properties = {k: v for k, v in properties.items() if k != "expiration"}
        if expires:
            properties["expiration"] = expiration(expires - now)
    if "time_limit" in changes or "soft_time_limit" in changes:
        hard, soft = headers.get("timelimit") or (None, None)
        headers["timelimit"] = [
            changes.get("time_limit", hard),
            changes.get("soft_time_limit", soft),
        ]
    for name in ("shadow", "ignore_result"):
        if name in changes:
            headers[name] = changes[name]
    headers.update(changes.get("headers") or {})
    priority = delivery.priority
    if changes.get("priority") is not None:
        priority = int(changes["priority"])
        properties = {**properties, "priority": priority}
    body, content_type, content_encoding = (
        message.body,
        message.content_type,
        message.content_encoding,
    )
    if {"args", "kwargs", "serializer", "link", "link_error"} & changes.keys():
        serializer = registry.serializer(changes.get("serializer") or content_type)
        embed = dict(request.embed)
        for option, key in (("link", "callbacks"), ("link_error", "errbacks")):
            if option in changes:
                embed[key] = _as_list(changes[option])
        body = encode_body(
            serializer,
            changes.get("args", request.args),
            changes.get("kwargs", request.kwargs),
            embed,
        )
        content_type, content_encoding = serializer.content_type, serializer.content_encoding
        if headers.get("compression"):
            body = registry.compressor(headers["compression"]).compress(body)
    return Publication(
        Message(body, headers, content_type, content_encoding, properties),
        queue=changes.get("queue") or delivery.queue,
        exchange=changes.get("exchange") or "",
        routing_key=changes.get("routing_key") or "",
        priority=priority,
        due=due,
        expires=expires,
    )


def _when(when: Any, now: float) -> float:
    if when is None:
        return 0.0
    if isinstance(when, (int, float)):
        return now + when if when > 0 else 0.0
    return epoch(when)


def _as_list(value: Any) -> list[Any] | None:
    if value is None:
        return None
    return list(value) if isinstance(value, (list, tuple)) else [value]
