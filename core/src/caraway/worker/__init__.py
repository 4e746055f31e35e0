"""The worker's half: lanes that run tasks, and the supervisor that keeps them.

`Worker` is the way in; the other modules are not public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.worker.worker import Worker as Worker

__all__ = ["Worker"]


def __getattr__(name: str) -> Any:
    if name == "Worker":
        from caraway.worker.worker import Worker

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
