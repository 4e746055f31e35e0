"""Arguments and results as short texts, for monitors."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.message import Message

REPR_SIZE = 1024
"""Characters of a text at most."""
LARGE = 16 * 1024
"""Bytes of a body beyond which its beginning is shown, and nothing decoded."""


def text_of(value: Any, size: int = REPR_SIZE) -> str:
    """``repr``, cut; a ``__repr__`` that fails doesn't."""
    try:
        text = repr(value)
    except Exception as exc:  # noqa: BLE001 - a __repr__ of the user's may raise anything
        text = f"<{type(value).__name__}: its text can't be shown: {type(exc).__name__}>"
    return text if len(text) <= size else text[: size - 3] + "..."


def shown(message: Message, load: Callable[[Message], tuple[Any, Any, Any]]) -> tuple[str, str]:
    """Positional and keyword arguments of a task message: as its sender wrote them, else
    from its body.

    Args:
        message: of protocol 2.
        load: reads a body; what can't be read is shown as ``?``.
    """
    headers = message.headers
    args = headers.get("argsrepr")
    if type(args) is str:
        return args[:REPR_SIZE], str(headers.get("kwargsrepr") or "{}")[:REPR_SIZE]
    body = message.body
    if len(body) > LARGE:
        return f"<{len(body)} bytes of {message.content_type}>", "{}"
    try:
        values, named, _ = load(message)
    except Exception:  # noqa: BLE001 - whatever hostile bytes may cause
        return "?", "?"
    return text_of(tuple(values)), text_of(named) if named else "{}"
