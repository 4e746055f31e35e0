"""The pool ``asyncio``: one process, one event loop, many coroutines."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.event_loop import EventLoop
from caraway.builtin.pools.thread_team import ThreadTeam
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Job, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


class AsyncioExecutor(Executor):
    """Sync and async jobs share one limit; sync ones run in threads beside the loop, so
    that they don't hold up the coroutines."""

    def __init__(self, concurrency: int) -> None:
        self.slots = self.sync_slots = concurrency
        self._team = ThreadTeam(concurrency, first_slot=None, name="caraway-sync")
        self._events = EventLoop(concurrency, run_sync=self._run_sync, name="caraway-asyncio")

    def start(self) -> None:
        """Nothing yet: the loop starts with the first batch."""

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        self._events.submit(jobs, report)

    def withdraw(self) -> Sequence[Job]:
        return self._events.withdraw()

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        return (self._events if job.is_async else self._team).interrupt(job, exc)

    def stop(self, timeout: float) -> bool:
        deadline = monotonic() + timeout
        ended = self._events.stop(timeout)
        return self._team.stop(max(deadline - monotonic(), 0.0)) and ended

    def _run_sync(
        self, job: Job, report: Callable[[Job, Any], None], ended: Callable[[], None]
    ) -> None:
        def report_and_free(job: Job, result: Any) -> None:
            try:
                report(job, result)
            finally:
                ended()

        self._team.submit((job,), report_and_free)


class AsyncioPool(Pool):
    """One lane with ``concurrency`` coroutines."""

    name = "asyncio"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONCURRENT})
    lanes = 1

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:  # noqa: ARG002 - a pool's factory
        self.concurrency = concurrency

    def executor(self) -> Executor:
        return AsyncioExecutor(self.concurrency)
