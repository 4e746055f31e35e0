"""A thread that calls for others, so that they can give up waiting.

kombu and many drivers wait as long as they like: some have no time limits, others try again
by themselves, for ever if not told otherwise.  Whoever publishes has a deadline.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any


class _Call:
    __slots__ = ("abandoned", "done", "error", "function", "value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.done = threading.Event()
        self.value: Any = None
        self.error: BaseException | None = None
        self.abandoned = False


class Courier:
    """Calls one function after another in a thread of its own.

    Args:
        at_end: called in that thread when it ends.
    """

    def __init__(self, at_end: Callable[[], None]) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._at_end = at_end
        self._ended = threading.Event()
        threading.Thread(target=self._run, name="caraway-kombu", daemon=True).start()

    def call(self, function: Callable[[], Any], timeout: float) -> Any:
        """What the function returns or raises.

        Raises:
            TimeoutError: it took longer; it may still come to its end.
        """
        call = _Call(function)
        self._calls.put(call)
        if not call.done.wait(timeout):
            call.abandoned = True
            raise TimeoutError
        if call.error is not None:
            raise call.error
        return call.value

    def _run(self) -> None:
        try:
            while (call := self._calls.get()) is not None:
                if call.abandoned:
                    continue  # nobody waits for it, and it hasn't begun: as if never asked
                try:
                    call.value = call.function()
                except BaseException as exc:  # noqa: BLE001 - raised where it was asked for
                    call.error = exc
                call.done.set()
                del call
        finally:
            try:
                self._at_end()
            finally:
                self._ended.set()

    def end(self, timeout: float = 0.0) -> None:
        """Let it end after what was asked for; wait so long for it."""
        self._calls.put(None)
        if timeout:
            self._ended.wait(timeout)
