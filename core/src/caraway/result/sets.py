"""Many results at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from caraway import states
from caraway.errors import TimeoutError  # noqa: A004 - Celery's name
from caraway.result import WAIT, AsyncResult, assert_will_not_block

if TYPE_CHECKING:
    from caraway.app import Caraway

R = TypeVar("R")


class as_completed(Generic[R]):  # noqa: N801 - reads as a verb, like asyncio's
    """Results in the order in which their tasks end.

    ``for result in as_completed(results)`` and ``async for`` alike; each result given
    has ended, so its ``get()`` returns (or raises) at once.

    Args:
        results: of one app; taken in as a whole.
        timeout: seconds for all together; None waits for ever.

    Raises:
        TimeoutError: while iterating, when time is over.
    """

    def __init__(self, results: Iterable[AsyncResult[R]], timeout: float | None = None) -> None:
        self._results = list(results)
        self._timeout = timeout

    def __iter__(self) -> Iterator[AsyncResult[R]]:
        from time import monotonic

        assert_will_not_block()
        waiting, ended = _split(self._results)
        yield from ended
        end = None if self._timeout is None else monotonic() + self._timeout
        while waiting:
            left = WAIT if end is None else min(WAIT, end - monotonic())
            backend = next(iter(waiting.values()))[0].backend
            found = backend.wait(list(waiting), max(0.0, left))
            for task_id, stored in found.items():
                for result in waiting.pop(task_id, ()):
                    result._keep(stored)
                    yield result
            if not found and end is not None and monotonic() >= end:
                raise _late(len(waiting))

    async def __aiter__(self) -> AsyncIterator[AsyncResult[R]]:
        import asyncio

        waiting, ended = _split(self._results)
        for result in ended:
            yield result
        if not waiting:
            return
        queue: asyncio.Queue[tuple[AsyncResult[R], BaseException | None]] = asyncio.Queue()
        futures = []

        async def watch(result: AsyncResult[R]) -> None:
            try:
                await result._await_end(None)
            except Exception as exc:  # noqa: BLE001 - handed to whoever iterates
                queue.put_nowait((result, exc))
            else:
                queue.put_nowait((result, None))

        count = 0
        for same in waiting.values():
            for result in same:
                futures.append(asyncio.ensure_future(watch(result)))
                count += 1
        loop = asyncio.get_running_loop()
        end = None if self._timeout is None else loop.time() + self._timeout
        try:
            while count:
                try:
                    async with asyncio.timeout_at(end):
                        result, error = await queue.get()
                except asyncio.TimeoutError:
                    raise _late(count) from None
                if error is not None:
                    raise error
                count -= 1
                yield result
        finally:
            for future in futures:
                future.cancel()


def _split(
    results: Sequence[AsyncResult[R]],
) -> tuple[dict[str, list[AsyncResult[R]]], list[AsyncResult[R]]]:
    waiting: dict[str, list[AsyncResult[R]]] = {}
    ended = []
    for result in results:
        if result._meta is not None:
            ended.append(result)
        else:
            waiting.setdefault(result.id, []).append(result)
    return waiting, ended


def _late(count: int) -> TimeoutError:
    return TimeoutError("The operation timed out.", hint=f"{count} tasks have not ended")


class ResultList(Sequence[AsyncResult[R]]):
    """Results of a bulk call: ids in 16 bytes each, results made when they are looked at.

    Args:
        app: whose tasks they are.
        task_name: of all of them, or None.
    """

    def __init__(self, app: Caraway, task_name: str | None = None) -> None:
        self._app = app
        self._name = task_name
        self._ids = bytearray()
        self._eager: list[AsyncResult[R]] = []

    def append_eager(self, result: AsyncResult[R]) -> None:
        """Add the result of a task that ran in place: it is kept nowhere else."""
        self._eager.append(result)

    def append_id(self, task_id: str) -> None:
        """Add one by its id, a UUID."""
        self._ids += bytes.fromhex(task_id.replace("-", ""))

    @property
    def ids(self) -> list[str]:
        """Task ids."""
        return [result.id for result in self]

    def __len__(self) -> int:
        return len(self._eager) or len(self._ids) // 16

    @overload
    def __getitem__(self, index: int) -> AsyncResult[R]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[AsyncResult[R]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(index)
        if self._eager:
            return self._eager[index]
        raw = self._ids[16 * index : 16 * index + 16].hex()
        task_id = f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"
        return AsyncResult[R](task_id, app=self._app, task_name=self._name)

    def __repr__(self) -> str:
        return f"<ResultList of {len(self)}>"


class ResultSet(Generic[R]):
    """Several results treated as one.

    Args:
        results: of one app.
        app: default the app of the first.
    """

    def __init__(
        self, results: Iterable[AsyncResult[R]] = (), app: Caraway | None = None, **_: Any
    ) -> None:
        self.results: list[AsyncResult[R]] = list(results)
        self._app = app

    @property
    def app(self) -> Caraway:
        """The app they belong to."""
        if self._app is not None:
            return self._app
        if self.results:
            return self.results[0].app
        from caraway.app.current import get_current_app

        return get_current_app()

    def add(self, result: AsyncResult[R]) -> None:
        """Add one unless it is there."""
        if result not in self.results:
            self.results.append(result)

    def remove(self, result: AsyncResult[R] | str) -> None:
        """Take one out.

        Raises:
            KeyError: it isn't in.
        """
        for each in self.results:
            if each == result:
                self.results.remove(each)
                return
        raise KeyError(str(result))

    def discard(self, result: AsyncResult[R] | str) -> None:
        """Take one out if it is in."""
        try:
            self.remove(result)
        except KeyError:
            return

    def update(self, results: Iterable[AsyncResult[R]]) -> None:
        """Add many."""
        known = set(self.results)
        self.results.extend(each for each in results if each not in known)

    def clear(self) -> None:
        """Take all out."""
        self.results.clear()

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        interval: float = 0.5,  # noqa: ARG002
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,  # noqa: ARG002, FBT001, FBT002
        on_message: Any = None,  # noqa: ARG002
        disable_sync_subtasks: bool = True,  # noqa: FBT001, FBT002
        on_interval: Any = None,  # noqa: ARG002
    ) -> list[R]:
        """Values of all, in the order of the set.

        Raises:
            TimeoutError: not all ended in time.
            Exception: what the first of them to fail raised.
        """
        from caraway.result import allow_join_result

        if disable_sync_subtasks:
            assert_will_not_block()
        with allow_join_result():
            for result in as_completed(self.results, timeout):
                if propagate:
                    result.maybe_throw()
        return [result.get(0, propagate, callback=callback, disable_sync_subtasks=False)
                for result in self.results]  # fmt: skip

    join = get
    join_native = get

    def iter_native(
        self, timeout: float | None = None, **_: Any
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(id, meta) of each as it ends."""
        for result in as_completed(self.results, timeout):
            yield result.id, dict(result._look())

    def _states(self) -> list[str]:
        unknown = [each for each in self.results if each._meta is None]
        if unknown:
            found = unknown[0].backend.get([each.id for each in unknown])
            now = {each.id: each._keep(found[each.id]) for each in unknown if each.id in found}
        else:
            now = {}
        return [
            (each._meta or now.get(each.id) or {"status": states.PENDING})["status"]
            for each in self.results
        ]

    def ready(self) -> bool:
        """True if all ended."""
        return all(state in states.READY_STATES for state in self._states())

    def waiting(self) -> bool:
        """True if any has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """True if all ended well."""
        return all(state == states.SUCCESS for state in self._states())

    def failed(self) -> bool:
        """True if any failed."""
        return any(state == states.FAILURE for state in self._states())

    def completed_count(self) -> int:
        """How many ended well."""
        return sum(state == states.SUCCESS for state in self._states())

    def maybe_throw(self, callback: Any = None, *, propagate: bool = True) -> None:
        """Raise what the first failed one raised."""
        for result in self.results:
            result.maybe_throw(callback=callback, propagate=propagate)

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        """Drop what the backend keeps of all."""
        for result in self.results:
            result._meta = None
        if self.results:
            self.results[0].backend.forget([each.id for each in self.results])

    def revoke(self, *, terminate: bool = False, signal: str | None = None, **_: Any) -> None:
        """None of them is to run."""
        self.app.revoke([each.id for each in self.results], terminate=terminate, signal=signal)

    def __iter__(self) -> Iterator[AsyncResult[R]]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> AsyncResult[R]:
        return self.results[index]

    def __contains__(self, result: object) -> bool:
        return result in self.results

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(each.id for each in self.results)}]>"
