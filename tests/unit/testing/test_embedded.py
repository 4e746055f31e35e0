"""A worker in the test's own process."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import (
    ImproperlyConfigured,
    QueueNotFound,
    TaskRevokedError,
    TransportUnavailable,
)
from caraway.message import new_owner_id
from caraway.testing import Sandbox, start_worker
from caraway.worker import Worker
from caraway.worker.attendant import Attendant


def names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if "caraway" in thread.name}


def test_tasks_run_beside_the_test(caraway_app: Caraway, caraway_worker: Worker) -> None:
    tasks = caraway_app.tasks
    assert tasks["shop.add"].delay(2, 3).get(timeout=10) == 5
    assert tasks["shop.double"].delay(4).get(timeout=10) == 8
    assert caraway_app.control.ping(timeout=10) == [{caraway_worker.hostname: {"ok": "pong"}}]


def test_what_is_delayed_runs_when_the_clock_is_moved(
    caraway_sandbox: Sandbox, caraway_worker: Worker
) -> None:
    add = caraway_sandbox.app.tasks["shop.add"]
    late = add.apply_async((1, 1), countdown=3600)
    assert add.delay(2, 2).get(timeout=10) == 4
    assert not late.ready()

    caraway_sandbox.advance(3601)

    assert late.get(timeout=10) == 2


@pytest.fixture
def app(tmp_path: Path) -> Any:
    url = f"sqlite:///{tmp_path}/broker.db"
    made = Caraway("embedded", broker=url, backend=url, set_as_current=False)

    @made.task(name="work")
    def work(n: int) -> tuple[int, str]:
        return n, threading.current_thread().name

    @made.task(name="wait")
    def wait(seconds: float) -> None:
        began.set()
        for _ in range(round(seconds / 0.02)):  # an exception is raised between two of them
            held.wait(0.02)

    began, held = threading.Event(), threading.Event()
    made.began = began  # type: ignore[attr-defined]
    yield made
    made.close()


def test_any_broker_will_do_and_nothing_is_left_running(app: Any) -> None:
    before = names()
    for n in range(2):
        with start_worker(app) as worker:
            assert app.tasks["work"].delay(n).get(timeout=10) == [n, "caraway-worker"]
            assert worker.hostname
    assert names() == before
    assert app.transport.owners() == []


def test_what_attends_the_lane_has_ended_with_the_worker(
    app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []

    def look(attendant: Attendant, _: float) -> None:
        attendant._stopped.wait(10)
        threading.Event().wait(0.05)  # it was in the middle of something
        looks.append(attendant._stopped.is_set())

    monkeypatch.setattr(Attendant, "_look", look)
    with start_worker(app):
        app.tasks["work"].delay(1).get(timeout=10)

    assert looks == [True]


def test_other_queues_are_consumed_where_they_are_named(app: Any) -> None:
    with start_worker(app, queues=["mail"]):
        result = app.tasks["work"].apply_async((1,), queue="mail")
        other = app.tasks["work"].delay(2)
        assert result.get(timeout=10)[0] == 1
    assert not other.ready()


def test_a_running_task_can_be_terminated(app: Any) -> None:
    with start_worker(app):
        result = app.tasks["wait"].delay(20.0)
        assert app.began.wait(10)
        app.control.revoke(result.id, terminate=True)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=10)


def test_what_is_wrong_with_the_settings_is_raised_here(app: Any) -> None:
    app.conf.task_create_missing_queues = False
    with pytest.raises(QueueNotFound), start_worker(app, queues=["nope"]):
        pass
    app.conf.task_create_missing_queues = True
    app.conf.result_serializer = "no-such-serializer"
    app.forget_plans()
    with pytest.raises(ImproperlyConfigured), start_worker(app):
        pass


def test_a_broker_that_is_away_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = names()
    url = f"failing-{new_owner_id()}"
    app = Caraway("away", broker=f"memory://{url}", set_as_current=False)

    def away(*_: Any) -> None:
        raise TransportUnavailable("away")

    monkeypatch.setattr(app.transport, "declare", away)
    with pytest.raises(TimeoutError, match="is its broker there"), start_worker(app, timeout=0.2):
        pass
    assert names() == before


def test_errors_of_the_block_come_through(app: Any) -> None:
    with pytest.raises(ZeroDivisionError), start_worker(app):
        raise ZeroDivisionError
