"""taskiq on Redis lists, its fastest broker, with results and uvloop.
https://taskiq-python.github.io

``async def`` no-ops, its native kind: plain ones go through a thread pool.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import uvloop  # type: ignore[import-not-found]
from taskiq_redis import (  # type: ignore[import-not-found]
    ListQueueBroker,
    RedisAsyncResultBackend,
)

from bench import work

_url = os.environ["BENCH_REDIS"]
# without the time-out, which is shorter than the pop it would have to wait for
broker = ListQueueBroker(url=_url, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(redis_url=_url)
)


async def _noop() -> None: ...


async def _mark(label: str) -> None:
    work.leave_mark(label)


async def _nap(edge: str) -> None:
    if edge:
        work.leave_mark(edge)
    await asyncio.sleep(work.NAP)


async def _burn(edge: str) -> None:
    work.burn(edge)


noop = broker.task(task_name="noop")(_noop)
mark = broker.task(task_name="mark")(_mark)
nap = broker.task(task_name="nap")(_nap)
burn = broker.task(task_name="burn")(_burn)


class TaskiqSide:
    """See `bench.side.Side`."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._runner.run(broker.startup())

    def publish(self) -> Any:
        return self._runner.run(noop.kiq())

    def publish_many(self, count: int) -> None:
        async def send() -> None:
            for begin in range(0, count, 100):
                await asyncio.gather(*(noop.kiq() for _ in range(min(100, count - begin))))

        self._runner.run(send())

    def publish_mark(self, label: str) -> None:
        self._runner.run(mark.kiq(label))

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        if not coroutine:
            raise NotImplementedError("measured as asyncio")

        async def send() -> None:
            for edge in edges:
                await nap.kiq(edge)

        self._runner.run(send())

    def publish_burns(self, edges: list[str]) -> None:
        for edge in edges:
            self._runner.run(burn.kiq(edge))

    def wait(self, handle: Any, timeout: float) -> None:
        self._runner.run(handle.wait_result(check_interval=0.001, timeout=timeout))

    def finished(self, expected: int) -> bool:
        async def count() -> int:
            from redis.asyncio import Redis  # type: ignore[import-not-found]

            async with Redis.from_url(_url) as client:
                return int(await client.dbsize())

        return self._runner.run(count()) >= expected

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        if pool == "threads":
            raise NotImplementedError("measured as asyncio")
        coroutines = concurrency if pool == "asyncio" else 100
        return [
            sys.executable, "-m", "taskiq", "worker", "bench.apps.taskiq_app:broker",
            "--workers", str(processes), "--max-async-tasks", str(coroutines),
            "--max-prefetch", str(coroutines), "--no-parse", "--log-level", "ERROR",
        ]  # fmt: skip

    def close(self) -> None:
        self._runner.run(broker.shutdown())


def make() -> TaskiqSide:
    """A side over an empty store."""
    return TaskiqSide()
