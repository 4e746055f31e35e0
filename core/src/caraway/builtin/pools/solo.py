"""The pool ``solo``: tasks run in the worker's own process, one after another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.inline import InlineExecutor
from caraway.interfaces.pool import Executor, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caraway.interfaces.context import Capability


class SoloPool(Pool):
    """One lane, in the calling process; the concurrency is 1 whatever was asked for.

    Async tasks run beside, up to ``worker_async_concurrency``.
    """

    name = "solo"
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    in_process = True
    lanes = 1

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - a pool's factory
        self._async_concurrency = int(settings.get("worker_async_concurrency") or 100)

    def executor(self) -> Executor:
        return InlineExecutor(self._async_concurrency)
