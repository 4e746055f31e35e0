"""The body of a task message: ``[args, kwargs, embed]``, and the way back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import DecodeError, SecurityError
from caraway.message import Message

if TYPE_CHECKING:
    from caraway.interfaces.serializer import Serializer
    from caraway.protocol.v2 import Codecs

EMPTY_EMBED: dict[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
JSON_END = b',{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'

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


def content_loader(registry: Codecs, accept_content: Iterable[str]) -> Callable[[Message], Any]:
    """What reads the bare content of a message: decompressed, then deserialized."""
    accepted = loaders(registry, accept_content)

    def loads(message: Message) -> Any:
        load = accepted.get(message.content_type)
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


def loaders(registry: Codecs, accept: Iterable[str]) -> dict[str, Callable[[bytes], Any]]:
    serializers = [registry.serializer(name) for name in accept]
    return {each.content_type: each.loads for each in serializers}


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."
