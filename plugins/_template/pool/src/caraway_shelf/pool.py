"""A pool of threads, with an event loop for async jobs: replace what runs the jobs.

The contract is `caraway.interfaces.pool`; tests/test_conformance.py holds this to it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from caraway.interfaces import Capability, Executor, Job, Pool

Report = Callable[[Job, Any], None]


class ShelfPool(Pool):
    """One process with ``concurrency`` slots."""

    name: ClassVar[str] = "shelf"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CONCURRENT})

    def __init__(self, concurrency: int, settings: Mapping[str, Any]) -> None:
        self.lanes = 1
        self._slots = concurrency

    def executor(self) -> Executor:
        return ShelfExecutor(self._slots)


class ShelfExecutor(Executor):
    """Runs sync jobs in threads, async ones on a loop; both take the same slots."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._changed = threading.Condition()  # its lock guards the next two
        self._free = list(range(slots))
        self._waiting: deque[tuple[Job, Report]] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread: threading.Thread | None = None

    def start(self) -> None:
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix="shelf")
        self._loop = asyncio.new_event_loop()
        self._loop_thread = threading.Thread(
            target=self._loop.run_forever, name="shelf-loop", daemon=True
        )
        self._loop_thread.start()

    def execute(self, jobs: Sequence[Job], report: Report) -> None:
        with self._changed:
            self._waiting.extend((job, report) for job in jobs)
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        while True:
            with self._changed:
                if not self._waiting or not self._free:
                    return
                job, report = self._waiting.popleft()
                job.slot = self._free.pop()
            assert self._threads is not None and self._loop is not None
            if job.is_async:
                asyncio.run_coroutine_threadsafe(self._arun(job, report), self._loop)
            else:
                self._threads.submit(self._run, job, report)

    # Jobs don't raise, but a slot that is never freed would be too high a price for one
    # that did.
    def _run(self, job: Job, report: Report) -> None:
        try:
            report(job, job.run())
        finally:
            self._ended(job)

    async def _arun(self, job: Job, report: Report) -> None:
        try:
            report(job, await job.arun())
        finally:
            self._ended(job)

    def _ended(self, job: Job) -> None:
        with self._changed:
            self._free.append(job.slot)
            self._changed.notify_all()
        self._begin_waiting()

    def withdraw(self) -> Sequence[Job]:
        with self._changed:
            jobs = [job for job, _ in self._waiting]
            self._waiting.clear()
        return jobs

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        # Raise exc inside the job if your way of running jobs can: soft time limits
        # and termination need it.  False is the honest answer if it can't.
        return False

    def stop(self, timeout: float) -> bool:
        with self._changed:
            idle = self._changed.wait_for(
                lambda: len(self._free) == self.slots and not self._waiting, timeout
            )
        if not idle or self._loop is None:
            return idle
        assert self._threads is not None and self._loop_thread is not None
        self._threads.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._loop_thread.join()
        self._loop.close()
        self._threads = self._loop = self._loop_thread = None
        return True
