"""Task ids: random UUIDs (version 4), made many at a time."""

from __future__ import annotations

import os

_BATCH = 256
ready: list[str] = []


def new_id() -> str:
    """A fresh uuid4 as text.

    One system call makes 256 of them.  `list.pop` is atomic, so threads don't need a
    lock; a forked child throws away what it inherited.
    """
    try:
        return ready.pop()
    except IndexError:
        _refill()
        return new_id()  # another thread may have been quicker: then fill again


def _refill() -> None:
    text = os.urandom(16 * _BATCH).hex()
    fresh = []
    for at in range(0, 32 * _BATCH, 32):
        variant = "89ab"[int(text[at + 16], 16) & 3]
        fresh.append(
            f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-4{text[at + 13 : at + 16]}"
            f"-{variant}{text[at + 17 : at + 20]}-{text[at + 20 : at + 32]}"
        )
    ready.extend(fresh)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ready.clear)
