"""The pool ``threads``: one process, many threads; for tasks that wait."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.thread_team import ThreadTeam
from caraway.interfaces.context import Capability
from caraway.interfaces.pool import Executor, Job, Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caraway.builtin.pools.event_loop import EventLoop


class ThreadsExecutor(Executor):
    """Slots 0 to ``concurrency`` - 1 are threads, the others are coroutines."""

    def __init__(self, concurrency: int, async_concurrency: int) -> None:
        self.slots = concurrency + async_concurrency
        self.sync_slots = concurrency
        self._async_concurrency = async_concurrency
        self._team = ThreadTeam(concurrency)
        self._events: EventLoop | None = None

    def start(self) -> None:
        """Nothing yet: threads start with the first job that needs one."""

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        later = [job for job in jobs if job.is_async]
        if later:
            if self._events is None:
                from caraway.builtin.pools.event_loop import EventLoop

                self._events = EventLoop(self._async_concurrency, first_slot=self.sync_slots)
            self._events.submit(later, report)
            if len(later) == len(jobs):
                return
            jobs = [job for job in jobs if not job.is_async]
        self._team.submit(jobs, report)

    def withdraw(self) -> Sequence[Job]:
        taken = self._team.withdraw()
        if self._events is not None:
            taken += self._events.withdraw()
        return taken

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        if job.is_async:
            return self._events is not None and self._events.interrupt(job, exc)
        return self._team.interrupt(job, exc)

    def stop(self, timeout: float) -> bool:
        deadline = monotonic() + timeout
        ended = self._team.stop(timeout)
        if self._events is not None:
            ended = self._events.stop(max(deadline - monotonic(), 0.0)) and ended
        return ended


class ThreadsPool(Pool):
    """One lane with ``concurrency`` threads.

    A soft time limit arrives when the task next runs Python code: not while it blocks in a
    system call.  A hard one replaces the whole lane.
    """

    name = "threads"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONCURRENT})
    lanes = 1

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:
        self.concurrency = concurrency
        self._async_concurrency = int(settings.get("worker_async_concurrency") or 100)

    def executor(self) -> Executor:
        return ThreadsExecutor(self.concurrency, self._async_concurrency)
