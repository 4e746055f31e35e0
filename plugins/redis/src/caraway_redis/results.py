"""Results' keys and records: Celery's (docs/reference/wire-format.md, "Redis")."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from caraway.message import StoredResult

if TYPE_CHECKING:
    from caraway_redis.options import Options

RESULT_KEY = "celery-task-meta-"
GROUP_KEY = "celery-taskset-meta-"


def prefix(options: Options) -> str:
    """Before results' keys: as Celery, a prefix that ends like a word gets a ``_``."""
    begin = options.global_keyprefix
    if begin and begin[-1] not in ":_-.":
        begin += "_"
    return begin + options.tag


def milliseconds(seconds: float) -> int:
    """A time to live as Redis takes it; 0 is for ever, here as there."""
    # What is to vanish at once must not stay for ever.
    return max(1, int(seconds * 1000)) if seconds > 0 else 0


class _Status(msgspec.Struct):
    status: str = ""


_status = msgspec.json.Decoder(_Status).decode
_WORD = re.compile(rb"[A-Z]{4,}")


def record(task_id: str, value: bytes) -> StoredResult:
    """A stored record with its state: JSON's, or of another serializer's bytes the first
    longer word in capitals after "status"."""
    try:
        state = _status(value).status
    except msgspec.MsgspecError:
        state = ""
    if not state:
        at = value.find(b"status")
        found = _WORD.search(value, at + 6) if at >= 0 else None
        state = found[0].decode() if found is not None else ""
    return StoredResult(task_id, state, value)
