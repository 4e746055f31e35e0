"""The two codecs of the hot path: the body of a task, and the record of its success.

What every run decodes and encodes stands together here; `caraway.protocol.body` and
`caraway.protocol.result` have the rest of both formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from caraway import states
from caraway.errors import InvalidTaskError
from caraway.message import Message
from caraway.protocol import v1
from caraway.protocol.body import Load, content_loader, loaders
from caraway.protocol.result import meta_record
from caraway.protocol.times import iso

if TYPE_CHECKING:
    from caraway.interfaces.serializer import Serializer
    from caraway.protocol.v2 import Codecs

_NO_EMBED: dict[str, Any] = {}
QUICK = frozenset((int, str, bool, type(None)))
"""Types that every JSON serializer writes alike."""
quick = msgspec.json.Encoder().encode
"""Encodes those; ValueError or OverflowError for lone surrogates and large integers."""
_known: list[tuple[int, bytes]] = [(0, b"")]
"""A second since the epoch, and its text."""


def success_encoder(
    serializer: Serializer, clock: Callable[[], float] = time
) -> Callable[[str, Any], bytes]:
    """What encodes ``(task_id, value)`` of a success that nothing else is told of."""
    dumps = serializer.dumps
    if serializer.content_type != "application/json":

        def encode(task_id: str, value: Any) -> bytes:
            return dumps(meta_record(task_id, states.SUCCESS, value, None, iso(clock())))

        return encode

    encode_value = value_encoder(serializer)
    assert encode_value is not None
    write = encode_value

    def encode_json(task_id: str, value: Any) -> bytes:
        return success_record(task_id, write(value), clock())

    return encode_json


def value_encoder(serializer: Serializer) -> Callable[[Any], bytes] | None:
    """What encodes the value of a success for `success_record`; None if records of this
    serializer can't be put together from parts."""
    if serializer.content_type != "application/json":
        return None
    dumps = serializer.dumps

    def encode(value: Any) -> bytes:
        if value is None:
            return b"null"
        if type(value) in QUICK:
            try:
                return quick(value)
            except (ValueError, OverflowError):  # lone surrogates, integers over 64 bits
                pass
        return dumps(value)

    return encode


def success_record(task_id: str, value: bytes, at: float) -> bytes:
    """The JSON record of a success that nothing else is told of.

    Args:
        task_id: of the task.
        value: what it returned, as JSON.
        at: when it ended, epoch seconds.
    """
    # `date_done` is written from parts: a format operation costs a tenth of isoformat
    second = int(at)
    known, text = _known[0]
    if known != second:
        text = iso(second)[:19].encode("ascii")
        _known[0] = (second, text)
    try:
        name = quick(task_id)
    except ValueError:  # lone surrogates
        name = json.dumps(task_id).encode("ascii")
    return (
        b'{"status":"SUCCESS","result":%b,"traceback":null,"children":[],'
        b'"date_done":"%b.%06d+00:00","task_id":%b}'
    ) % (value, text, int((at - second) * 1000000), name)


def body_loader(registry: Codecs, accept_content: Iterable[str]) -> Load:
    """What reads bodies of accepted content types, of protocol 2 or 1.

    Args:
        registry: finds serializers and compressors.
        accept_content: names or content types; others are refused unread.

    Returns:
        A function from a message to ``(args, kwargs, embed)``; ``embed`` is empty if
        the message has no links, chain or chord.  It raises `SecurityError` (content
        type not accepted), `DecodeError` or `InvalidTaskError`, whatever the bytes.
    """
    loads_any = content_loader(registry, accept_content)
    parse = msgspec.json.Decoder().decode
    get = loaders(registry, accept_content).get

    def load(message: Message) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        loads = get(message.content_type)
        if loads is None or "compression" in message.headers:
            body = loads_any(message)
        else:
            data = message.body
            if message.content_type == "application/json" and b"__type__" not in data:
                # Any reader of JSON agrees on what this one can read.
                try:
                    body = parse(data)
                except (ValueError, RecursionError):
                    body = loads(data)
            else:
                body = loads(data)
        try:
            args, kwargs, embed = body
        except (TypeError, ValueError):
            args, kwargs, embed = v1.body_parts(body)
        if type(args) is not list and not isinstance(args, (list, tuple)):
            raise InvalidTaskError(f"args must be a list, not {type(args).__name__}")
        if type(kwargs) is not dict:
            raise InvalidTaskError(f"kwargs must be a mapping, not {type(kwargs).__name__}")
        if type(embed) is not dict:
            if embed is not None:
                raise InvalidTaskError(f"embed must be a mapping, not {type(embed).__name__}")
            return args, kwargs, _NO_EMBED
        return args, kwargs, embed if any(embed.values()) else _NO_EMBED

    return load
