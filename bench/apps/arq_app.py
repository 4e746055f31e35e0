"""arq on Redis, with hiredis and uvloop.  https://arq-docs.helpmanuel.io

``async def`` tasks; results kept for its default of an hour; not logged.  It polls: every
half a second by default, every millisecond here, for the worker and for who waits for a
result, which buys short round trips with processor time while idle.  Its command line runs
one process; two are two of its workers beside each other.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import sys
from typing import Any

import uvloop  # type: ignore[import-not-found]
from arq import create_pool, run_worker  # type: ignore[import-not-found]
from arq.connections import RedisSettings  # type: ignore[import-not-found]

from bench.apps import asyncside
from bench.apps.asyncside import CONCURRENCY, PYTHON, URL, AsyncSide

POLL = 0.001
"""Seconds between two looks."""


async def noop(_context: Any) -> None:
    """Do nothing."""


async def mark(_context: Any, label: str) -> None:
    """Leave a mark."""
    await asyncside.mark(label)


async def nap(_context: Any, edge: str) -> None:
    """Wait on the event loop."""
    await asyncside.nap(edge)


async def burn(_context: Any, edge: str) -> None:
    """Compute."""
    await asyncside.burn(edge)


class Settings:
    """Of the worker."""

    functions = (noop, mark, nap, burn)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = CONCURRENCY
    poll_delay = POLL
    log_results = False
    # a warm stop; what is cancelled would be run again
    job_completion_wait = 5


def work_one() -> None:
    """One process of the worker."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.set_event_loop(asyncio.new_event_loop())
    run_worker(Settings)


def work(processes: int) -> None:
    """So many, until SIGTERM."""
    others = [
        multiprocessing.get_context("spawn").Process(target=work_one) for _ in range(processes - 1)
    ]
    for process in others:
        process.start()
    try:
        work_one()
    finally:
        for process in others:
            process.terminate()
        for process in others:
            process.join()


class ArqSide(AsyncSide):
    """See `bench.side.Side`."""

    done_script = "return #redis.call('KEYS', 'arq:result:*')"

    async def begin(self) -> None:
        self._pool: Any = await create_pool(RedisSettings.from_dsn(URL))

    async def end(self) -> None:
        await self._pool.aclose()

    async def send(self, name: str, *args: str) -> Any:
        return await self._pool.enqueue_job(name, *args)

    async def result(self, handle: Any, timeout: float) -> None:
        await handle.result(timeout=timeout, poll_delay=POLL)

    def command(self, processes: int) -> list[str]:
        return [PYTHON, "-m", "bench.apps.arq_app", str(processes)]


def make() -> ArqSide:
    """A side over an empty store."""
    return ArqSide()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    work(int(sys.argv[1]))
