"""Caraway with all its defaults: the embedded SQLite broker and backend, or a server.

``BENCH_REDIS`` is the address of both broker and backend; ``BENCH_AMQP`` that of a broker
without a backend, which is the default there, or with ``rpc://`` if ``BENCH_RPC`` is set.
``BENCH_EVENTS`` turns task events on.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from bench import work
from caraway import Caraway

_REDIS, _AMQP = os.environ.get("BENCH_REDIS", ""), os.environ.get("BENCH_AMQP", "")
_MORE: dict[str, Any] = {}
if _REDIS:
    _MORE = {"broker": _REDIS, "backend": _REDIS}
elif _AMQP:
    _MORE = {"broker": _AMQP} | ({"backend": "rpc://"} if os.environ.get("BENCH_RPC") else {})
if os.environ.get("BENCH_EVENTS"):
    _MORE["worker_send_task_events"] = True

app = Caraway("bench", **_MORE)


@app.task(name="bench.noop")
def noop() -> None:
    """Do nothing."""


@app.task(name="bench.mark")
def mark(label: str) -> None:
    """Leave a mark."""
    work.leave_mark(label)


@app.task(name="bench.nap")
def nap(edge: str) -> None:
    """Wait."""
    work.nap(edge)


@app.task(name="bench.anap")
async def anap(edge: str) -> None:
    """Wait on the event loop."""
    import asyncio  # only this workload is to pay for it, in the size of its worker

    if edge:
        work.leave_mark(edge)
    await asyncio.sleep(work.NAP)


@app.task(name="bench.burn")
def burn(edge: str) -> None:
    """Compute."""
    work.burn(edge)


@app.task(name="bench.stop")
def stop() -> None:
    """End the worker warmly; for `bench.profiler`, whose worker is the calling process."""
    os.kill(os.getpid(), signal.SIGTERM)


class CarawaySide:
    """See `bench.side.Side`."""

    by_marks = bool(_AMQP)

    def publish(self) -> Any:
        return noop.delay()

    def publish_many(self, count: int, **options: Any) -> None:
        noop.delay_many((() for _ in range(count)), **options)

    def publish_mark(self, label: str, **options: Any) -> None:
        mark.apply_async((label,), **options)

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        (anap if coroutine else nap).delay_many((edge,) for edge in edges)

    def publish_burns(self, edges: list[str]) -> None:
        burn.delay_many((edge,) for edge in edges)

    def wait(self, handle: Any, timeout: float) -> None:
        handle.get(timeout=timeout)

    def unfinished(self) -> int:
        """How many tasks wait, are not due, or run."""
        return sum(q.ready + q.held + q.delayed for q in app.transport.stats())

    def finished(self, expected: int) -> bool:
        # the outcome is stored in the transaction that removes the message
        del expected
        return self.unfinished() == 0

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        number = processes if pool == "prefork" else concurrency
        return [
            sys.executable, "-m", "caraway.cli", "-A", "bench.apps.caraway_app", "worker",
            "-P", pool, "-c", str(number),
        ]  # fmt: skip

    def close(self) -> None:
        app.close()


def make() -> CarawaySide:
    """A side over an empty store."""
    return CarawaySide()
