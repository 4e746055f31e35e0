"""Task messages of protocol 1: no headers, everything in the body's mapping.

Its keys: docs/reference/wire-format.md, "Version 1".  Read only; Celery has written
protocol 2 since 4.0.  "Hybrid" messages (header ``task``, body a mapping) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from caraway.errors import InvalidTaskError

_HEADERS = (
    "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries",
    "timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin",
    "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps",
)  # fmt: skip
_EMBEDDED = ("callbacks", "errbacks", "chain", "chord")


def headers_of(body: Any) -> dict[str, Any]:
    """Headers of protocol 2 for a body of protocol 1.

    Raises:
        InvalidTaskError: it isn't one.
    """
    if not isinstance(body, dict):
        raise InvalidTaskError(f"not a task message: no header 'task', body {_kind(body)}")
    name, task_id = body.get("task"), body.get("id")
    if not isinstance(name, str) or not isinstance(task_id, str):
        raise InvalidTaskError("not a task message: 'task' and 'id' must be text")
    headers = {key: body[key] for key in _HEADERS if key in body}
    headers["lang"] = "py"
    headers.setdefault("group", body.get("taskset"))
    headers["retries"] = body.get("retries") or 0
    headers["root_id"] = body.get("root_id") or task_id
    return headers


def body_parts(body: Any) -> tuple[Any, Any, dict[str, Any]]:
    """``(args, kwargs, embed)`` of a body of protocol 1.

    Raises:
        InvalidTaskError: it isn't one.
    """
    if not isinstance(body, Mapping):
        raise InvalidTaskError(
            f"not a task message: the body must be [args, kwargs, embed], not {_kind(body)}"
        )
    args, kwargs = body.get("args"), body.get("kwargs")
    return (
        [] if args is None else args,
        {} if kwargs is None else kwargs,
        {key: body.get(key) for key in _EMBEDDED},
    )


def _kind(value: object) -> str:
    return f"a {type(value).__name__}"
