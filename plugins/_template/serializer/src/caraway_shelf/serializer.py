"""A serializer that writes Python literals: replace the inside of its two methods.

The contract is `caraway.interfaces.serializer`; tests/test_conformance.py holds this to it.
"""

from __future__ import annotations

import ast
import math
from typing import Any, ClassVar

from caraway.errors import DecodeError, EncodeError
from caraway.interfaces import Serializer

_KNOWN = (type(None), bool, int, float, str, bytes)


class ShelfSerializer(Serializer):
    """``repr``, and back: None, bool, int, float, str, bytes, list, tuple, dict."""

    name: ClassVar[str] = "shelf"
    content_type: ClassVar[str] = "application/x-shelf"
    content_encoding: ClassVar[str] = "utf-8"

    def dumps(self, value: Any) -> bytes:
        _check(value)
        try:
            return repr(value).encode()
        except UnicodeEncodeError as exc:
            raise EncodeError(f"a text is not valid Unicode: {exc}") from exc

    def loads(self, data: bytes) -> Any:
        try:
            value = ast.literal_eval(data.decode())
            _check(value)
        except (RecursionError, MemoryError, ValueError, SyntaxError, TypeError) as exc:
            raise DecodeError(f"not a literal: {type(exc).__name__}") from exc
        except EncodeError as exc:
            raise DecodeError(f"not written by this serializer: {exc}") from exc
        return value


def _check(value: Any) -> None:
    """Refuse what ``repr`` would write and nobody could read back."""
    kind = type(value)
    if kind is float and not math.isfinite(value):
        raise EncodeError(f"can't write the number {value}")
    if kind in (list, tuple):
        for item in value:
            _check(item)
    elif kind is dict:
        for key, item in value.items():
            _check(key)
            _check(item)
    elif kind not in _KNOWN:
        raise EncodeError(f"can't write {kind.__module__}.{kind.__qualname__}")
