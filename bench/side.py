"""What the driver needs of a task queue: the shape of ``bench.apps.*``."""

from __future__ import annotations

from typing import Any, Protocol


class Side(Protocol):
    """One task queue, set up over one empty store.

    One whose store doesn't tell what is being run (RabbitMQ) has an attribute ``by_marks``
    that is true: `finished` then says whether nothing waits, the last mark ends a drain, and
    the driver looks once more when the worker has stopped and given back what it held.

    One made of coroutines may have ``publish_each(count)``, which sends so many no-ops one
    after the other, and ``roundtrip(timeout)``, which sends one and waits for its result.
    ``signal_all`` is true where a worker of several processes must be stopped one by one.
    """

    def publish(self) -> Any:
        """Send one no-op; return a handle for `wait`."""

    def publish_many(self, count: int) -> None:
        """Send so many no-ops, the fastest way the documentation names."""

    def publish_mark(self, label: str) -> None:
        """Send a task that leaves a mark."""

    def publish_naps(self, edges: list[str], *, coroutine: bool) -> None:
        """Send one waiting task per item, as ``async def`` if asked."""

    def publish_burns(self, edges: list[str]) -> None:
        """Send one computing task per item."""

    def wait(self, handle: Any, timeout: float) -> None:
        """Wait for the result as the documentation says; raise if none comes."""

    def finished(self, expected: int) -> bool:
        """Whether so many tasks have ended with their results stored."""

    def worker(self, *, processes: int, concurrency: int, pool: str) -> list[str]:
        """The command line of a worker.

        Args:
            processes: how many run tasks.
            concurrency: threads or coroutines in each; 1 for ``prefork``.
            pool: ``prefork``, ``threads`` or ``asyncio``.

        Raises:
            NotImplementedError: this queue has no such pool.
        """

    def close(self) -> None:
        """Free what is held."""
