"""Runs sync jobs in threads and async ones on an event loop, for ``threads`` and ``asyncio``.

Both kinds share one limit, so that a lane never holds more than it can run.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.builtin.pools.dispatch import Dispatcher
from caraway.builtin.pools.thread_team import ThreadTeam
from caraway.interfaces.pool import Executor, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.builtin.pools.event_loop import EventLoop


class SharedExecutor(Executor):
    """See the module's text.

    Args:
        concurrency: how many jobs run at a time.
    """

    def __init__(self, concurrency: int) -> None:
        self.slots = concurrency
        self._dispatcher = Dispatcher(range(concurrency), self._begin)
        self._team = ThreadTeam(concurrency, self._dispatcher.ended)
        self._making = threading.Lock()
        self._events: EventLoop | None = None

    def start(self) -> None:
        """Nothing yet: threads and loop start with the first job that needs them."""

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self._dispatcher.submit(jobs, report)

    def withdraw(self) -> Sequence[Job]:
        begun = self._team.withdraw()
        if self._events is not None:
            begun += self._events.withdraw()
        return self._dispatcher.withdraw(begun)

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        if job.is_async:
            return self._events is not None and self._events.interrupt(job, exc)
        return self._team.interrupt(job, exc)

    def stop(self, timeout: float) -> bool:
        deadline = monotonic() + timeout
        self._dispatcher.stop()
        ended = self._team.stop(timeout)
        if self._events is not None:
            ended = self._events.stop(max(deadline - monotonic(), 0.0)) and ended
        return ended

    def _begin(self, jobs: list[Job]) -> None:
        coroutines = [job for job in jobs if job.is_async]
        if len(coroutines) < len(jobs):
            self._team.submit([job for job in jobs if not job.is_async] if coroutines else jobs)
        if coroutines:
            self._event_loop().submit(coroutines)

    def _event_loop(self) -> EventLoop:
        # Any thread whose job ended may be the first to start a coroutine.
        with self._making:
            if self._events is None:
                # asyncio takes 40 ms to import: only for workers that have async tasks.
                from caraway.builtin.pools.event_loop import EventLoop

                self._events = EventLoop(self._dispatcher.ended)
            return self._events
