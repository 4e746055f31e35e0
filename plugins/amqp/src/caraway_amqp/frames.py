"""AMQP 0-9-1 frames: what is sent as bytes, and messages from what came.

Numbers of classes and methods, and the layout of frames: the specification of AMQP 0-9-1,
sections 4.2 and 1; properties also in docs/reference/wire-format.md, "AMQP".
"""

from __future__ import annotations

from collections.abc import Mapping
from struct import Struct, error
from typing import Any

import msgspec

from caraway.message import Message
from caraway_amqp.tables import dump_table, load_table

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"
HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"

CONNECTION_CLOSE, CONNECTION_CLOSE_OK = (10, 50), (10, 51)
CONNECTION_BLOCKED, CONNECTION_UNBLOCKED = (10, 60), (10, 61)
CHANNEL_OPEN, CHANNEL_OPEN_OK = (20, 10), (20, 11)
CHANNEL_FLOW, CHANNEL_FLOW_OK = (20, 20), (20, 21)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)
EXCHANGE_DECLARE, EXCHANGE_DECLARE_OK = (40, 10), (40, 11)
EXCHANGE_BIND, EXCHANGE_BIND_OK = (40, 30), (40, 31)
QUEUE_DECLARE, QUEUE_DECLARE_OK = (50, 10), (50, 11)
QUEUE_BIND, QUEUE_BIND_OK = (50, 20), (50, 21)
QUEUE_PURGE, QUEUE_PURGE_OK = (50, 30), (50, 31)
QUEUE_DELETE, QUEUE_DELETE_OK = (50, 40), (50, 41)
BASIC_QOS, BASIC_QOS_OK = (60, 10), (60, 11)
BASIC_CONSUME, BASIC_CONSUME_OK = (60, 20), (60, 21)
BASIC_CANCEL, BASIC_CANCEL_OK = (60, 30), (60, 31)
BASIC_PUBLISH, BASIC_RETURN, BASIC_DELIVER = (60, 40), (60, 50), (60, 60)
BASIC_GET, BASIC_GET_OK, BASIC_GET_EMPTY = (60, 70), (60, 71), (60, 72)
BASIC_ACK, BASIC_NACK = (60, 80), (60, 120)
CONFIRM_SELECT, CONFIRM_SELECT_OK = (85, 10), (85, 11)

_head = Struct(">BHI").pack
_method_head = Struct(">BHIHH").pack
_content_head = Struct(">HHQH").pack
_unpack_content = Struct(">QH").unpack_from
_tagged = Struct(">BHIHHQBB").pack

DUE = "caraway-due"
"""Header: when the message is due, seconds since the epoch."""
EXPIRES = "caraway-expires"
"""Header: when it expires, seconds since the epoch."""
ATTEMPTS = "caraway-attempts"
"""Header: how often it was delivered before it was published (again)."""
SUSPECT = "caraway-suspect"
"""Header: one of those attempts may not have been a run.  Its value names the worker that
ran it since; empty if none has."""
DEAD = "caraway-dead"
"""Header of a dead letter: a table of ``queue``, ``reason``, ``kind``, ``attempt``, ``at``."""
SPILLED = "caraway-headers"
"""Header: how many bytes of JSON stand before the body.  They are headers that don't fit
into one frame, which is all that AMQP has for headers."""
_OWN = frozenset({DUE, EXPIRES, ATTEMPTS, SUSPECT, DEAD, SPILLED, "x-delivery-count", "x-death"})
_FOREIGN = ("x-first-death-", "x-last-death-")
_TEXTS = (
    (10, "correlation_id"), (9, "reply_to"), (8, "expiration"), (7, "message_id"),
    (6, "timestamp"), (5, "type"), (4, "user_id"), (3, "app_id"), (2, "cluster_id"),
)  # fmt: skip


def short(text: str) -> bytes:
    """A short string.

    Raises:
        ValueError: longer than 255 bytes.
    """
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"longer than the 255 bytes that AMQP allows: {text[:60]!r}...")
    return b"%c%b" % (len(raw), raw)


def method(channel: int, which: tuple[int, int], arguments: bytes = b"") -> bytes:
    """The frame of a method."""
    return _method_head(METHOD, channel, 4 + len(arguments), *which) + arguments + END


