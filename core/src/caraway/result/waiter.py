"""The one thread that waits for results on behalf of all coroutines.

It asks the backend for all awaited ids at once, in slices: ids that come meanwhile are
part of the next slice.  It ends when nobody waits, and doesn't survive a fork.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition, Thread
from typing import TYPE_CHECKING

from caraway.errors import BackendError, OperationalError
from caraway.message import StoredResult

if TYPE_CHECKING:
    import asyncio

    from caraway.interfaces.backend import Backend

    Future = asyncio.Future[StoredResult]
    Loop = asyncio.AbstractEventLoop

SLICE = 0.02
"""Seconds of one `Backend.wait`; how late a new id may be seen while others wait."""
IDLE = 1.0
"""Seconds the thread stays when nobody waits any more."""


class ResultWaiter:
    """Waits for final states.

    Args:
        backend: gives the backend; called when it is needed.
    """

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend = backend
        self._waiting: dict[str, list[tuple[Future, Loop]]] = {}
        self._changed = Condition()
        self._thread: Thread | None = None
        self._closed = False

    async def wait(self, task_id: str) -> StoredResult:
        """The final state of a task; cancel it to stop waiting.

        Raises:
            BackendError: the backend failed.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        future: Future = loop.create_future()
        item = (future, loop)
        with self._changed:
            if self._closed:
                raise BackendError("the app is closed")
            self._waiting.setdefault(task_id, []).append(item)
            self._changed.notify()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="caraway-results", daemon=True)
                self._thread.start()
        try:
            return await future
        finally:
            if not future.done() or future.cancelled():
                self._forget(task_id, item)

    def close(self) -> None:
        """End the thread; whoever still waits gets an error.  Idempotent."""
        with self._changed:
            self._closed = True
            waiting = list(self._waiting)
            self._changed.notify()
            thread = self._thread
        if waiting:
            self._answer({}, waiting, BackendError("the app was closed"))
        if thread is not None:
            thread.join(1.0)

    def _forget(self, task_id: str, item: tuple[Future, Loop]) -> None:
        with self._changed:
            items = self._waiting.get(task_id)
            if items and item in items:
                items.remove(item)
                if not items:
                    del self._waiting[task_id]

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._waiting and not self._closed:
                    self._changed.wait(IDLE)
                if self._closed or not self._waiting:
                    self._thread = None
                    return
                ids = list(self._waiting)
            try:
                found = self._backend().wait(ids, SLICE)
            except Exception as exc:  # noqa: BLE001 - the thread must outlive any error
                self._answer({}, ids, exc)
            else:
                if found:
                    self._answer(dict(found), list(found), None)

    def _answer(
        self, found: dict[str, StoredResult], ids: list[str], error: Exception | None
    ) -> None:
        answers: dict[Loop, list[tuple[Future, StoredResult | Exception]]] = {}
        with self._changed:
            for task_id in ids:
                for future, loop in self._waiting.pop(task_id, ()):
                    answer = error if error is not None else found[task_id]
                    answers.setdefault(loop, []).append((future, answer))
        for loop, pairs in answers.items():
            try:
                loop.call_soon_threadsafe(_resolve, pairs)
            except RuntimeError:
                continue  # that loop is closed: nobody waits there any more


def _resolve(pairs: list[tuple[Future, StoredResult | Exception]]) -> None:
    for future, answer in pairs:
        if future.done():
            continue
        if isinstance(answer, StoredResult):
            future.set_result(answer)
        else:
            error = answer if isinstance(answer, OperationalError) else RuntimeError(str(answer))
            error.__cause__ = answer if error is not answer else answer.__cause__
            future.set_exception(error)
