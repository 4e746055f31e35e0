"""Results: what a caller holds of a task it sent.

Nothing here does I/O until it is asked something, and nothing when it is collected.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from caraway import states
from caraway.errors import TimeoutError  # noqa: A004 - Celery's name
from caraway.protocol.result import decode_exception, decode_meta
from caraway.result.blocking import (
    allow_join_result,
    assert_will_not_block,
    denied_join_result,
)

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces.backend import Backend
    from caraway.message import StoredResult

__all__ = [
    "AsyncResult",
    "EagerResult",
    "ResultSet",
    "allow_join_result",
    "as_completed",
    "assert_will_not_block",
    "denied_join_result",
]

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

WAIT = 10.0
"""Seconds of one wait in the backend; a longer get() is made of several."""


class AsyncResult(Generic[R_co]):
    """The state of a task, by its id.  ``await result`` gives its value.

    Args:
        id: task id.
        backend: where to look; default the app's.
        task_name: for people.
        app: default the current one.
        parent: the result of the task before this one in a chain.

    Attributes:
        id: task id.
    """

    __slots__ = ("__weakref__", "_app", "_backend", "_meta", "id", "parent", "task_name")

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Caraway | None = None,
        parent: AsyncResult[Any] | None = None,
    ) -> None:
        self.id = id
        self.task_name = task_name
        self.parent = parent
        self._app = app
        self._backend = backend
        self._meta: dict[str, Any] | None = None

    @property
    def app(self) -> Caraway:
        """The app it belongs to."""
        if self._app is None:
            from caraway.app.current import get_current_app

            self._app = get_current_app()
        return self._app

    @property
    def backend(self) -> Backend:
        """Where the state is kept."""
        return self._backend if self._backend is not None else self.app.backend

    @property
    def task_id(self) -> str:
        """The same as ``id``."""
        return self.id

    # -- waiting -----------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        interval: float = 0.5,
        no_ack: bool = True,  # noqa: ARG002, FBT001, FBT002
        follow_parents: bool = True,  # noqa: FBT001, FBT002
        callback: Callable[[str, Any], Any] | None = None,
        on_message: Callable[[dict[str, Any]], Any] | None = None,
        on_interval: Callable[[], Any] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: FBT001, FBT002
    ) -> R_co:
        """Wait for the value.

        Args:
            timeout: seconds; None waits for ever.
            propagate: raise the task's exception; False returns it.
            interval: seconds between two calls of ``on_interval``; results come at once.
            follow_parents: raise what a parent in a chain failed with.
            callback: called with id and value.
            on_message: called with the meta record.
            on_interval: called while waiting.
            disable_sync_subtasks: refuse inside a task.

        Raises:
            TimeoutError: it isn't there in time.
            RuntimeError: called inside a task.
            Exception: whatever the task raised.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        if self._meta is None:
            step = interval if on_interval is not None else WAIT
            parent = self.parent if follow_parents and propagate else None
            self._wait(timeout, step, on_interval, parent)
        meta = self._meta
        assert meta is not None
        if on_message is not None:
            on_message(meta)
        if propagate:
            self.maybe_throw()
        value: R_co = meta["result"]
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def _wait(
        self,
        timeout: float | None,
        step: float,
        on_interval: Callable[[], Any] | None,
        parent: AsyncResult[Any] | None,
    ) -> None:
        from time import monotonic

        wait = self.backend.wait
        ids = [self.id]
        if parent is not None:
            ids.append(parent.id)
        end = None if timeout is None else monotonic() + timeout
        while True:
            left = step if end is None else min(step, end - monotonic())
            found = wait(ids, max(0.0, left))
            if self.id in found:
                self._keep(found[self.id])
                return
            if parent is not None and parent.id in found:
                # a failed parent never sends its child; a finished one is no news
                parent._keep(found[parent.id])
                parent.maybe_throw()
                ids.remove(parent.id)
                parent = parent.parent
                if parent is not None:
                    ids.append(parent.id)
                continue
            if end is not None and monotonic() >= end:
                raise TimeoutError(
                    "The operation timed out.",
                    hint=f"task {self.id} did not end within {timeout} s: "
                    f"`caraway explain {self.id}` says why",
                )
            if on_interval is not None:
                on_interval()

    def __await__(self) -> Generator[Any, None, R_co]:
        return self.aget().__await__()

    async def aget(self, timeout: float | None = None, *, propagate: bool = True) -> R_co:
        """`get` for coroutines; one thread waits for all of them.

        Args:
            timeout: seconds; None waits for ever.
            propagate: raise the task's exception; False returns it.

        Raises:
            TimeoutError: it isn't there in time.
            Exception: whatever the task raised.
        """
        await self._await_end(timeout)
        if propagate:
            self.maybe_throw()
        assert self._meta is not None
        value: R_co = self._meta["result"]
        return value

    async def _await_end(self, timeout: float | None) -> None:
        if self._meta is not None:
            return
        import asyncio

        try:
            async with asyncio.timeout(timeout):
                stored = await self.app.result_waiter.wait(self.id)
        except asyncio.TimeoutError:
            raise TimeoutError("The operation timed out.") from None
        self._keep(stored)

    # -- state -------------------------------------------------------------------------

    def _keep(self, stored: StoredResult) -> dict[str, Any]:
        meta = self._read(stored)
        if meta["status"] in states.READY_STATES:
            self._meta = meta
        return meta

    def _read(self, stored: StoredResult) -> dict[str, Any]:
        meta = decode_meta(self.app.result_serializer, stored.payload)
        if meta["status"] in states.EXCEPTION_STATES and meta.get("result") is not None:
            meta["result"] = decode_exception(meta["result"])
        return meta

    def _look(self) -> dict[str, Any]:
        if self._meta is not None:
            return self._meta
        stored = self.backend.get([self.id]).get(self.id)
        if stored is None:
            return {"status": states.PENDING, "result": None, "task_id": self.id}
        return self._keep(stored)

    @property
    def state(self) -> str:
        """State now: see `caraway.states`; ``PENDING`` if nothing is known."""
        status: str = self._look()["status"]
        return status

    status = state

    @property
    def result(self) -> R_co | BaseException | Any:
        """Value, exception, or what a custom state was set with; None if there is none."""
        return self._look().get("result")

    info = result

    @property
    def traceback(self) -> str | None:
        """Of the failure, as text."""
        return self._look().get("traceback")

    @property
    def children(self) -> list[Any] | None:
        """Result tuples of tasks that it sent, where they were kept."""
        return self._look().get("children")

    @property
    def date_done(self) -> Any:
        """When it ended: an aware datetime, or None."""
        text = self._look().get("date_done")
        if not isinstance(text, str):
            return text
        from datetime import datetime

        return datetime.fromisoformat(text)

    @property
    def name(self) -> str | None:
        """Name of the task (``result_extended``)."""
        return self._look().get("name") or self.task_name

    @property
    def args(self) -> Any:
        """Its arguments (``result_extended``)."""
        return self._look().get("args")

    @property
    def kwargs(self) -> Any:
        """Its keyword arguments (``result_extended``)."""
        return self._look().get("kwargs")

    @property
    def worker(self) -> str | None:
        """Who ran it (``result_extended``)."""
        return self._look().get("worker")

    @property
    def retries(self) -> int | None:
        """How often it was retried (``result_extended``)."""
        return self._look().get("retries")

    @property
    def queue(self) -> str | None:
        """Where it came from (``result_extended``)."""
        return self._look().get("queue")

    @property
    def ignored(self) -> bool:
        """True if no result can come."""
        return False

    def ready(self) -> bool:
        """True if it ended."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """True if it ended well."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """True if it failed."""
        return self.state == states.FAILURE

    def exists(self) -> bool:
        """True if the backend knows anything of it."""
        return self._meta is not None or self.id in self.backend.get([self.id])

    def maybe_throw(
        self,
        propagate: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        callback: Callable[[str, Any], Any] | None = None,
    ) -> Any:
        """Raise what the task raised, if it did; else return its value so far."""
        meta = self._look()
        value = meta.get("result")
        if propagate and meta["status"] in states.PROPAGATE_STATES:
            raise value if isinstance(value, BaseException) else RuntimeError(repr(value))
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw
    throw = maybe_throw

    # -- acting ------------------------------------------------------------------------

    def revoke(
        self,
        connection: Any = None,  # noqa: ARG002 - Celery's
        terminate: bool = False,  # noqa: FBT001, FBT002
        signal: str | None = None,
        wait: bool = False,  # noqa: ARG002, FBT001, FBT002
        timeout: float | None = None,  # noqa: ARG002
    ) -> None:
        """The task is not to run; with ``terminate``, not even to its end."""
        self.app.revoke([self.id], terminate=terminate, signal=signal)

    def forget(self) -> None:
        """Drop what the backend keeps of it."""
        self._meta = None
        self.backend.forget([self.id])

    def then(self, callback: Callable[[AsyncResult[R_co]], Any], on_error: Any = None) -> Any:
        """Wait here, then call ``callback`` (or ``on_error``) with this result."""
        try:
            self.get()
        except Exception:
            if on_error is None:
                raise
            on_error(self)
        else:
            callback(self)
        return self

    def as_tuple(self) -> tuple[Any, Any]:
        """``((id, parent), None)``, as it travels."""
        return (self.id, self.parent.as_tuple() if self.parent else None), None

    def as_list(self) -> list[str]:
        """Ids of this and its parents."""
        return [self.id, *(self.parent.as_list() if self.parent else ())]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        return bool(other == self.id) if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return str(self.id)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __reduce__(self) -> Any:
        return type(self), (self.id, None, self.task_name, None, self.parent)


from caraway.result.eager import EagerResult  # noqa: E402 - as below
from caraway.result.sets import ResultSet, as_completed  # noqa: E402 - they build on the above
