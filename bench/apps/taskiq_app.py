"""taskiq on Redis lists, its fastest broker, with results and uvloop.
https://taskiq-python.github.io

``async def`` no-ops, its native kind: plain ones go through a thread pool.
"""

from __future__ import annotations

from typing import Any

from taskiq_redis import (  # type: ignore[import-not-found]
    ListQueueBroker,
    RedisAsyncResultBackend,
)

from bench.apps import asyncside
from bench.apps.asyncside import PYTHON, URL, AsyncSide

# without the time-out, which is shorter than the pop it would have to wait for
broker = ListQueueBroker(url=URL, socket_timeout=None).with_result_backend(
    RedisAsyncResultBackend(redis_url=URL)
)
TASKS: dict[str, Any] = {
    name: broker.task(task_name=name)(getattr(asyncside, name))
    for name in ("noop", "mark", "nap", "burn")
}


class TaskiqSide(AsyncSide):
    """See `bench.side.Side`."""

    done_script = "return redis.call('DBSIZE')"

    async def begin(self) -> None:
        await broker.startup()

    async def end(self) -> None:
        await broker.shutdown()

    async def send(self, name: str, *args: str) -> Any:
        return await TASKS[name].kiq(*args)

    async def result(self, handle: Any, timeout: float) -> None:
        await handle.wait_result(check_interval=0.001, timeout=timeout)

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        if pool == "threads":
            raise NotImplementedError("measured as asyncio")
        coroutines = concurrency if pool == "asyncio" else 100
        return [
            PYTHON, "-m", "taskiq", "worker", "bench.apps.taskiq_app:broker",
            "--workers", str(processes), "--max-async-tasks", str(coroutines),
            "--max-prefetch", str(coroutines), "--no-parse", "--log-level", "ERROR",
        ]  # fmt: skip


def make() -> TaskiqSide:
    """A side over an empty store."""
    return TaskiqSide()
