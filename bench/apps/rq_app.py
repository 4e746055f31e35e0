"""RQ on Redis with its worker that doesn't fork per job, the fastest it has.
https://python-rq.org
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from redis import Redis
from rq import Queue  # type: ignore[import-not-found]

from bench import work

_url = os.environ["BENCH_REDIS"]
_client = Redis.from_url(_url)
queue = Queue("bench", connection=_client)


class RqSide:
    """See `bench.side.Side`."""

    def publish(self) -> Any:
        return queue.enqueue(work.noop)

    def publish_many(self, count: int) -> None:
        for begin in range(0, count, 500):
            queue.enqueue_many(
                [Queue.prepare_data(work.noop) for _ in range(min(500, count - begin))]
            )

    def publish_mark(self, label: str) -> None:
        queue.enqueue(work.leave_mark, label)

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        raise NotImplementedError("one job at a time a process")

    def publish_burns(self, edges: list[str]) -> None:
        for edge in edges:
            queue.enqueue(work.burn, edge)

    def wait(self, handle: Any, timeout: float) -> None:
        end = time.monotonic() + timeout
        while not handle.is_finished:
            if time.monotonic() > end:
                raise TimeoutError
            time.sleep(0.001)

    def finished(self, expected: int) -> bool:
        return bool(_client.zcard("rq:finished:bench") >= expected)

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        del concurrency
        if pool != "prefork":
            raise NotImplementedError("one job at a time a process")
        rq = [sys.executable, "-m", "rq.cli"]
        if processes == 1:
            return [*rq, "worker", "-q", "-w", "rq.SimpleWorker", "-u", _url, "bench"]
        return [
            *rq, "worker-pool", "-q", "-w", "rq.SimpleWorker", "-u", _url,
            "-n", str(processes), "bench",
        ]  # fmt: skip

    def close(self) -> None:
        _client.close()


def make() -> RqSide:
    """A side over an empty store."""
    return RqSide()
