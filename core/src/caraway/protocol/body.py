"""The body of a task message: ``[args, kwargs, embed]``, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import DecodeError, InvalidTaskError, SecurityError
from caraway.message import Message
from caraway.protocol import v1

if TYPE_CHECKING:
    from caraway.interfaces.serializer import Serializer
    from caraway.protocol.v2 import Codecs

EMPTY_EMBED: dict[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
JSON_END = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
_NO_EMBED: dict[str, Any] = {}

Load = Callable[[Message], tuple[Any, dict[str, Any], dict[str, Any]]]


def body_encoder(serializer: Serializer) -> Callable[[Any, Any], bytes]:
    """What encodes ``(args, kwargs)`` without links, for one serializer.

    For JSON only the arguments are written anew: the rest is the same in every message.
    """
    dumps = serializer.dumps
    if serializer.content_type != "application/json":
        return lambda args, kwargs: dumps((args, kwargs, EMPTY_EMBED))

    no_kwargs = b",{}" + JSON_END

    def encode(args: Any, kwargs: Any) -> bytes:
        if kwargs:
            return b"[" + dumps(args) + b"," + dumps(kwargs) + JSON_END
        return b"[" + dumps(args) + no_kwargs

    return encode


def encode_body(serializer: Serializer, args: Any, kwargs: Any, embed: Mapping[str, Any]) -> bytes:
    """The body with links, chain or chord.

    Raises:
        EncodeError: something in it can't be written.
    """
    return serializer.dumps((args, kwargs, {**EMPTY_EMBED, **embed} if embed else EMPTY_EMBED))


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
    get = _loaders(registry, accept_content).get

    def load(message: Message) -> tuple[Any, dict[str, Any], dict[str, Any]]:
        loads = get(message.content_type)
        if loads is None or "compression" in message.headers:
            body = loads_any(message)
        else:
            body = loads(message.body)
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


def content_loader(registry: Codecs, accept_content: Iterable[str]) -> Callable[[Message], Any]:
    """What reads the bare content of a message: decompressed, then deserialized."""
    loaders = _loaders(registry, accept_content)

    def loads(message: Message) -> Any:
        load = loaders.get(message.content_type)
        if load is None:
            raise SecurityError(
                f"content type {_shown(message.content_type)} is not accepted",
                hint="name its serializer in accept_content if you trust who sends it",
            )
        data = message.body
        compression = message.headers.get("compression")
        if compression:
            if not isinstance(compression, str):
                raise DecodeError("header 'compression' must be text")
            data = registry.compressor(compression).decompress(data)
        return load(data)

    return loads


def _loaders(registry: Codecs, accept: Iterable[str]) -> dict[str, Callable[[bytes], Any]]:
    serializers = [registry.serializer(name) for name in accept]
    return {each.content_type: each.loads for each in serializers}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
