"""The one thread through which coroutines publish.

Coroutines hand their publications over and await a future; the thread publishes what has
come together as one batch, and answers once per loop.  It starts with the first use, is a
daemon, and doesn't survive a fork: the child starts its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import PublishError, TransportUnavailable
from caraway.message import Publication

if TYPE_CHECKING:
    import asyncio

    Item = tuple[Sequence[Publication], asyncio.Future[None], asyncio.AbstractEventLoop]

BATCH = 1000
"""Most publications in one batch; what is left goes with the next."""


class PublishThread:
    """Publishes for coroutines of any number of loops.

    Args:
        publish: blocking; see `caraway.producer.Producer.publish`.
        timeout: seconds that ``publish`` takes before it gives up.
        most_waiting: publications that may wait; beyond, `submit` raises.
    """

    def __init__(
        self,
        publish: Callable[[Sequence[Publication]], None],
        *,
        timeout: float = 5.0,
        most_waiting: int = 1_000_000,
    ) -> None:
        self._publish = publish
        self._timeout = timeout
        self._most = most_waiting
        self._items: deque[Item] = deque()
        self._ready = Condition()
        self._thread: Thread | None = None
        self._closed = False

    async def submit(self, publications: Sequence[Publication]) -> None:
        """Publish; return when the broker has them all.

        Raises:
            PublishError: says which are not.
            TransportUnavailable: none is.
        """
        import asyncio

        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        with self._ready:
            if self._closed:
                raise RuntimeError("the app is closed")
            if len(self._items) >= self._most:
                raise PublishError(
                    f"{self._most} calls are waiting to be published",
                    failed=range(len(publications)),
                    hint="the broker is slower than this program sends: await each call, "
                    "or send in bulk with delay_many",
                )
            self._items.append((publications, future, loop))
            if len(self._items) == 1:
                self._ready.notify()
            if self._thread is None:
                self._thread = Thread(target=self._run, name="caraway-publish", daemon=True)
                self._thread.start()
        await future

    def close(self, timeout: float = 5.0) -> None:
        """Publish what waits, then end the thread.  Idempotent."""
        with self._ready:
            self._closed = True
            self._ready.notify()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._items and not self._closed:
                    self._ready.wait()
                if not self._items:
                    return
                items = self._items
                batch = [items.popleft() for _ in range(min(BATCH, len(items)))]
            began = monotonic()
            errors = self._attempt(batch)
            hung = monotonic() - began >= self._timeout * 0.9
            if hung and isinstance(errors[0], TransportUnavailable):
                # Those who came meanwhile hear of it now: trying for them as long again, and
                # then for the next, would outlast all deadlines.
                with self._ready:
                    batch += items
                    items.clear()
                errors += [errors[0]] * (len(batch) - len(errors))
            self._answer(batch, errors)

    def _attempt(self, batch: Sequence[Item]) -> list[BaseException | None]:
        publications = [each for item in batch for each in item[0]]
        try:
            self._publish(publications)
        except PublishError as exc:
            return _own_errors(batch, exc)
        except TransportUnavailable as exc:
            return [exc] * len(batch)
        except BaseException as exc:  # noqa: BLE001 - the thread must outlive any error
            if len(batch) == 1:
                return [exc]
            # whose fault was it?
            return [error for item in batch for error in self._attempt([item])]
        return [None] * len(batch)

    def _answer(self, batch: Sequence[Item], errors: Sequence[BaseException | None]) -> None:
        by_loop: dict[
            asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], BaseException | None]]
        ] = {}
        for (_, future, loop), error in zip(batch, errors, strict=True):
            by_loop.setdefault(loop, []).append((future, error))
        for loop, answers in by_loop.items():
            try:
                loop.call_soon_threadsafe(_resolve, answers)
            except RuntimeError:
                continue  # that loop is closed: nobody waits there any more


def _own_errors(batch: Sequence[Item], error: PublishError) -> list[BaseException | None]:
    failed = set(error.failed)
    errors: list[BaseException | None] = []
    start = 0
    for publications, _, _ in batch:
        end = start + len(publications)
        mine = tuple(at - start for at in range(start, end) if at in failed)
        errors.append(PublishError(*error.args, failed=mine, hint=error.hint) if mine else None)
        start = end
    return errors


def _resolve(answers: Sequence[tuple[asyncio.Future[None], BaseException | None]]) -> None:
    for future, error in answers:
        if future.done():
            continue  # cancelled meanwhile
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)
