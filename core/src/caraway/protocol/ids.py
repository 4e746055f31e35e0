"""Task ids: UUIDs of version 7 (RFC 9562), made many at a time.

They begin with the time, so that the keys of what is stored together are neighbours: in a
store with ordered keys (SQLite, SQL databases), inserting results of random keys touches
one page for each, of these one page for many.  Celery takes any text for an id.
"""

from __future__ import annotations

import os
from time import time

_BATCH = 256
ready: list[str] = []


def new_id() -> str:
    """A fresh UUID as text: 48 bits of time (ms), a counter of 12, 62 random bits.

    One system call makes 256 of them.  `list.pop` is atomic, so threads don't need a
    lock; a forked child throws away what it inherited.
    """
    try:
        return ready.pop()
    except IndexError:
        _refill()
        return new_id()  # another thread may have been quicker: then fill again


def _refill() -> None:
    text = os.urandom(8 * _BATCH).hex()
    moment = f"{int(time() * 1000) & 0xFFFFFFFFFFFF:012x}"
    begin = f"{moment[:8]}-{moment[8:]}-7"
    first = int(text[:3], 16) % (4096 - _BATCH)
    fresh = []
    for n in range(_BATCH):
        at = 16 * n
        variant = "89ab"[int(text[at], 16) & 3]
        fresh.append(
            f"{begin}{first + n:03x}-{variant}{text[at + 1 : at + 4]}-{text[at + 4 : at + 16]}"
        )
    fresh.reverse()  # they are taken from the end
    ready.extend(fresh)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ready.clear)
