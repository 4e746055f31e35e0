"""Runs coroutines on one event loop in a thread of its own, for every pool.

A batch is handed over in one wake-up of the loop.  A coroutine is stepped by `_Stepper`
rather than awaited by another coroutine: that reports its end in the same turn of the
loop, and lets an interrupt appear inside as the exception that was asked for instead of a
bare `asyncio.CancelledError`.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from caraway.interfaces.pool import Job


class EventLoop:
    """One event loop in one thread, started with the first jobs.

    Args:
        ended: called in that thread with each job that ended and its result.
        name: of the thread.
    """

    def __init__(self, ended: Callable[[Job, Any], None], *, name: str = "caraway-async") -> None:
        self.ended = ended
        self._name = name
        self._handed_over: deque[Job] = deque()
        self._running: dict[int, _Stepper] = {}
        self._idle = threading.Event()
        self._idle.set()
        self._stopping = False
        self._starting = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ident = 0

    def submit(self, jobs: Sequence[Job]) -> None:
        """Start jobs that have their slots.  Any thread; one wake-up of the loop."""
        self._handed_over.extend(jobs)
        if self._stopping:
            return
        loop = self._loop or self._start()
        self._idle.clear()
        if threading.get_ident() == self._ident:
            self._take()  # a job that ended here made room: no need to wake ourselves
        else:
            loop.call_soon_threadsafe(self._take)

    def withdraw(self) -> list[Job]:
        """Take back the jobs that have not begun.  Any thread."""
        taken: list[Job] = []
        try:
            while True:
                taken.append(self._handed_over.popleft())
        except IndexError:
            return taken

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        """Raise ``exc`` where the job awaits; False if it doesn't run.  Any thread."""
        stepper = self._running.get(job.slot)
        loop = self._loop
        if stepper is None or stepper.job is not job or loop is None:
            return False
        try:
            loop.call_soon_threadsafe(stepper.interrupt, exc)
        except RuntimeError:  # the loop was closed this moment: nothing runs
            return False
        return True

    def stop(self, timeout: float) -> bool:
        """Begin nothing more, wait for what runs; True if all has ended.  Idempotent."""
        self._stopping = True
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return True
        # The loop decides when it is idle; this makes it look even if nothing ever ran.
        if thread.is_alive() and not loop.is_closed():
            with suppress(RuntimeError):  # closed this moment
                loop.call_soon_threadsafe(self._take)
        if not self._idle.wait(timeout):
            return False
        if thread.is_alive():
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=max(timeout, 1.0))
        return True

    # -- on the loop's thread ----------------------------------------------------------

    def _start(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                loop = _new_loop()
                # Daemon: a coroutine that never ends must not keep a stopped lane alive.
                self._thread = threading.Thread(
                    target=self._serve, args=(loop,), name=self._name, daemon=True
                )
                self._loop = loop
                self._thread.start()
            return self._loop

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        self._ident = threading.get_ident()
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            try:
                _cancel_strays(loop)
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()

    def _take(self) -> None:
        running = self._running
        while not self._stopping:
            try:
                job = self._handed_over.popleft()
            except IndexError:
                break
            if self._idle.is_set():
                self._idle.clear()
            running[job.slot] = stepper = _Stepper(self, job)
            stepper.start()
        self._rest()

    def finish(self, job: Job, result: Any) -> None:
        """A job ended.  On the loop's thread."""
        # Before it is told: then its slot may go to the next.
        del self._running[job.slot]
        try:
            self.ended(job, result)
        finally:
            self._rest()

    def _rest(self) -> None:
        if not self._running and (self._stopping or not self._handed_over):
            self._idle.set()


class _Stepper(Coroutine[Any, Any, None]):
    """A coroutine that steps a job's, and tells when that ended and with what."""

    __slots__ = ("_coroutine", "_exc", "_task", "_where", "job")

    def __init__(self, where: EventLoop, job: Job) -> None:
        self.job = job
        self._where = where
        self._exc: type[BaseException] | None = None
        self._coroutine: Coroutine[Any, Any, Any] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self)

    def interrupt(self, exc: type[BaseException]) -> None:
        task = self._task
        if task is not None and not task.done():
            self._exc = exc
            task.cancel()

    def send(self, value: Any) -> Any:
        try:
            coroutine = self._coroutine
            if coroutine is None:
                coroutine = self._coroutine = self.job.arun()
            return coroutine.send(value)
        except StopIteration as stop:
            self._where.finish(self.job, stop.value)
        except BaseException as exc:  # noqa: BLE001 - a job must not end its executor
            self._where.finish(self.job, exc)
        raise StopIteration

    def throw(self, typ: Any, value: Any = None, tb: Any = None) -> Any:  # noqa: ARG002 - its shape
        exc: BaseException = typ if isinstance(typ, BaseException) else value or typ()
        wanted = self._exc
        if wanted is not None and isinstance(exc, asyncio.CancelledError):
            self._exc = None
            if self._task is not None:
                # Else `asyncio.timeout` and task groups inside would see a cancellation.
                self._task.uncancel()
            exc = cancelled_as(wanted)()
        try:
            coroutine = self._coroutine
            if coroutine is None:  # interrupted before its first step
                coroutine = self._coroutine = self.job.arun()
            return coroutine.throw(exc)
        except StopIteration as stop:
            self._where.finish(self.job, stop.value)
        except BaseException as error:  # noqa: BLE001 - as above
            self._where.finish(self.job, error)
        raise StopIteration

    def close(self) -> None:
        if self._coroutine is not None:
            self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        raise NotImplementedError("runs as a task only")


