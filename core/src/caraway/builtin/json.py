"""JSON exactly as Celery reads and writes it.

What JSON has no word for travels as ``{"__type__": NAME, "__value__": VALUE}`` with NAME
one of ``datetime date time decimal uuid bytes base64`` (docs/reference/wire-format.md, "JSON").

Values of plain types take msgspec; everything it would refuse, or write in another way
than the standard library (NaN, sets, enums, keys that aren't strings, lone surrogates),
takes the standard library.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, cast

from msgspec.json import Decoder, Encoder

from caraway.errors import DecodeError, EncodeError
from caraway.interfaces.serializer import Serializer

if TYPE_CHECKING:
    import json

_SCALARS = frozenset((str, int, bool, NoneType))
_fast_dumps = Encoder().encode
_fast_loads = Decoder().decode

_extra_encoders: list[tuple[type, str | None, Callable[[Any], Any]]] = []
_extra_decoders: dict[str, Callable[[Any], Any]] = {}


class JsonSerializer(Serializer):
    """The default serializer, ``json``."""

    name: ClassVar[str] = "json"
    content_type: ClassVar[str] = "application/json"
    content_encoding: ClassVar[str] = "utf-8"

    def dumps(self, value: Any) -> bytes:
        try:
            if _is_plain(value):
                return _fast_dumps(value)
        except (TypeError, ValueError, OverflowError, RecursionError):
            pass  # lone surrogates, huge integers, cycles: the slow way decides
        return _slow_dumps(value)

    def loads(self, data: bytes) -> Any:
        try:
            if b"__type__" not in data:
                return _fast_loads(data)
        except (ValueError, RecursionError, TypeError):
            pass  # NaN, Infinity, lone surrogates and 1e999 are JSON to Celery
        return _slow_loads(data)


_serializer = JsonSerializer()
dumps = _serializer.dumps
"""`JsonSerializer.dumps`."""
loads = _serializer.loads
"""`JsonSerializer.loads`."""


def register_type(
    kind: type,
    marker: str | None,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any] | None = None,
) -> None:
    """Teach the serializer one more type.

    Args:
        kind: instances of it (subclasses too) go through ``encoder``.
        marker: the ``__type__`` on the wire; None writes the encoder's value bare.
        encoder: value to something JSON can hold.
        decoder: back; needed by whoever reads the marker.
    """
    _extra_encoders.insert(0, (kind, marker, encoder))
    if marker is not None and decoder is not None:
        _extra_decoders[marker] = decoder


def _is_plain(value: Any) -> bool:
    """True if msgspec writes this value just as the standard library would."""
    kind = type(value)
    if kind is dict:
        for key in value:
            if type(key) is not str:
                return False
        items = value.values()
    elif kind is tuple or kind is list:
        items = value
    elif kind is float:
        return bool(value - value == 0.0)  # false for NaN and the infinities
    else:
        return kind in _SCALARS
    if _SCALARS.issuperset(map(type, items)):
        return True
    return all(type(item) in _SCALARS or _is_plain(item) for item in items)


_encoder: json.JSONEncoder | None = None


def _slow_dumps(value: Any) -> bytes:
    global _encoder  # noqa: PLW0603 - made with the first use: json is imported late
    if _encoder is None:
        import json

        _encoder = json.JSONEncoder(default=_encode_special)
    try:
        return _encoder.encode(value).encode("ascii")
    except EncodeError:
        raise
    except (RecursionError, MemoryError):
        raise
    except Exception as exc:
        raise EncodeError(
            f"can't write {type(value).__name__} as JSON: {exc}",
            hint="pass plain values, or choose another serializer (task_serializer)",
        ) from exc


def _encode_special(value: Any) -> Any:
    reduce = getattr(value, "__json__", None)
    if reduce is not None:
        return reduce()
    for kind, name, encode in _extra_encoders:
        if isinstance(value, kind):
            return encode(value) if name is None else _marked(name, encode(value))
    return _encode_builtin(value)


def _encode_builtin(value: Any) -> Any:
    import datetime
    import decimal
    import uuid

    if isinstance(value, datetime.datetime):
        return _marked("datetime", value.isoformat())
    if isinstance(value, datetime.date):
        return _marked("date", value.isoformat())
    if isinstance(value, datetime.time):
        return _marked("time", value.isoformat())
    if isinstance(value, decimal.Decimal):
        return _marked("decimal", str(value))
    if isinstance(value, uuid.UUID):
        return _marked("uuid", {"hex": value.hex})
    if isinstance(value, bytes):
        try:
            return _marked("bytes", value.decode("utf-8"))
        except UnicodeDecodeError:
            import base64

            return _marked("base64", base64.b64encode(value).decode("ascii"))
    raise EncodeError(
        f"can't write {type(value).__module__}.{type(value).__qualname__} as JSON",
        hint="convert it first, give its class a __json__ method, "
        "or choose another serializer (task_serializer)",
    )


def _marked(name: str, value: Any) -> dict[str, Any]:
    return {"__type__": name, "__value__": value}


def _slow_loads(data: bytes) -> Any:
    import json

    try:
        text = bytes(data).decode("utf-8")
        return json.loads(text, object_hook=_decode_special)
    except MemoryError:
        raise
    except RecursionError as exc:
        raise DecodeError("JSON nested too deep") from exc
    except Exception as exc:
        raise DecodeError(f"not JSON as Celery writes it: {exc}") from exc


def _decode_special(value: dict[str, Any]) -> Any:
    if len(value) != 2 or "__type__" not in value or "__value__" not in value:
        return value
    name, content = value["__type__"], value["__value__"]
    if not isinstance(name, str):
        raise DecodeError(f"__type__ must be a string, not {type(name).__name__}")
    decode = _extra_decoders.get(name) or _builtin_decoders().get(name)
    if decode is None:
        raise DecodeError(
            f"unknown __type__ {name!r}", hint="register it with register_type() in this process"
        )
    return decode(content)


_decoders: dict[str, Callable[[Any], Any]] = {}


def _builtin_decoders() -> dict[str, Callable[[Any], Any]]:
    if not _decoders:
        import base64
        from datetime import datetime, time
        from decimal import Decimal
        from uuid import UUID

        _decoders.update(
            datetime=datetime.fromisoformat,
            date=lambda text: datetime.fromisoformat(text).date(),
            time=time.fromisoformat,
            decimal=Decimal,
            uuid=lambda fields: UUID(**cast("dict[str, Any]", fields)),
            bytes=lambda text: cast("str", text).encode("utf-8"),
            base64=lambda text: base64.b64decode(text.encode("ascii"), validate=True),
        )
    return _decoders
