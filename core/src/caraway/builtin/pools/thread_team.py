"""A team of threads that run sync jobs, each started when it is first needed."""

from __future__ import annotations

import threading
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.builtin.pools.interrupts import Interruptible

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.interfaces.pool import Job


class ThreadTeam:
    """Threads that take jobs from one queue.

    Args:
        size: most threads.
        ended: called, in the thread that ran it, with each job that ended and its result.
        name: prefix of the threads' names.
    """

    def __init__(
        self, size: int, ended: Callable[[Job, Any], None], *, name: str = "caraway-thread"
    ) -> None:
        self._size = size
        self._ended = ended
        self._name = name
        # C code, no lock of ours: one put and one get a job.
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._members: list[Interruptible] = []
        self._submitted = 0
        self._withdrawn = 0
        self._growing = threading.Lock()
        self._stopping = False

    def submit(self, jobs: Sequence[Job]) -> None:
        """Hand over jobs that have their slots.  Any thread."""
        put = self._queue.put
        for job in jobs:
            put(job)
        if len(self._threads) >= self._size:
            return
        with self._growing:
            self._submitted += len(jobs)
            # What ended may not be counted yet: then a thread too many is started, never
            # one too few.
            wanted = self._submitted - self._withdrawn - sum(m.done for m in self._members)
            while len(self._threads) < min(wanted, self._size) and not self._stopping:
                self._add_thread()

    def withdraw(self) -> list[Job]:
        """Take back the jobs that have not begun.  Any thread."""
        taken: list[Job] = []
        get = self._queue.get_nowait
        ends = 0
        while True:
            try:
                entry = get()
            except Empty:
                break
            if entry is None:
                ends += 1
            else:
                taken.append(entry)
        for _ in range(ends):
            self._queue.put(None)
        with self._growing:
            self._withdrawn += len(taken)
        return taken

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        """Raise ``exc`` inside the job; False if it doesn't run.  Any thread."""
        return any(member.current is job and member.interrupt(job, exc) for member in self._members)

    def stop(self, timeout: float) -> bool:
        """Begin nothing more, wait for what runs; True if all has ended.  Idempotent."""
        deadline = monotonic() + timeout
        with self._growing:
            first, self._stopping = not self._stopping, True
        if first:
            for _ in self._threads:
                self._queue.put(None)
        ended = True
        for thread in self._threads:
            if thread is threading.current_thread():
                continue
            thread.join(max(deadline - monotonic(), 0.0))
            ended = ended and not thread.is_alive()
        return ended

    def _add_thread(self) -> None:
        member = Interruptible()
        # Daemon: a task that never ends must not keep a stopped lane alive.
        thread = threading.Thread(
            target=self._work, args=(member,), name=f"{self._name}-{len(self._threads)}",
            daemon=True,
        )  # fmt: skip
        self._members.append(member)
        self._threads.append(thread)
        thread.start()

    def _work(self, member: Interruptible) -> None:
        member.bind()
        get, run, ended = self._queue.get, member.run, self._ended
        while True:
            job = get()
            if job is None:
                return
            if self._stopping:
                self._queue.put(job)  # not begun: `withdraw` finds it there
                return
            result = run(job)
            ended(job, result)
            # While waiting for the next job, keep nothing of this one alive.
            del job, result
