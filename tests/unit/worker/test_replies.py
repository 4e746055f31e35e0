"""Results that go to the caller's own queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import pytest

from caraway import Caraway
from caraway.interfaces import Backend, Capability
from caraway.message import Delivery, StoredResult
from caraway.plugins import BackendEntry, hookimpl
from caraway.task.publication import build
from caraway.worker.job import TaskJob, TaskPlan


class Replies(Backend):
    """Counts who asks it to be ready, and keeps nothing."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.REPLIES})
    expected: ClassVar[int] = 0

    def __init__(self, *_: Any) -> None:
        self.stored: list[StoredResult] = []

    def expect(self) -> str:
        type(self).expected += 1
        return "my.queue"

    def store(self, results: Sequence[StoredResult]) -> None:
        self.stored += results

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        return {}

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        return {}

    def forget(self, task_ids: Sequence[str]) -> int:
        return len(task_ids)

    def ping(self) -> None:
        return

    def close(self) -> None:
        return


class Plugin:
    """Registers it."""

    @hookimpl
    def caraway_register_backends(self) -> list[BackendEntry]:
        factory = f"{__name__}:Replies"
        return [
            BackendEntry(
                name="replies", schemes=("replies",), factory=factory, summary="Replies.",
                capabilities=Replies.capabilities,
            )
        ]  # fmt: skip


@pytest.fixture
def app() -> Iterator[Caraway]:
    Replies.expected = 0
    made = Caraway(
        "replies", broker="memory://replies", backend="replies://", plugins=[Plugin()],
        set_as_current=False,
    )  # fmt: skip

    @made.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    @made.task(name="soon")
    async def soon() -> int:
        return 1

    yield made
    made.close()


def completed(app: Caraway, name: str, *args: Any, **options: Any) -> StoredResult | None:
    """The result of one run, as its lane would store it."""
    message = build(app, name, args, {}, options, app.tasks[name]).publication.message
    plan = TaskPlan(app, app.tasks[name], None, "node")
    plan.begin = lambda *_: None
    job = TaskJob(Delivery(message, 1, "q"), plan, 0.0, 0.0, plan.is_async)
    if plan.is_async:
        import asyncio

        return asyncio.run(job.arun()).result
    return job.run().result


def test_results_are_addressed_to_whoever_sent_the_task(app: Caraway) -> None:
    for name, args in (("add", (1, 2)), ("fail", ()), ("soon", ())):
        result = completed(app, name, *args)
        assert result is not None
        assert result.reply_to == "my.queue", name
    result = completed(app, "add", 1, 2, reply_to="somebody")
    assert result is not None
    assert result.reply_to == "somebody"


def test_the_queue_is_asked_for_once_and_before_the_first_message(app: Caraway) -> None:
    for _ in range(3):
        app.tasks["add"].delay(1, 2)
        app.send_task("add", args=(1, 2))
    assert Replies.expected == 1


def test_ignored_results_ask_for_no_queue(app: Caraway) -> None:
    app.send_task("add", args=(1, 2), ignore_result=True)
    assert Replies.expected == 0


def test_after_a_close_the_queue_is_asked_for_again(app: Caraway) -> None:
    add = app.tasks["add"]
    add.delay(1, 2)
    app.close()
    add.delay(1, 2)
    assert Replies.expected == 2


def test_other_backends_get_plain_jobs_without_an_address() -> None:
    app = Caraway("plain", broker="memory://plain", backend="memory://plain", set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    result = completed(app, "add", 1, 2)
    assert result is not None
    assert result.reply_to == ""
    assert app.reply_to == app.oid
    app.close()
