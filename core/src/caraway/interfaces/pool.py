"""The contract of pools: how many lanes, and what runs the tasks of one.

A pool never sees a message, a transport or a store: it is given jobs, runs them, and
reports each when it ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

from caraway.interfaces.context import Capability


class Job(Protocol):
    """One run, ready to go.  Made by the worker; never raises out of its methods."""

    is_async: bool
    """True: `arun` is to be awaited on an event loop; False: `run` is to be called."""
    slot: int
    """Position on the lane's board; set by the executor before the run begins, a
    number from 0 to `Executor.slots` - 1 that no other running job has."""

    def run(self) -> Any:
        """Run in this thread to the end; return what is to be reported."""

    async def arun(self) -> Any:
        """Run on this loop to the end; return what is to be reported."""


class Executor(ABC):
    """Runs the jobs of one lane."""

    slots: int
    """How many jobs can run at a time."""
    inline: ClassVar[bool] = False
    """True: `execute` runs jobs in the calling thread and returns when they ended."""

    @abstractmethod
    def start(self) -> None:
        """Begin; called once, in the lane's process, in its main thread."""

    @abstractmethod
    def execute(self, jobs: Sequence[Job], report: Callable[[Job, Any], None]) -> None:
        """Run jobs, in order as far as slots allow; report each exactly once with what
        its run returned.  Jobs beyond the free slots wait here.  ``report`` is cheap,
        thread-safe, and may be called from any thread.  Async jobs run concurrently
        on one event loop, in every pool."""

    @abstractmethod
    def withdraw(self) -> Sequence[Job]:
        """Take back the jobs that have not begun; they will not run, nor be reported."""

    @abstractmethod
    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        """Raise ``exc`` inside a running job at the next chance; False if it can't or
        the job has ended.  Used for soft time limits and termination."""

    @abstractmethod
    def stop(self, timeout: float) -> bool:
        """Wait for what runs, up to ``timeout`` seconds; True if all has ended.
        Idempotent."""


class Pool(ABC):
    """Says how many lanes a worker has, and makes the executor of each.

    Args of every factory: ``factory(concurrency: int, settings: Mapping)``.
    """

    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]] = frozenset()
    lanes: int
    """How many lanes (processes) for this concurrency."""
    in_process: ClassVar[bool] = False
    """True: the one lane runs in the calling process (``solo``)."""

    @abstractmethod
    def executor(self) -> Executor:
        """The executor of one lane; called in the lane's process."""