def acknowledge(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """The frame of ``basic.ack``."""
    return _tagged(METHOD, channel, 13, *BASIC_ACK, tag, multiple, 0xCE)


def give_back(channel: int, tag: int, *, multiple: bool = False) -> bytes:
    """The frame of ``basic.nack``, back to the queue."""
    return _tagged(METHOD, channel, 13, *BASIC_NACK, tag, multiple | 2, 0xCE)


def publish_to(channel: int, exchange: str, routing_key: str, *, mandatory: bool = False) -> bytes:
    """The frame of ``basic.publish``; the same for all messages that go there."""
    arguments = b"\0\0" + short(exchange) + short(routing_key) + (b"\1" if mandatory else b"\0")
    return method(channel, BASIC_PUBLISH, arguments)


def content(
    channel: int, message: Message, own: Mapping[str, Any], frame_max: int, priority: int = 0
) -> bytes:
    """The frames of a message's properties and body.

    Args:
        channel: number of the channel.
        message: what.
        own: further headers.
        frame_max: bytes of the largest frame allowed.
        priority: of the publication; 0 leaves the message's own.

    Raises:
        ValueError: it holds what AMQP can't carry.
    """
    body = message.body
    table = {**message.headers, **own} if own else message.headers
    raw = dump_table(table)
    properties = _properties(message, raw, priority)
    if len(properties) + 22 > frame_max:
        table, body = _spill(table, body)
        properties = _properties(message, dump_table(table), priority)
        if len(properties) + 22 > frame_max:
            raise ValueError("its properties don't fit into one frame")
    size = len(body)
    flags_and_rest = properties
    head = (
        _head(HEADER, channel, len(flags_and_rest) + 12)
        + b"\x00\x3c\x00\x00"
        + size.to_bytes(8, "big")
        + flags_and_rest
        + END
    )
    most = frame_max - 8
    if size <= most:
        return head + _head(BODY, channel, size) + body + END if size else head
    parts = [head]
    view = memoryview(body)
    for at in range(0, size, most):
        piece = view[at : at + most]
        parts += (_head(BODY, channel, len(piece)), bytes(piece), END)
    return b"".join(parts)


def _properties(message: Message, table: bytes, priority: int) -> bytes:
    """Flags and values of the basic properties."""
    given = message.properties
    mode = given.get("delivery_mode") or 2
    flags = 0xF000
    out = short(message.content_type) + short(message.content_encoding) + table
    out += b"%c" % int(mode)
    priority = priority or given.get("priority") or 0
    if priority:
        flags |= 1 << 11
        out += b"%c" % int(priority)
    for bit, name in _TEXTS:
        value = given.get(name)
        if value is None:
            continue
        flags |= 1 << bit
        if name == "timestamp":
            out += int(value).to_bytes(8, "big")
        elif isinstance(value, str):
            out += short(value)
        else:
            raise ValueError(f"the property {name} is text, not {type(value).__name__}")
    return flags.to_bytes(2, "big") + out


def _spill(table: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """Headers that are small, and a body with the others before it."""
    kept, large = {}, {}
    for name, value in table.items():
        if value is None or isinstance(value, int | float) or len(dump_table({name: value})) < 300:
            kept[name] = value
        else:
            large[name] = value
    try:
        raw = msgspec.json.encode(large)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ValueError(f"its headers are too long for one frame, and no JSON: {exc}") from exc
    return {**kept, SPILLED: len(raw)}, raw + body


def read_content(header: bytes, body: bytes) -> tuple[Message, dict[str, Any]]:
    """A message from the payload of its header's frame and its body; and those of its
    headers that are ours or the broker's.

    Raises:
        ValueError: not the properties of a message.
    """
    try:
        return _read_content(header, body)
    except (error, IndexError, UnicodeDecodeError, OverflowError, OSError) as exc:
        raise ValueError(f"its properties can't be read: {exc}") from exc


def _read_content(header: bytes, body: bytes) -> tuple[Message, dict[str, Any]]:
    _, flags = _unpack_content(header, 4)
    at = 14
    content_type = encoding = ""
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    if flags & 0x8000:
        size = header[at]
        content_type = header[at + 1 : at + 1 + size].decode()
        at += 1 + size
    if flags & 0x4000:
        size = header[at]
        encoding = header[at + 1 : at + 1 + size].decode()
        at += 1 + size
    if flags & 0x2000:
        headers, at = load_table(header, at)
    if flags & 0x1000:
        properties["delivery_mode"] = header[at]
        at += 1
    if flags & 0x0800:
        properties["priority"] = header[at]
        at += 1
    if flags & 0x07FC:
        for bit, name in _TEXTS:
            if not flags & (1 << bit):
                continue
            if name == "timestamp":
                properties[name] = int.from_bytes(header[at : at + 8], "big")
                at += 8
            else:
                size = header[at]
                properties[name] = header[at + 1 : at + 1 + size].decode()
                at += 1 + size
    own: dict[str, Any] = {}
    if not _OWN.isdisjoint(headers):
        own = {name: headers.pop(name) for name in _OWN if name in headers}
        for name in [name for name in headers if name.startswith(_FOREIGN)]:
            del headers[name]
        spilled = own.pop(SPILLED, None)
        if spilled is not None:
            headers.update(msgspec.json.decode(body[:spilled]))
            body = body[spilled:]
    return Message(body, headers, content_type, encoding, properties), own
