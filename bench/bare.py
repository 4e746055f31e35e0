"""The bare loops: what the same work costs with no task queue around it.

Prints JSON like `bench.driver`.  The loop over SQLite is `bench.bare_sqlite`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from bench.work import BURN, NAP, burn, nap

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier


def sqlite(options: argparse.Namespace) -> dict[str, float]:
    """Tasks a second of the loop over sqlite3; see `bench.bare_sqlite.run`."""
    os.chdir(options.directory)
    os.environ["TMPDIR"] = str(options.directory)  # its file on the disk of all the others
    from bench.bare_sqlite import run

    return dict(run(options.count))


def redis(options: argparse.Namespace) -> dict[str, float]:
    """Tasks a second of the loop over redis-py; see `bench.bare_redis.run`."""
    from bench.bare_redis import run

    return run(os.environ["BENCH_REDIS"], options.count)


def amqp(options: argparse.Namespace) -> dict[str, float]:
    """Tasks a second of the loop over py-amqp; see `bench.bare_amqp.run`."""
    from bench.bare_amqp import run

    return run(os.environ["BENCH_AMQP"], options.count)


def threads(options: argparse.Namespace) -> dict[str, float]:
    """Naps in a plain thread pool."""
    with ThreadPoolExecutor(options.concurrency) as pool:
        list(pool.map(nap, [""] * options.concurrency))  # all threads started
        begin = time.monotonic()
        list(pool.map(nap, [""] * options.count))
        took = time.monotonic() - begin
    return {"share": options.count * NAP / options.concurrency / took, "seconds": took}


def coroutines(options: argparse.Namespace) -> dict[str, float]:
    """Naps in plain coroutines."""

    async def run() -> float:
        left = iter(range(options.count))

        async def work() -> None:
            for _ in left:
                await asyncio.sleep(NAP)

        begin = time.monotonic()
        await asyncio.gather(*(work() for _ in range(options.concurrency)))
        return time.monotonic() - begin

    took = asyncio.run(run())
    return {"share": options.count * NAP / options.concurrency / took, "seconds": took}


def _burn_all(count: int, gate: Barrier) -> None:
    gate.wait()
    for _ in range(count):
        burn("")
    gate.wait()


def burns(options: argparse.Namespace) -> dict[str, float]:
    """Computing tasks in plain processes."""
    gate = multiprocessing.Barrier(options.processes + 1)
    children = [
        multiprocessing.Process(target=_burn_all, args=(options.count // options.processes, gate))
        for _ in range(options.processes)
    ]
    for child in children:
        child.start()
    gate.wait()
    begin = time.monotonic()
    gate.wait()
    took = time.monotonic() - begin
    for child in children:
        child.join()
    return {"share": options.count * BURN / options.processes / took, "seconds": took}


def imports(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of an interpreter that does nothing, imports Caraway, makes an app."""

    def least(code: str) -> float:
        times = []
        for _ in range(options.count):
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append(time.perf_counter() - begin)
        return min(times)

    return {
        "bare": least("pass"),
        "caraway": least("import caraway"),
        "app": least("import caraway; caraway.Caraway('x')"),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "workload",
        choices=["sqlite", "redis", "amqp", "threads", "coroutines", "burns", "imports"],
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=50)
    options = parser.parse_args()
    figures = globals()[options.workload](options)
    sys.stdout.write(json.dumps({"figures": figures, "note": ""}) + "\n")


if __name__ == "__main__":
    main()
