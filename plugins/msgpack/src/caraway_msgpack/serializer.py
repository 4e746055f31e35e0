"""The serializer.

Writes what kombu writes for ``application/x-msgpack``: text as ``str``, bytes as ``bin``
(``packb(use_bin_type=True)``), no extension types.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgpack  # type: ignore[import-untyped]  # it ships no types

from caraway.errors import DecodeError, EncodeError
from caraway.interfaces import Serializer

_HINT = "MessagePack carries None, bool, int (64 bits), float, str, bytes, list, dict."


class MsgpackSerializer(Serializer):
    """MessagePack, as Celery reads and writes it."""

    name: ClassVar[str] = "msgpack"
    content_type: ClassVar[str] = "application/x-msgpack"
    content_encoding: ClassVar[str] = "binary"

    def dumps(self, value: Any) -> bytes:
        try:
            packed: bytes = msgpack.packb(value, use_bin_type=True)
        except OverflowError as exc:
            raise EncodeError(f"an integer has more than 64 bits: {exc}", hint=_HINT) from exc
        except UnicodeEncodeError as exc:
            raise EncodeError(f"a text is not valid Unicode: {exc}", hint=_HINT) from exc
        except (TypeError, ValueError) as exc:
            raise EncodeError(f"can't be written as MessagePack: {exc}", hint=_HINT) from exc
        return packed

    def loads(self, data: bytes) -> Any:
        try:
            return msgpack.unpackb(data, raw=False, strict_map_key=False)
        except (RecursionError, MemoryError):
            raise DecodeError("MessagePack nested or announced too large to be read") from None
        except Exception as exc:
            # Of its many exceptions some have no common base (ExtraData, StackError,
            # FormatError, UnicodeDecodeError, TypeError for unhashable keys ...).
            raise DecodeError(f"not MessagePack: {type(exc).__name__}: {exc}") from exc
