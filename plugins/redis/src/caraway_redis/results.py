"""Results' keys and records: Celery's (docs/reference/wire-format.md, "Redis")."""

from __future__ import annotations

import re

import msgspec

from caraway.message import StoredResult

RESULT_KEY = "celery-task-meta-"
GROUP_KEY = "celery-taskset-meta-"


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
