"""Headers of ours on messages in kombu's queues, and what a message is for whom.

They are the ones that caraway-amqp writes.  Others keep them and don't read them; tasks
never see them.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from caraway.message import Message

ATTEMPTS = "caraway-attempts"
"""How many deliveries counted so far."""
DUE = "caraway-due"
"""Not to be delivered before this time (epoch seconds)."""
LOOK = "caraway-look"
"""When the message is to leave its rung of the delay queues (epoch seconds)."""
EXPIRES = "caraway-expires"
"""Not to be run after this time (epoch seconds)."""
DEAD = "caraway-dead"
"""Table of what is known of a dead letter."""
_OWN = frozenset({ATTEMPTS, DUE, LOOK, EXPIRES, DEAD, "redelivered", "x-redelivered"})
_ENVELOPE = frozenset(
    {
        "delivery_info", "delivery_tag", "body_encoding", "headers", "application_headers",
        "content_type", "content_encoding",
    }
)  # fmt: skip


class Found(Struct, gc=False):
    """A message as it was found in a queue.

    Attributes:
        message: without what is ours and kombu's.
        tag: kombu's delivery tag.
        attempts: deliveries that counted before this one.
        due: epoch seconds; 0.0 is at once.
        look: see `LOOK`.
        expires: epoch seconds; 0.0 is never.
        priority: 0 to 9.
        redelivered: the broker gave it to somebody before who said nothing of it.
        defect: why it can't be read.
    """

    message: Message
    tag: Any
    attempts: int = 0
    due: float = 0.0
    look: float = 0.0
    expires: float = 0.0
    priority: int = 0
    redelivered: bool = False
    defect: str = ""

    def marks(self, *, attempts: int = -1, due: float = -1.0) -> dict[str, Any]:
        """Our headers for the same message, written again."""
        count = self.attempts if attempts < 0 else attempts
        when = self.due if due < 0 else due
        marks: dict[str, Any] = {}
        if count:
            marks[ATTEMPTS] = count
        if when:
            marks[DUE] = when
        if self.expires:
            marks[EXPIRES] = self.expires
        return marks


def find(raw: Any) -> Found:
    """Read one of kombu's messages.  Never raises: what is odd is left as it is."""
    headers = raw.headers if isinstance(raw.headers, dict) else {}
    properties = raw.properties if isinstance(raw.properties, dict) else {}
    info = raw.delivery_info if isinstance(raw.delivery_info, dict) else {}
    source = getattr(raw, "_raw", None)
    redelivered = bool(
        info.get("redelivered")
        or headers.get("redelivered") is True
        or (isinstance(source, dict) and source.get("redelivered"))
    )
    own = _OWN.intersection(headers)
    plain = {k: v for k, v in headers.items() if k not in own} if own else headers
    priority = properties.get("priority")
    return Found(
        Message(
            _bytes(raw.body),
            plain,
            raw.content_type or "application/data",
            raw.content_encoding or "binary",
            {k: v for k, v in properties.items() if k not in _ENVELOPE and v is not None},
        ),
        raw.delivery_tag,
        int(_number(headers.get(ATTEMPTS))),
        _number(headers.get(DUE)),
        _number(headers.get(LOOK)),
        _number(headers.get(EXPIRES)),
        priority if type(priority) is int and 0 <= priority <= 9 else 0,
        redelivered,
        getattr(raw, "defect", ""),
    )


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return 0.0
    return float(value) if 0 <= value < 1e12 else 0.0


def _bytes(body: Any) -> bytes:
    if isinstance(body, str):
        return body.encode("utf-8", "surrogatepass")
    return b"" if body is None else bytes(body)
