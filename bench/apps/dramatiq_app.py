"""Dramatiq on Redis with its results middleware.  https://dramatiq.io

One worker process with its default of 8 threads stands for one lane: fewer threads are
slower, since each takes one message a round trip.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import dramatiq  # type: ignore[import-not-found]
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found]
from dramatiq.results import Results  # type: ignore[import-not-found]
from dramatiq.results.backends import RedisBackend  # type: ignore[import-not-found]

from bench import work

_url = os.environ["BENCH_REDIS"]
_backend = RedisBackend(url=_url)
broker = RedisBroker(url=_url)
broker.add_middleware(Results(backend=_backend, store_results=True))
dramatiq.set_broker(broker)


def _noop() -> int:
    return 1


def _mark(label: str) -> int:
    work.leave_mark(label)
    return 1


def _nap(edge: str) -> int:
    work.nap(edge)
    return 1


def _burn(edge: str) -> int:
    work.burn(edge)
    return 1


noop = dramatiq.actor(_noop)
mark = dramatiq.actor(_mark)
nap = dramatiq.actor(_nap)
burn = dramatiq.actor(_burn)


class DramatiqSide:
    """See `bench.side.Side`."""

    def publish(self) -> Any:
        return noop.send()

    def publish_many(self, count: int) -> None:
        for _ in range(count):
            noop.send()

    def publish_mark(self, label: str) -> None:
        mark.send(label)

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        if coroutine:
            raise NotImplementedError("coroutines run in one thread beside the pool")
        for edge in edges:
            nap.send(edge)

    def publish_burns(self, edges: list[str]) -> None:
        for edge in edges:
            burn.send(edge)

    def wait(self, handle: Any, timeout: float) -> None:
        handle.get_result(block=True, timeout=int(timeout * 1000))

    def finished(self, expected: int) -> bool:
        keys = "?" * 32  # a result's key is a digest, every other key has a readable name
        script = f"return #redis.call('KEYS', '{keys}')"
        return bool(broker.client.eval(script, 0) >= expected)

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        if pool == "asyncio":
            raise NotImplementedError("no asyncio pool")
        threads = 8 if pool == "prefork" else concurrency
        return [
            sys.executable, "-m", "dramatiq", "bench.apps.dramatiq_app",
            "-p", str(processes), "-t", str(threads),
        ]  # fmt: skip

    def close(self) -> None:
        broker.close()


def make() -> DramatiqSide:
    """A side over an empty store."""
    return DramatiqSide()
