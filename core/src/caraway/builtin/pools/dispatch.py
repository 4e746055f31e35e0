"""Gives free slots to waiting jobs, for executors that run several at a time."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.interfaces.pool import Job

    Report = Callable[[Job, Any], None]


class Dispatcher:
    """Slots, and the jobs that wait for one.

    Both are deques, popped from any thread without a lock of ours: whoever puts something
    into one looks into the other afterwards, so no job is left beside a free slot.

    Args:
        slots: their numbers.
        begin: starts jobs that have their slot; each must come back to `ended`.
    """

    def __init__(self, slots: range, begin: Callable[[list[Job]], None]) -> None:
        self._free = deque(slots)
        self._begin = begin
        self._waiting: deque[tuple[Job, Report]] = deque()
        self._reports: dict[int, Report] = {}
        self._stopping = False

    def submit(self, jobs: Sequence[Job], report: Report) -> None:
        """Start jobs as far as there are slots; the others wait."""
        self._waiting.extend([(job, report) for job in jobs])
        self._fill()

    def ended(self, job: Job, result: Any) -> None:
        """A job ended: report it, and give its slot to the next."""
        slot = job.slot
        try:
            self._reports[slot](job, result)
        finally:
            self._free.append(slot)
            if self._waiting:
                self._fill()

    def withdraw(self, begun: Sequence[Job] = ()) -> list[Job]:
        """Take back the jobs that wait, after those that were started and gave up their
        slot without having run."""
        taken = list(begun)
        waiting = self._waiting
        try:
            while True:
                taken.append(waiting.popleft()[0])
        except IndexError:
            pass
        self._free.extend([job.slot for job in begun])
        return taken

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping = True

    def _fill(self) -> None:
        free, waiting = self._free, self._waiting
        started: list[Job] = []
        while waiting and not self._stopping:
            try:
                slot = free.popleft()
            except IndexError:
                break
            try:
                job, report = waiting.popleft()
            except IndexError:
                free.append(slot)
                continue  # somebody may have seen no free slot meanwhile: look again
            job.slot = slot
            self._reports[slot] = report
            started.append(job)
        if started:
            self._begin(started)