def _new_loop() -> asyncio.AbstractEventLoop:
    # Who set a policy of their own (uvloop's) gets its loops.  Policies end with 3.14.
    own = sys.version_info < (3, 14) and (
        type(asyncio.get_event_loop_policy()) is not asyncio.DefaultEventLoopPolicy
    )
    if sys.platform == "linux" and not own:
        return asyncio.SelectorEventLoop(_exact_selector())
    return asyncio.new_event_loop()


if sys.platform == "linux":

    class _ExactSelector(selectors.EpollSelector):
        """epoll counts in milliseconds and rounds up: a sleep of 10 ms takes 10.5 on
        average, 5 % of a pool's throughput.  select() counts in microseconds, and can
        wait for the epoll descriptor itself."""

        def select(self, timeout: float | None = None) -> Any:
            if timeout is not None and 0.0 < timeout < _COARSE:
                select.select((self.fileno(),), (), (), timeout)
                timeout = 0.0
            return super().select(timeout)

    _COARSE = 0.05
    """Seconds from which on half a millisecond more doesn't matter."""

    def _exact_selector() -> selectors.BaseSelector:
        selector = _ExactSelector()
        # select() can't look at descriptors from 1024 on.
        if selector.fileno() < 1024:
            return selector
        selector.close()
        return selectors.DefaultSelector()


def cancelled_as(exc: type[BaseException]) -> type[BaseException]:
    """A class that is both ``exc`` and a cancellation.

    asyncio's own code (``gather``, ``TaskGroup``, ``wait_for``, locks) cleans up on
    `asyncio.CancelledError` only; a task's code looks for ``exc``.  Under its name it is
    stored and pickled as ``exc``.
    """
    made = _cancelled_as.get(exc)
    if made is None:
        try:
            made = type(
                exc.__name__,
                (exc, asyncio.CancelledError),
                {
                    "__module__": exc.__module__,
                    "__qualname__": exc.__qualname__,
                    "__doc__": exc.__doc__,
                    "__reduce__": lambda self: (exc, self.args),
                },
            )
        except TypeError:  # layouts that don't mix
            made = exc
        _cancelled_as[exc] = made
    return made


_cancelled_as: dict[type[BaseException], type[BaseException]] = {}


def _cancel_strays(loop: asyncio.AbstractEventLoop) -> None:
    # What tasks left running behind their back (create_task without await).
    strays = asyncio.all_tasks(loop)
    for stray in strays:
        stray.cancel()
    if strays:
        loop.run_until_complete(asyncio.gather(*strays, return_exceptions=True))
