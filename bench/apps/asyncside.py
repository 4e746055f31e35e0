"""What the sides of the task queues that are made of coroutines share.

Each sends from coroutines, as its own documentation does: the driver, which is plain code,
enters the event loop once for many tasks, and once for a whole round trip.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

import uvloop  # type: ignore[import-not-found]

from bench import work
from bench.redis_wire import evaluate

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

URL = os.environ.get("BENCH_REDIS", "")
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "100"))
"""Coroutines in each process of the worker."""


async def noop() -> None:
    """Do nothing."""


async def mark(label: str) -> None:
    """Leave a mark."""
    work.leave_mark(label)


async def nap(edge: str) -> None:
    """Wait on the event loop."""
    if edge:
        work.leave_mark(edge)
    await asyncio.sleep(work.NAP)


async def burn(edge: str) -> None:
    """Compute."""
    work.burn(edge)


class AsyncSide:
    """See `bench.side.Side`; what differs from queue to queue is below."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._run(self.begin())

    # -- of each queue -------------------------------------------------------------------

    done_script = ""
    """Lua that counts the results stored."""

    async def begin(self) -> None:
        """Connect."""

    async def end(self) -> None:
        """Disconnect."""

    async def send(self, name: str, *args: str) -> Any:
        """Send one task; return what `result` takes."""
        raise NotImplementedError

    async def result(self, handle: Any, timeout: float) -> None:
        """Wait for its result."""
        raise NotImplementedError

    async def send_many(self, name: str, rows: Sequence[tuple[str, ...]]) -> None:
        """Send many; a hundred calls at once unless the queue has something better."""
        for begin in range(0, len(rows), 100):
            await asyncio.gather(*(self.send(name, *row) for row in rows[begin : begin + 100]))

    def command(self, processes: int) -> list[str]:
        """The command line of a worker, which finds `CONCURRENCY` in its environment."""
        raise NotImplementedError

    # -- the same for all ----------------------------------------------------------------

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(coroutine)

    def publish(self) -> Any:
        return self._run(self.send("noop"))

    def publish_each(self, count: int) -> None:
        async def send() -> None:
            for _ in range(count):
                await self.send("noop")

        self._run(send())

    def publish_many(self, count: int) -> None:
        self._run(self.send_many("noop", [()] * count))

    def publish_mark(self, label: str) -> None:
        self._run(self.send("mark", label))

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        if not coroutine:
            raise NotImplementedError("measured as asyncio")
        self._in_order("nap", edges)

    def publish_burns(self, edges: list[str]) -> None:
        self._in_order("burn", edges)

    def _in_order(self, name: str, edges: list[str]) -> None:
        async def send() -> None:
            for edge in edges:
                await self.send(name, edge)

        self._run(send())

    def wait(self, handle: Any, timeout: float) -> None:
        self._run(self.result(handle, timeout))

    def roundtrip(self, timeout: float) -> None:
        async def both() -> None:
            await self.result(await self.send("noop"), timeout)

        self._run(both())

    def finished(self, expected: int) -> bool:
        return evaluate(URL, self.done_script) >= expected

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        if pool == "threads":
            raise NotImplementedError("measured as asyncio")
        coroutines = concurrency if pool == "asyncio" else CONCURRENCY
        return ["env", f"BENCH_CONCURRENCY={coroutines}", *self.command(processes)]

    def close(self) -> None:
        self._run(self.end())


PYTHON = sys.executable
