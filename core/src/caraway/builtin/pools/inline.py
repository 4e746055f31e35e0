"""Runs sync jobs in the calling thread, one after another: for ``prefork`` and ``solo``.

There is nothing between two jobs but a deque and a frame, which is what makes this the
fastest executor.  Async jobs go to an event loop in another thread and run beside.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.pools.dispatch import Dispatcher
from caraway.builtin.pools.interrupts import NOTHING, Interruptible
from caraway.interfaces.pool import Executor, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.builtin.pools.event_loop import EventLoop


class InlineExecutor(Executor):
    """Slot 0 is the calling thread, the others are coroutines.

    Args:
        async_concurrency: how many coroutines run at a time.
    """

    inline: ClassVar[bool] = True

    def __init__(self, async_concurrency: int) -> None:
        self.slots = 1 + async_concurrency
        self._dispatcher = Dispatcher(range(1, self.slots), self._begin)
        self._waiting: deque[Job] = deque()
        self._kept: list[Job] = []
        self._thread = Interruptible()
        self._busy = threading.Lock()
        self._events: EventLoop | None = None
        self._stopping = False

    def start(self) -> None:
        self._thread.bind()

    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        later = [job for job in jobs if job.is_async]
        if later:
            self._dispatcher.submit(later, report)
            if len(later) == len(jobs):
                return
            jobs = [job for job in jobs if not job.is_async]
        waiting = self._waiting
        # One lock a batch: `stop` waits on it.
        with self._busy:
            waiting.extend(jobs)
            if self._stopping:
                return
            take, thread = waiting.popleft, self._thread
            while waiting:
                try:
                    job = take()
                except IndexError:  # withdrawn this moment
                    return
                job.slot = 0
                # `Interruptible.run`, in place: a call less for every task.
                result: Any = NOTHING
                try:
                    thread.current = job
                    result = job.run()
                    thread.current = None
                    undisturbed = thread.asked is None
                except BaseException as exc:  # noqa: BLE001 - a job must not end its executor
                    thread.current = None
                    undisturbed = False
                    if result is NOTHING:
                        result = exc
                if undisturbed:
                    thread.done += 1
                else:
                    try:
                        thread.settle()
                    except BaseException:  # noqa: BLE001 - landed where `settle` begins
                        thread.settle()
                report(job, result)

    def withdraw(self) -> Sequence[Job]:
        taken, self._kept = self._kept, []
        taken = taken + _drain(self._waiting)
        begun = [] if self._events is None else self._events.withdraw()
        return taken + self._dispatcher.withdraw(begun)

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        if job.is_async:
            return self._events is not None and self._events.interrupt(job, exc)
        return self._thread.interrupt(job, exc)

    def stop(self, timeout: float) -> bool:
        from time import monotonic

        deadline = monotonic() + timeout
        self._stopping = True
        self._dispatcher.stop()
        # What has not begun stays for `withdraw`; the loop in `execute` sees no more of it.
        self._kept += _drain(self._waiting)
        ended = self._busy.acquire(timeout=max(timeout, 0.0))
        if ended:
            self._busy.release()
        if self._events is not None:
            ended = self._events.stop(max(deadline - monotonic(), 0.0)) and ended
        if ended:
            self._thread.unbind()
        return ended

    def _begin(self, jobs: list[Job]) -> None:
        if self._events is None:
            # asyncio takes 40 ms to import: only for workers that have async tasks.
            from caraway.builtin.pools.event_loop import EventLoop

            self._events = EventLoop(self._dispatcher.ended)
        self._events.submit(jobs)


def _drain(waiting: deque[Job]) -> list[Job]:
    taken: list[Job] = []
    try:
        while True:
            taken.append(waiting.popleft())
    except IndexError:
        return taken
