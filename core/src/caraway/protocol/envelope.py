"""kombu's envelope: a message as one JSON object, for brokers that store plain texts.

The format: docs/reference/wire-format.md, "The envelope".
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec
from msgspec import Struct, field

from caraway.message import Message


class Envelope(Struct, omit_defaults=False, gc=False):
    """One envelope, its body decoded.

    Attributes:
        body: of the message.
        content_type: of the body.
        content_encoding: of the body.
        headers: the message's.
        properties: the message's, with ``delivery_info``, ``delivery_tag`` and
            ``body_encoding`` among them.
        attempt: how often it was delivered and given back by a process that died;
            Caraway's own addition, which others keep and don't read, as are the next.
        expires: not to be run after this time (epoch seconds), for messages whose
            headers don't say; 0.0 is never.
        due: when it was due (epoch seconds); 0.0 is at once.
    """

    body: bytes = b""
    content_type: str | None = field(default=None, name="content-type")
    content_encoding: str | None = field(default=None, name="content-encoding")
    headers: dict[str, Any] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    expires: float = 0.0
    due: float = 0.0


class _Plain(Struct, gc=False):
    """As `Envelope`, for a body that isn't in base 64."""

    body: str | None = ""
    content_type: str | None = field(default=None, name="content-type")
    content_encoding: str | None = field(default=None, name="content-encoding")
    headers: dict[str, Any] | None = None
    properties: dict[str, Any] = field(default_factory=dict)
    attempt: int = 0
    expires: float = 0.0
    due: float = 0.0


_NEVER = 0.0
"""The very object that is left out: msgspec doesn't compare numbers."""


class _Written(Struct, omit_defaults=True, gc=False):
    """What is written, in kombu's order of keys; msgspec writes bytes in base 64."""

    body: bytes
    content_encoding: str = field(name="content-encoding")
    content_type: str = field(name="content-type")
    headers: dict[str, Any]
    properties: dict[str, Any]
    expires: float = _NEVER
    due: float = _NEVER


_write = msgspec.json.Encoder().encode
_read = msgspec.json.Decoder(Envelope).decode
_read_plain = msgspec.json.Decoder(_Plain).decode


def encode(
    message: Message,
    tag: str,
    exchange: str,
    routing_key: str,
    priority: int = 0,
    expires: float = 0.0,
    due: float = 0.0,
) -> bytes:
    """A message as an envelope.

    Args:
        message: what.
        tag: kombu's delivery tag, unique among all messages of the broker.
        exchange: it goes to, empty for the default one.
        routing_key: the queue's name for the default exchange.
        priority: 0 to 9.
        expires: epoch seconds; written only if the message's headers don't say it.
        due: epoch seconds.

    Raises:
        TypeError, ValueError: a header or property that JSON can't hold.
    """
    return _write(
        _Written(
            message.body,
            message.content_encoding,
            message.content_type,
            message.headers,
            {
                **message.properties,
                "priority": priority,
                "delivery_info": {"exchange": exchange, "routing_key": routing_key},
                "delivery_tag": tag,
                "body_encoding": "base64",
            },
            expires if expires and not message.headers.get("expires") else _NEVER,
            due or _NEVER,
        )
    )


def decode(payload: bytes) -> Envelope:
    """An envelope as it was stored.

    Raises:
        ValueError: it is none; the text says why.
    """
    try:
        envelope = _read(payload)
        if envelope.properties.get("body_encoding") == "base64":
            return envelope
    except msgspec.MsgspecError:
        pass
    plain = _read_plain(payload)  # msgspec's errors are ValueErrors
    text = plain.body or ""
    if plain.properties.get("body_encoding") == "base64":
        try:
            body = binascii.a2b_base64(text.encode())
        except (ValueError, UnicodeEncodeError) as exc:
            raise ValueError(f"its body is not in base 64: {exc}") from exc
    else:
        try:
            body = text.encode()
        except UnicodeEncodeError as exc:
            raise ValueError(f"its body is no text: {exc}") from exc
    return Envelope(
        body,
        plain.content_type,
        plain.content_encoding,
        plain.headers,
        plain.properties,
        plain.attempt,
        plain.expires,
        plain.due,
    )


def message_of(envelope: Envelope) -> Message:
    """The message in an envelope; takes the envelope's own keys, and the
    priority, off its properties."""
    properties = envelope.properties
    properties.pop("body_encoding", None)
    properties.pop("delivery_tag", None)
    properties.pop("delivery_info", None)
    properties.pop("priority", None)
    return Message(
        envelope.body,
        {} if envelope.headers is None else envelope.headers,
        envelope.content_type or "application/data",
        envelope.content_encoding or "binary",
        properties,
    )
