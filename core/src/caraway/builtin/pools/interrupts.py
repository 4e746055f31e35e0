"""Raises an exception inside the one job that a thread runs, and in nothing else.

Python can raise in another thread in two ways:

- a **signal** to the main thread, whose handler raises.  It breaks a blocking system call,
  and the handler runs in the thread it interrupts, so it knows for certain what that
  thread is doing.  POSIX, main thread only;
- an **asynchronous exception** (``PyThreadState_SetAsyncExc``), in any thread on any
  platform.  It lands at some later bytecode, so not while the thread blocks in C code, and
  possibly only after the job that it was meant for.

`Interruptible.run` is the seam that keeps both from doing harm.  The fast path of a job
takes no lock: thread and interrupter each write their own mark and then read the other's,
so at least one of them notices (the order of loads and stores is the interpreter's).
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from caraway.interfaces.pool import Job

NOTHING: Final = object()
_PAUSES = (0.0, 0.001, 0.005, 0.0)
"""Seconds after each signal of one interrupt, if it still isn't noticed."""


def _set_async_exc(thread: int, exc: type[BaseException] | None) -> bool:
    # ctypes takes 10 ms to import, and most workers never interrupt anything.
    import ctypes

    target = None if exc is None else ctypes.py_object(exc)
    found = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), target)
    return bool(found == 1)


class _CalledOff(BaseException):
    """Takes the place of an exception that nobody is to see any more."""


def _call_off(thread: int) -> None:
    """Have no exception land in the calling thread.

    Taking it away is not enough: CPython 3.11 then looks for it for ever, at each jump in
    every thread, and where a function is traced it does nothing else.
    """
    try:
        if _set_async_exc(thread, _CalledOff):
            for _ in range(1000):  # it lands at a jump
                pass
            _set_async_exc(thread, None)
    except _CalledOff:
        pass


class Interruptible:
    """What one thread runs now, and the way to interrupt it.

    Attributes:
        current: the job that runs, or None.
        done: how many jobs ended here.
        asked: the exception that somebody wants raised, or None.
    """

    __slots__ = ("_lock", "_previous", "_signal", "_target", "_thread", "asked", "current", "done")

    def __init__(self) -> None:
        self.current: Job | None = None
        self.done = 0
        self.asked: type[BaseException] | None = None
        self._target: Job | None = None
        self._lock = threading.Lock()
        self._thread = 0
        self._signal = 0
        self._previous: Callable[[int, FrameType | None], Any] | int | None = None

    # -- the thread itself -------------------------------------------------------------

    def bind(self) -> None:
        """Make the calling thread the one that runs jobs.

        In the main thread of a POSIX process this takes over SIGUSR1, until `unbind`.
        """
        self._thread = threading.get_ident()
        if os.name == "posix" and threading.current_thread() is threading.main_thread():
            import signal

            self._previous = signal.signal(signal.SIGUSR1, self._on_signal)
            self._signal = int(signal.SIGUSR1)

    def unbind(self) -> None:
        """Give the signal back, if the calling thread may.  Idempotent."""
        if self._signal and threading.current_thread() is threading.main_thread():
            import signal

            # Bound methods are made anew at each access, hence == and not `is`.
            if signal.getsignal(self._signal) == self._on_signal:
                signal.signal(self._signal, self._previous)
            self._signal = 0

    def run(self, job: Job) -> Any:
        """Run a job here; return what it returned, or the exception that it let out."""
        result: Any = NOTHING
        try:
            self.current = job
            result = job.run()
            self.current = None
            if self.asked is None:
                self.done += 1
                return result
        except BaseException as exc:  # noqa: BLE001 - a job must not end its executor
            self.current = None
            if result is NOTHING:
                result = exc
        try:
            self.settle()
        except BaseException:  # noqa: BLE001 - landed where `settle` begins
            self.settle()
        return result

    def settle(self) -> None:
        """End a job that somebody wanted to interrupt, or that raised.

        Somebody's interrupt may have landed inside the job, or be on its way still: then it
        lands in here, at most once.  Its first line is one that a caller must guard,
        because the try block only begins behind it: call once more if this raises.
        """
        try:
            self._calm()
        except BaseException:  # noqa: BLE001 - what was on its way
            self._calm()
        self.done += 1

    def _calm(self) -> None:
        with self._lock:
            self.current = None
            asked, self.asked, self._target = self.asked, None, None
            if asked is not None and not self._signal:
                _call_off(self._thread)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:  # noqa: ARG002 - signal's
        # Runs in the main thread, between two bytecodes: what it reads can't change under it.
        target, exc = self._target, self.asked
        if target is None or exc is None or self.current is not target:
            return
        self._target = None
        raise exc

    # -- any other thread --------------------------------------------------------------

    def interrupt(self, job: Job, exc: type[BaseException]) -> bool:
        """Raise ``exc`` inside the job; False if it doesn't run here any more.

        True means that it was sent: the job may still end before it arrives, and is then
        not touched by it.
        """
        with self._lock:
            if self.current is not job:
                return False
            before = self.asked
            self.asked = exc
            if self.current is not job:
                self.asked = before
                return False
            if self._by_signal():
                if self._target is job:
                    return True  # one is on its way: more of them could pile up in there
                self._target = job
            else:
                return _set_async_exc(self._thread, exc)
        self._insist(job)
        return True

    def _insist(self, job: Job) -> None:
        """Send the signal until it is noticed.

        One that arrives between Python's last look for signals and the system call that
        follows doesn't break that call.
        """
        import signal
        from time import sleep

        for pause in _PAUSES:
            with self._lock:
                if self._target is not job:
                    return
                signal.pthread_kill(self._thread, self._signal)
            sleep(pause)

    def _by_signal(self) -> bool:
        if not self._signal:
            return False
        import signal

        # A task may have installed a handler of its own: then ours would not be called.
        if signal.getsignal(self._signal) == self._on_signal:
            return True
        self._signal = 0
        return False
