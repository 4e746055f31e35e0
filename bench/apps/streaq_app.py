"""streaq on Redis streams, its workers with uvloop.  https://streaq.readthedocs.io

``async def`` tasks; results kept for its default of five minutes.  Many are sent by its
``enqueue_many``.  Two workers are those of its command line's ``--workers``.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from streaq import Worker  # type: ignore[import-not-found]

from bench.apps import asyncside
from bench.apps.asyncside import CONCURRENCY, PYTHON, URL, AsyncSide

if TYPE_CHECKING:
    from collections.abc import Sequence

worker: Any = Worker(
    redis_url=URL, concurrency=CONCURRENCY, anyio_kwargs={"use_uvloop": True}, queue_name="bench"
)
TASKS: dict[str, Any] = {
    name: worker.task(name=name)(getattr(asyncside, name))
    for name in ("noop", "mark", "nap", "burn")
}


class StreaqSide(AsyncSide):
    """See `bench.side.Side`."""

    signal_all = True
    done_script = "return redis.call('ZCARD', 'streaq:bench:index:results')"

    async def begin(self) -> None:
        ready, self._stop = asyncio.Event(), asyncio.Event()

        async def hold() -> None:
            # left by the task that entered it, as its cancel scopes demand
            async with worker:
                ready.set()
                await self._stop.wait()

        self._holder = asyncio.create_task(hold())
        await ready.wait()

    async def end(self) -> None:
        self._stop.set()
        await self._holder

    async def send(self, name: str, *args: str) -> Any:
        return await TASKS[name].enqueue(*args)

    async def send_many(self, name: str, rows: Sequence[tuple[str, ...]]) -> None:
        for begin in range(0, len(rows), 500):
            await worker.enqueue_many(
                [TASKS[name].enqueue(*row) for row in rows[begin : begin + 500]]
            )

    async def result(self, handle: Any, timeout: float) -> None:
        await handle.result(timeout=int(timeout))

    def command(self, processes: int) -> list[str]:
        return [
            PYTHON, "-m", "streaq", "run", "bench.apps.streaq_app:worker", "-w", str(processes),
        ]  # fmt: skip


def make() -> StreaqSide:
    """A side over an empty store."""
    return StreaqSide()
