"""The pool ``asyncio``: one process, one event loop, many coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.shared import SharedExecutor
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping


class AsyncioPool(Pool):
    """One lane with ``concurrency`` coroutines.

    Sync tasks count among them; they run in threads beside the loop, so that they don't
    hold up the coroutines.
    """

    name = "asyncio"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONCURRENT})
    lanes = 1

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - a pool's factory
        self.concurrency = concurrency

    def executor(self) -> Executor:
        # Every asyncio worker needs the loop: imported here, before the first task waits.
        from caraway.builtin.pools import event_loop  # noqa: F401 - for its effect

        return SharedExecutor(self.concurrency)
