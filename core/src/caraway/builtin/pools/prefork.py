"""The pool ``prefork``: as many processes as the worker's concurrency."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.inline import InlineExecutor
from caraway.errors import ImproperlyConfigured
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Pool

if TYPE_CHECKING:
    from collections.abc import Mapping


class PreforkPool(Pool):
    """``concurrency`` lanes, each running one sync task at a time in its main thread, and
    up to ``worker_async_concurrency`` coroutines beside it.

    Raises:
        ImproperlyConfigured: the platform has no ``fork`` (Windows).
    """

    name = "prefork"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PROCESSES})

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:
        if not hasattr(os, "fork"):
            raise ImproperlyConfigured(
                "the pool prefork needs fork(), which this platform doesn't have",
                hint="use --pool threads, asyncio or solo (setting worker_pool)",
            )
        self.lanes = concurrency
        self._async_concurrency = int(settings.get("worker_async_concurrency") or 100)

    def executor(self) -> Executor:
        return InlineExecutor(self._async_concurrency)
