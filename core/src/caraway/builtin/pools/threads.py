"""The pool ``threads``: one process, many threads; for tasks that wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.shared import SharedExecutor
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping


class ThreadsPool(Pool):
    """One lane with ``concurrency`` threads; async tasks count among them.

    A soft time limit arrives when the task next runs Python code: not while it blocks in a
    system call.  A hard one replaces the whole lane.
    """

    name = "threads"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONCURRENT})
    lanes = 1

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - a pool's factory
        self.concurrency = concurrency

    def executor(self) -> Executor:
        return SharedExecutor(self.concurrency)
