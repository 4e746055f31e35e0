"""AMQP's tables: the values of headers and of queues' arguments, to bytes and back.

Written here rather than called in the client library, which decodes field by field through
several functions: headers are most of what a task message costs.  The types are those that
RabbitMQ and py-amqp read and write (https://www.rabbitmq.com/amqp-0-9-1-errata, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from struct import Struct
from typing import Any

_LONG = Struct(">I")
_pack_long = _LONG.pack
_unpack_long = _LONG.unpack_from
_pack_int = Struct(">ci").pack
_pack_int64 = Struct(">cq").pack
_pack_double = Struct(">cd").pack
_pack_stamp = Struct(">cQ").pack
_SMALL = 2**31
_BIG = 2**63
_INFINITE = float("inf")


def dump_table(table: Mapping[str, Any]) -> bytes:
    """A table with its length in front.

    Raises:
        ValueError: a value or name that no table can hold.
    """
    parts: list[bytes] = []
    add = parts.append
    for name, value in table.items():
        raw = name.encode()
        if len(raw) > 255:
            raise ValueError(f"the name of a header is longer than 255 bytes: {name[:40]!r}...")
        add(b"%c%b" % (len(raw), raw))
        kind = type(value)
        if kind is str:
            raw = value.encode()
            add(b"S" + _pack_long(len(raw)) + raw)
        elif value is None:
            add(b"V")
        else:
            add(_dump(value))
    body = b"".join(parts)
    return _pack_long(len(body)) + body


def _dump(value: Any) -> bytes:
    if value is None:
        return b"V"
    if isinstance(value, str):
        raw = value.encode()
        return b"S" + _pack_long(len(raw)) + raw
    if isinstance(value, bool):
        return b"t\x01" if value else b"t\x00"
    if isinstance(value, int):
        if -_SMALL <= value < _SMALL:
            return _pack_int(b"I", value)
        if -_BIG <= value < _BIG:
            return _pack_int64(b"l", value)
        raise ValueError(f"a header's integer has more than 64 bits: {value}")
    if isinstance(value, float):
        if value != value or value in (_INFINITE, -_INFINITE):
            # Erlang has none of these: RabbitMQ breaks the connection over them.
            raise ValueError(f"a header can't hold {value}")
        return _pack_double(b"d", value)
    if isinstance(value, list | tuple):
        body = b"".join([_dump(each) for each in value])
        return b"A" + _pack_long(len(body)) + body
    if isinstance(value, Mapping):
        return b"F" + dump_table(value)
    if isinstance(value, bytes | bytearray | memoryview):
        raw = bytes(value)
        return b"x" + _pack_long(len(raw)) + raw
    if isinstance(value, datetime):
        return _pack_stamp(b"T", int(value.timestamp()))
    if isinstance(value, Decimal):
        return _dump(str(value))
    raise ValueError(f"a header can't hold {type(value).__name__}")


def load_table(data: bytes, at: int) -> tuple[dict[str, Any], int]:
    """The table that begins at this offset, and the offset after it.

    Raises:
        ValueError: not a table.
    """
    (size,) = _unpack_long(data, at)
    at += 4
    end = at + size
    if end > len(data):
        raise ValueError("a table is longer than its frame")
    found: dict[str, Any] = {}
    while at < end:
        size = data[at]
        at += 1
        name = data[at : at + size].decode()
        at += size
        kind = data[at]
        if kind == 0x53:  # S
            (size,) = _unpack_long(data, at + 1)
            at += 5
            try:
                found[name] = data[at : at + size].decode()
            except UnicodeDecodeError:
                found[name] = data[at : at + size]
            at += size
        elif kind == 0x56:  # V
            found[name] = None
            at += 1
        else:
            found[name], at = _load(data, at)
    if at != end:
        raise ValueError("a table's values are longer than the table")
    return found, at


_NUMBERS: dict[int, tuple[Callable[..., tuple[Any, ...]], int]] = {
    ord(letter): (Struct(f">{code}").unpack_from, Struct(f">{code}").size)
    for letter, code in zip("bBsuIilLfd", "bBhHiIqqfd", strict=True)
}


def _load(data: bytes, at: int) -> tuple[Any, int]:
    kind = data[at]
    at += 1
    number = _NUMBERS.get(kind)
    if number is not None:
        unpack, size = number
        return unpack(data, at)[0], at + size
    if kind == 0x74:  # t
        return data[at] != 0, at + 1
    if kind == 0x56:  # V
        return None, at
    if kind == 0x46:  # F
        return load_table(data, at)
    if kind == 0x54:  # T
        return datetime.fromtimestamp(int.from_bytes(data[at : at + 8], "big"), UTC), at + 8
    if kind == 0x44:  # D
        scale = data[at]
        value = int.from_bytes(data[at + 1 : at + 5], "big", signed=True)
        return Decimal(value).scaleb(-scale), at + 5
    (size,) = _unpack_long(data, at)
    at += 4
    end = at + size
    if end > len(data):
        raise ValueError("a value is longer than its frame")
    if kind == 0x53:  # S
        raw = data[at:end]
        try:
            return raw.decode(), end
        except UnicodeDecodeError:
            return raw, end
    if kind == 0x78:  # x
        return data[at:end], end
    if kind == 0x41:  # A
        values = []
        while at < end:
            value, at = _load(data, at)
            values.append(value)
        return values, at
    raise ValueError(f"a table holds an unknown type {chr(kind)!r}")
