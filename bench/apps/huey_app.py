"""huey on SQLite, the peer of the embedded default, and on Redis.  https://huey.readthedocs.io

Results on; the consumer without its scheduler of periodic tasks.  On SQLite with its least
polling delay; ``fsync`` is off by default, and ``BENCH_FSYNC=1`` gives the durability of
Caraway's default.  On Redis it blocks instead of polling, and round trips are measured with
``notify_result``, by which it waits for results; else without, as that costs commands.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from huey import RedisHuey, SqliteHuey  # type: ignore[import-not-found]

from bench import work

_url = os.environ.get("BENCH_REDIS", "")
huey: Any
if _url:
    _notify = os.environ.get("BENCH_WORKLOAD") == "roundtrip"
    huey = RedisHuey("bench", url=_url, notify_result=_notify)
else:
    huey = SqliteHuey(
        "bench",
        filename=str(Path(os.environ["BENCH_DIRECTORY"]) / "huey.db"),
        fsync=os.environ.get("BENCH_FSYNC") == "1",
        cache_mb=64,
    )


def _noop() -> int:
    return 1  # huey stores no result for None


def _mark(label: str) -> int:
    work.leave_mark(label)
    return 1


def _nap(edge: str) -> int:
    work.nap(edge)
    return 1


def _burn(edge: str) -> int:
    work.burn(edge)
    return 1


noop = huey.task()(_noop)
mark = huey.task()(_mark)
nap = huey.task()(_nap)
burn = huey.task()(_burn)


class HueySide:
    """See `bench.side.Side`."""

    def publish(self) -> Any:
        return noop()

    def publish_many(self, count: int) -> None:
        for _ in range(count):
            noop()

    def publish_mark(self, label: str) -> None:
        mark(label)

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        if coroutine:
            raise NotImplementedError("no asyncio pool")
        for edge in edges:
            nap(edge)

    def publish_burns(self, edges: list[str]) -> None:
        for edge in edges:
            burn(edge)

    def wait(self, handle: Any, timeout: float) -> None:
        handle.get(blocking=True, timeout=timeout, backoff=1.0, max_delay=0.001)

    def finished(self, expected: int) -> bool:
        return bool(huey.result_count() >= expected)

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        # a module run by -m would be imported twice, as __main__ too
        start = "from huey.bin.huey_consumer import consumer_main; consumer_main()"
        kind, workers = ("process", processes) if pool == "prefork" else ("thread", concurrency)
        options = ["-w", str(workers), "-k", kind, "-d", "0.001", "-m", "0.001", "-b", "1.0"]
        return [sys.executable, "-c", start, "bench.apps.huey_app.huey", *options, "-n", "-q", "-C"]

    def close(self) -> None:
        if not _url:
            huey.storage.close()


def make() -> HueySide:
    """A side over an empty store."""
    return HueySide()
