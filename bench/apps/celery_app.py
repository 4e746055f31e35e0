"""Celery 5, on Redis, on RabbitMQ, or on its SQL transport over SQLite.
https://docs.celeryq.dev

Chosen by ``BENCH_REDIS`` and ``BENCH_AMQP``.  Results on (on RabbitMQ off, the default there,
or by ``rpc://`` with ``BENCH_RPC``), JSON, acknowledged early, gossip, mingle and heartbeat
off, as its guide to optimising says.  It takes more messages in advance on RabbitMQ, where
that makes it faster; on Redis it makes it slower.  Many are sent through one producer, on
Redis by its batches, which are new in 5.7.  As many connections as threads that send.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from celery import Celery  # type: ignore[import-not-found]

from bench import work

_redis = os.environ.get("BENCH_REDIS", "")
_amqp = os.environ.get("BENCH_AMQP", "")
_path = Path(os.environ["BENCH_DIRECTORY"])
app = Celery(
    "bench",
    broker=_redis or _amqp or f"sqla+sqlite:///{_path / 'broker.db'}",
    backend=_redis
    or (("rpc://" if os.environ.get("BENCH_RPC") else None) if _amqp else None)
    or (None if _amqp else f"db+sqlite:///{_path / 'results.db'}"),
)
app.conf.update(
    worker_prefetch_multiplier=int(os.environ.get("BENCH_PREFETCH", "64" if _amqp else "4")),
    broker_pool_limit=50,
    task_acks_late=False,
    broker_connection_retry_on_startup=True,
    worker_enable_remote_control=bool(_redis or _amqp),
)

noop = app.task(name="noop")(work.noop)
mark = app.task(name="mark")(work.leave_mark)
nap = app.task(name="nap")(work.nap)
burn = app.task(name="burn")(work.burn)


class CelerySide:
    """See `bench.side.Side`."""

    by_marks = bool(_amqp)

    def publish(self) -> Any:
        return noop.delay()

    def publish_many(self, count: int) -> None:
        with app.producer_or_acquire() as producer:
            batch = producer.batch() if producer.supports_batch_publish else nullcontext()
            with batch:
                for _ in range(count):
                    noop.apply_async(producer=producer)

    def publish_mark(self, label: str) -> None:
        mark.delay(label)

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        if coroutine:
            raise NotImplementedError("no asyncio pool")
        for edge in edges:
            nap.delay(edge)

    def publish_burns(self, edges: list[str]) -> None:
        for edge in edges:
            burn.delay(edge)

    def wait(self, handle: Any, timeout: float) -> None:
        handle.get(timeout=timeout, interval=0.002)

    def finished(self, expected: int) -> bool:
        if _amqp:
            with app.connection_for_read() as connection:
                queue = connection.default_channel.queue_declare("celery", passive=True)
                return bool(queue.message_count == 0)
        if _redis:
            script = "return #redis.call('KEYS', 'celery-task-meta-*')"
            return bool(app.backend.client.eval(script, 0) >= expected)
        import sqlite3

        try:
            with sqlite3.connect(_path / "results.db") as db:
                (count,) = db.execute(
                    "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'"
                ).fetchone()
        except sqlite3.OperationalError:
            return False
        return bool(count >= expected)

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        if pool == "asyncio":
            raise NotImplementedError("no asyncio pool")
        number = processes if pool == "prefork" else concurrency
        return [
            sys.executable, "-m", "celery", "-A", "bench.apps.celery_app", "worker",
            "-P", pool, "-c", str(number), "-l", "ERROR",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip

    def close(self) -> None:
        app.close()


def make() -> CelerySide:
    """A side over an empty store."""
    return CelerySide()
