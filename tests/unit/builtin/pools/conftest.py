"""Jobs and executors for the tests of pools."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.builtin.pools.asyncio import AsyncioPool
from caraway.builtin.pools.prefork import PreforkPool
from caraway.builtin.pools.solo import SoloPool
from caraway.builtin.pools.threads import ThreadsPool

POOLS = {
    "prefork": PreforkPool,
    "solo": SoloPool,
    "threads": ThreadsPool,
    "asyncio": AsyncioPool,
}


class FakeJob:
    """A job made of a function, sync or async."""

    def __init__(self, fun: Callable[[], Any], *, is_async: bool = False) -> None:
        self.fun = fun
        self.is_async = is_async
        self.slot = -1
        self.runs = 0

    def run(self) -> Any:
        self.runs += 1
        return self.fun()

    async def arun(self) -> Any:
        self.runs += 1
        return await self.fun()


class Reports:
    """Collects what executors report, and waits for a number of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[FakeJob, Any]] = []
        self._changed = threading.Condition()

    def __call__(self, job: FakeJob, result: Any) -> None:
        with self._changed:
            self.seen.append((job, result))
            self._changed.notify_all()

    def wait(self, count: int, timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.seen) >= count, timeout), (
                f"{len(self.seen)} of {count} reports came"
            )

    def result(self, job: FakeJob) -> Any:
        found = [result for seen, result in self.seen if seen is job]
        assert len(found) == 1, f"reported {len(found)} times"
        return found[0]


@pytest.fixture
def make_job() -> type[FakeJob]:
    return FakeJob


@pytest.fixture
def reports() -> Reports:
    return Reports()


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """``start(pool name, concurrency)`` gives a started executor, stopped at the end."""
    started: list[Any] = []

    def make(name: str, concurrency: int = 4, **settings: Any) -> Any:
        executor = POOLS[name](concurrency, settings).executor()
        executor.start()
        started.append(executor)
        return executor

    yield make
    for executor in started:
        assert executor.stop(10.0)


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], Any]], threading.Thread]]:
    """Runs a function in a thread that is joined at the end."""
    threads: list[threading.Thread] = []

    def run(fun: Callable[[], Any]) -> threading.Thread:
        thread = threading.Thread(target=fun)
        threads.append(thread)
        thread.start()
        return thread

    yield run
    for thread in threads:
        thread.join(10.0)
        assert not thread.is_alive()
