"""The meta record that stands for a task's state in a backend.

Its fields: docs/reference/wire-format.md, "Results" and "Exceptions".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from time import time
from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder

from caraway import states
from caraway.errors import DecodeError, SecurityError
from caraway.protocol.times import iso

if TYPE_CHECKING:
    from caraway.interfaces.serializer import Serializer


def encode_meta(
    serializer: Serializer,
    task_id: str,
    state: str,
    result: Any,
    *,
    traceback: str | None = None,
    request: Any = None,
    extended: bool = False,
    done: float | None = None,
) -> bytes:
    """Serialize a state.

    Args:
        serializer: of ``result_serializer``.
        task_id: whose.
        state: of `caraway.states` or a custom one.
        result: the value; for exception states see `encode_exception`.
        traceback: as text.
        request: the run's `caraway.request.Request`, for group, parent and children.
        extended: ``result_extended``: name, arguments, worker, retries, queue as well.
        done: epoch seconds; None is now.

    Raises:
        EncodeError: the result can't be written.
    """
    # Celery dates final states only
    when = None
    if state in states.READY_STATES:
        when = iso(time() if done is None else done)
    record = meta_record(task_id, state, result, traceback, when)
    if request is not None:
        if request.group:
            record["group_id"] = request.group
        if request.parent_id:
            record["parent_id"] = request.parent_id
        if request.children:
            record["children"] = [child.as_tuple() for child in request.children]
        if extended:
            record.update(_extension(request))
    return serializer.dumps(record)


def meta_record(
    task_id: str, state: str, result: Any, traceback: str | None, when: str | None
) -> dict[str, Any]:
    """The record of a state, before it is serialized."""
    return {
        "status": state,
        "result": result,
        "traceback": traceback,
        "children": [],
        "date_done": when,
        "task_id": task_id,
    }


def _extension(request: Any) -> dict[str, Any]:
    delivery = request.delivery
    fields = {
        "name": request.task,
        "args": list(request.args),
        "kwargs": dict(request.kwargs),
        "worker": request.hostname,
        "retries": request.retries,
        "queue": delivery.queue if delivery is not None else None,
    }
    stamped = request.stamped_headers
    if stamped:
        fields["stamped_headers"] = stamped
        fields.update(request.stamps)
    return fields


def decode_meta(serializer: Serializer, payload: bytes) -> dict[str, Any]:
    """Read a meta record.

    Raises:
        DecodeError: it isn't one.
    """
    record = serializer.loads(payload)
    if not isinstance(record, dict) or not isinstance(record.get("status"), str):
        raise DecodeError("not a result record: it has no 'status'")
    return record


class _Status(Struct):
    status: str = ""


_status = Decoder(_Status).decode
_WORD = re.compile(rb"[A-Z]{4,}")


def state_of(payload: bytes) -> str:
    """The state in a record that is serialized already: JSON's, or of another serializer's
    bytes the first longer word in capitals after "status"; empty if there is none."""
    try:
        state = _status(payload).status
    except MsgspecError:
        state = ""
    if not state:
        at = payload.find(b"status")
        found = _WORD.search(payload, at + 6) if at >= 0 else None
        state = found[0].decode() if found is not None else ""
    return state


# -- exceptions ------------------------------------------------------------------------


def encode_exception(exc: BaseException) -> dict[str, Any]:
    """An exception as data: ``exc_type``, ``exc_message`` (its args), ``exc_module``.

    Arguments that JSON can't hold travel as their repr.
    """
    cls = type(exc)
    return {
        "exc_type": getattr(cls, "__qualname__", cls.__name__),
        "exc_message": [_portable(arg) for arg in exc.args],
        "exc_module": _wire_module(cls),
    }


def decode_exception(record: Any) -> BaseException:
    """The exception again: of its own class if that is loaded here, else of a class of
    the same name made for it.  Nothing is imported, nothing but exceptions is built.

    Raises:
        SecurityError: the record names something that is not an exception class.
        DecodeError: not such a record.
    """
    if isinstance(record, BaseException):
        return record
    if not isinstance(record, Mapping) or not isinstance(record.get("exc_type"), str):
        raise DecodeError(f"not an exception record: {str(record)[:200]}")
    name, module = record["exc_type"], record.get("exc_module")
    cls = _find_class(name, module if isinstance(module, str) else "")
    message = record.get("exc_message", "")
    args = tuple(message) if isinstance(message, (list, tuple)) else (message,)
    try:
        exc = cls(*args)
    except Exception:  # noqa: BLE001 - constructors with a signature of their own
        exc = _bare(cls, args)
    return exc


_CELERY_NAMES = frozenset(
    ("BackendError", "BackendGetMetaError", "BackendStoreError", "ChordError", "Ignore",
     "ImproperlyConfigured", "IncompleteStream", "InvalidTaskError", "MaxRetriesExceededError",
     "NotRegistered", "AlreadyRegistered", "QueueNotFound", "Reject", "Retry", "SecurityError",
     "TaskError", "TaskPredicate", "TaskRevokedError", "TimeoutError", "WorkerShutdown",
     "WorkerTerminate")
)  # fmt: skip
_BILLIARD_NAMES = frozenset(
    ("SoftTimeLimitExceeded", "TimeLimitExceeded", "WorkerLostError", "Terminated")
)
_KOMBU_NAMES = frozenset(("OperationalError", "EncodeError", "DecodeError"))
_OURS = "caraway.errors"
_THEIRS = frozenset(("celery.exceptions", "billiard.exceptions", "kombu.exceptions"))


def _wire_module(cls: type[BaseException]) -> str:
    """Where Celery has the same class, so that its clients rebuild it as their own."""
    module = cls.__module__
    if module == _OURS:
        for names, theirs in (
            (_CELERY_NAMES, "celery.exceptions"),
            (_BILLIARD_NAMES, "billiard.exceptions"),
            (_KOMBU_NAMES, "kombu.exceptions"),
        ):
            if cls.__name__ in names:
                return theirs
    return module


def _find_class(name: str, module: str) -> type[BaseException]:
    found: Any = sys.modules.get(_OURS if module in _THEIRS else module)
    for part in name.split("."):
        found = getattr(found, part, None)
        if found is None:
            return type(name.rpartition(".")[2] or "Error", (Exception,), {"__module__": module})
    if not isinstance(found, type) or not issubclass(found, BaseException):
        raise SecurityError(f"a result names {module}.{name} as its exception: not an exception")
    return found


def _bare(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An instance made past the constructor; a plain Exception if even that fails."""
    try:
        exc = cls.__new__(cls, *args)
        exc.args = args
    except Exception:  # noqa: BLE001 - __new__ may demand anything
        return Exception(f"{cls.__name__}{args!r}")
    return exc


def _portable(value: Any, depth: int = 3) -> Any:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if depth and isinstance(value, (list, tuple)):
        return [_portable(item, depth - 1) for item in value]
    if depth and isinstance(value, dict):
        return {str(key): _portable(item, depth - 1) for key, item in value.items()}
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - a broken repr must not hide the failure itself
        return f"<{type(value).__name__}>"
