"""SAQ on Redis, with hiredis and uvloop.  https://saq-py.readthedocs.io

``async def`` tasks; results kept for its default of ten minutes; no web page.  A result is
waited for with ``Job.refresh``, which listens to the job's channel; ``Queue.apply`` polls, and
takes a second.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

import uvloop  # type: ignore[import-not-found]
from saq import Queue  # type: ignore[import-not-found]

from bench.apps import asyncside
from bench.apps.asyncside import CONCURRENCY, PYTHON, URL, AsyncSide
from bench.redis_wire import evaluate


async def noop(_context: Any) -> None:
    """Do nothing."""


async def mark(_context: Any, *, value: str) -> None:
    """Leave a mark."""
    await asyncside.mark(value)


async def nap(_context: Any, *, value: str) -> None:
    """Wait on the event loop."""
    await asyncside.nap(value)


async def burn(_context: Any, *, value: str) -> None:
    """Compute."""
    await asyncside.burn(value)


queue: Any = Queue.from_url(URL, max_concurrent_ops=100)
settings = {"queue": queue, "functions": [noop, mark, nap, burn], "concurrency": CONCURRENCY}

if os.environ.get("BENCH_CONCURRENCY"):
    # the worker, which makes its loop by the policy
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())


class SaqSide(AsyncSide):
    """See `bench.side.Side`."""

    signal_all = True

    async def begin(self) -> None:
        await queue.connect()

    async def end(self) -> None:
        await queue.disconnect()

    async def send(self, name: str, *args: str) -> Any:
        return await queue.enqueue(name, **({"value": args[0]} if args else {}))

    async def result(self, handle: Any, timeout: float) -> None:
        deadline = asyncio.get_running_loop().time() + timeout
        while not handle.completed:
            # what ends just before it listens is missed; so it looks again, soon
            try:
                await handle.refresh(until_complete=0.02)
            except TimeoutError:
                if asyncio.get_running_loop().time() > deadline:
                    raise

    def finished(self, expected: int) -> bool:
        # a job's key is there from its start; it leaves this set with its result
        del expected
        return evaluate(URL, "return redis.call('ZCARD', 'saq:default:incomplete')") == 0

    def command(self, processes: int) -> list[str]:
        return [PYTHON, "-m", "saq", "bench.apps.saq_app.settings", "--workers", str(processes)]


def make() -> SaqSide:
    """A side over an empty store."""
    return SaqSide()
