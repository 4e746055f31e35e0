"""Events as messages."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.message import Message, Notice, Topic

if TYPE_CHECKING:
    from caraway.app import Caraway

PROPERTIES = {"delivery_mode": 1}


def topic(app: Caraway, routing_key: str) -> Topic:
    """Where events go: the setting ``event_exchange``."""
    return Topic(app.conf.event_exchange, routing_key, "topic")


def utcoffset() -> int:
    """Hours that the local time is behind UTC, as Celery counts them."""
    local = time.localtime()
    return int((time.altzone if local.tm_isdst > 0 else time.timezone) // 3600)


def key_of(kind: str) -> str:
    """The routing key of an event's type."""
    return kind.replace("-", ".")


def notice(app: Caraway, hostname: str, body: Mapping[str, Any] | Sequence[Any]) -> Notice:
    """One event, or a list of events of tasks, as a notice.

    Raises:
        EncodeError: it can't be written.
    """
    key = key_of(str(body["type"])) if isinstance(body, Mapping) else "task.multi"
    serializer = app.registry.serializer(app.conf.event_serializer)
    if serializer.content_type == "application/json":
        try:
            data = msgspec.json.encode(body)
        except (TypeError, ValueError, OverflowError):
            data = serializer.dumps(body)
    else:
        data = serializer.dumps(msgspec.to_builtins(body))
    return Notice(
        topic(app, key),
        Message(
            data,
            {"hostname": hostname},
            serializer.content_type,
            serializer.content_encoding,
            PROPERTIES,
        ),
    )
