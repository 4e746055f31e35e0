"""A worker without a supervisor: what it is told while its lane starts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from caraway import Caraway
from caraway.builtin.pools.inline import InlineExecutor
from caraway.builtin.pools.solo import SoloPool
from caraway.errors import TaskRevokedError
from caraway.events import wire
from caraway.interfaces import Executor
from caraway.worker import Worker


class Starting(InlineExecutor):
    """Does something as it starts: by then the lane can be seen, and doesn't listen yet."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(1)
        self._act = act

    def start(self) -> None:
        super().start()
        self._act()


@contextmanager
def told_early(app: Caraway, act: Callable[[Any], Any]) -> Iterator[None]:
    """A worker that is ready; ``act`` was done to it while its first lane started."""
    ready = threading.Event()
    worker = Worker(app, pool="solo", on_ready=ready.set)
    acts = [act]

    class Pool(SoloPool):
        def executor(self) -> Executor:
            return Starting(lambda: acts and acts.pop()(worker.supervisor))

    worker.pool = Pool(1, {})
    # Not in the main thread, whose signals are pytest's.
    thread = threading.Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        assert ready.wait(20)
        yield
    finally:
        worker.stop()
        thread.join(20)
    assert not thread.is_alive()


@pytest.fixture
def app() -> Iterator[Caraway]:
    app = Caraway("site", broker="memory://", set_as_current=False)
    app.task(lambda: 7, name="seven")
    yield app
    app.close()


def test_events_that_are_switched_on_meanwhile_are_told(app: Caraway) -> None:
    subscription = app.transport.broadcast().subscribe([wire.topic(app, "task.#")])
    with told_early(app, lambda worker: worker.set_events(on=True)):
        app.send_task("seven").get(timeout=20)
        assert subscription.receive(5)
    subscription.close()


def test_a_queue_that_is_added_meanwhile_is_consumed(app: Caraway) -> None:
    def add(worker: Any) -> None:
        worker.set_queues((*worker.template.queues, *app.queues(["more"])))

    with told_early(app, add):
        assert app.send_task("seven", queue="more").get(timeout=20) == 7


def test_what_is_revoked_meanwhile_does_not_run(app: Caraway) -> None:
    result = app.send_task("seven", task_id="unwanted")

    def revoke(worker: Any) -> None:
        worker.tell_lanes(do="revoke", ids=["unwanted"])

    with told_early(app, revoke), pytest.raises(TaskRevokedError):
        result.get(timeout=20)
