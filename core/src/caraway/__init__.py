"""Caraway: a distributed task queue that speaks Celery's wire protocol.

Names are loaded when they are first used, so that ``import caraway`` costs next to
nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers know the name; `typing` needn't be imported for it

if TYPE_CHECKING:
    from typing import Any

    from caraway import signals, states
    from caraway.app import Caraway, current_app, current_task, shared_task
    from caraway.canvas import Signature, maybe_signature
    from caraway.canvas.signature import signature
    from caraway.errors import Ignore, Reject, Retry
    from caraway.interfaces.context import Capability
    from caraway.middleware import Middleware
    from caraway.request import Request
    from caraway.result import AsyncResult, EagerResult, ResultSet, as_completed
    from caraway.task import Task

__version__ = "0.1.0"

_WHERE = {
    "AsyncResult": "result",
    "Capability": "interfaces.context",
    "Caraway": "app",
    "EagerResult": "result",
    "Ignore": "errors",
    "Middleware": "middleware",
    "Reject": "errors",
    "Request": "request",
    "ResultSet": "result",
    "Retry": "errors",
    "Signature": "canvas",
    "Task": "task",
    "as_completed": "result",
    "current_app": "app",
    "current_task": "app",
    "maybe_signature": "canvas",
    "shared_task": "app",
    "signature": "canvas",
    "signals": "",
    "states": "",
}

__all__ = [
    "AsyncResult",
    "Capability",
    "Caraway",
    "EagerResult",
    "Ignore",
    "Middleware",
    "Reject",
    "Request",
    "ResultSet",
    "Retry",
    "Signature",
    "Task",
    "__version__",
    "as_completed",
    "current_app",
    "current_task",
    "maybe_signature",
    "shared_task",
    "signals",
    "signature",
    "states",
]


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module 'caraway' has no attribute {name!r}")
    from importlib import import_module

    if not module:
        return import_module(f"caraway.{name}")
    value = getattr(import_module(f"caraway.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
