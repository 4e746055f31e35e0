"""A worker inside of the test's own process."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.worker import Worker

_LAST_GRACE = 5.0
"""Seconds after a hard stop."""


@contextmanager
def start_worker(
    app: Caraway, *, queues: Sequence[str] | None = None, timeout: float = 10.0
) -> Iterator[Worker]:
    """Run a worker in a thread of this process while the block lasts.

    It is a whole worker (pool ``solo``): it answers remote control, sends events, and tasks
    run beside the test, one after another; ``async def`` tasks beside each other.  What only
    processes can do isn't there: a task that never ends can't be killed, and a task that
    blocks in C code isn't interrupted by its time limits.

    Args:
        app: with any broker and backend; `caraway.testing.isolate` switches one to memory.
        queues: names; None: those of the settings, as for any worker.
        timeout: seconds that the worker has to be ready, and at the end for what runs.

    Yields:
        The worker, when it is ready.

    Raises:
        CarawayError: it can't start: whatever a worker says of its settings.
        TimeoutError: it isn't ready, or doesn't end, in time.
    """
    from caraway.worker import Worker

    ready = threading.Event()
    failure: list[BaseException] = []
    worker = Worker(app, pool="solo", concurrency=1, queues=queues, on_ready=ready.set)

    def run() -> None:
        try:
            worker.run()
        except BaseException as exc:  # noqa: BLE001 - it is the caller's, whatever it is
            failure.append(exc)
        finally:
            ready.set()

    thread = threading.Thread(target=run, name="caraway-worker", daemon=True)
    thread.start()
    try:
        if not ready.wait(timeout):
            raise TimeoutError(f"the worker isn't ready after {timeout:g} s: is its broker there?")
        if failure:
            raise failure.pop()
        yield worker
    finally:
        _end(worker, thread, timeout)
    if failure:
        raise failure.pop()


def _end(worker: Worker, thread: threading.Thread, timeout: float) -> None:
    worker.stop()
    thread.join(timeout)
    if thread.is_alive():
        worker.stop(hard=True)
        thread.join(_LAST_GRACE)
    if thread.is_alive():
        raise TimeoutError("the worker doesn't end: a task runs that can't be interrupted")
