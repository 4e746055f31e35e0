"""Celery's own tasks, which its clients send without defining them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.canvas.tasks import register
from caraway.errors import ChordError
from caraway.message import new_owner_id
from caraway.testing.draining import drain


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://own-{new_owner_id()}"
    made = Caraway("own", broker=url, backend=url, set_as_current=False)

    @made.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @made.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @made.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    @made.task(name="mourn")
    def mourn(task_id: str) -> str:
        return f"mourned {task_id}"

    register(made)
    yield made
    made.close()


def sig(name: str, *args: Any, **options: Any) -> dict[str, Any]:
    return {"task": name, "args": list(args), "kwargs": {}, "options": options,
            "subtask_type": None, "immutable": False}  # fmt: skip


def ran(app: Caraway, name: str, *args: Any, **kwargs: Any) -> Any:
    """What the task returns, once all that it sent has run, too."""
    result = app.send_task(name, args, kwargs)
    drain(app)
    return result.get(0)


def test_map_and_starmap_run_a_task_for_each_item(app: Caraway) -> None:
    assert ran(app, "celery.map", sig("total"), [[1, 2], [3]]) == [3, 3]
    assert ran(app, "celery.starmap", task=sig("add"), it=[[1, 2], [3, 4]]) == [3, 7]


def test_chunks_send_a_starmap_for_each_few_items(app: Caraway) -> None:
    _, members = ran(app, "celery.chunks", sig("add"), [[n, n] for n in range(5)], 2)

    ids = [head[0] for head, _ in members]
    assert [app.AsyncResult(each).get(0) for each in ids] == [[0, 2], [4, 6], [8]]


def test_accumulate_returns_its_arguments(app: Caraway) -> None:
    assert ran(app, "celery.accumulate", 1, 2, 3) == [1, 2, 3]
    assert ran(app, "celery.accumulate", 1, 2, 3, index=1) == 2


def test_backend_cleanup_runs(app: Caraway) -> None:
    assert ran(app, "celery.backend_cleanup") is None


def test_a_group_is_sent_by_name(app: Caraway) -> None:
    members = [sig("add", 1, task_id="a"), sig("add", 2, task_id="b")]

    (group, _), _ = ran(app, "celery.group", members, None, "g", [10])

    assert group == "g"
    assert [app.AsyncResult(each).get(0) for each in "ab"] == [11, 12]


def test_a_chord_is_sent_by_name(app: Caraway) -> None:
    header = [sig("add", 1, 1, task_id="a")]

    assert ran(app, "celery.chord", header, sig("total", task_id="body")) is None

    assert app.AsyncResult("a").get(0) == 2


def test_a_chain_is_no_task(app: Caraway) -> None:
    with pytest.raises(NotImplementedError):
        ran(app, "celery.chain")


def unlock(app: Caraway, *members: str, **body: Any) -> Any:
    refs = [[[each, None], None] for each in members]
    callback = sig("total", task_id="body", **body)
    return app.send_task("celery.chord_unlock", ("g", callback), {"result": refs, "interval": 0.0})


def test_unlock_sends_the_body_when_all_have_ended(app: Caraway) -> None:
    for each in "ab":
        app.send_task("add", (1, 2), task_id=each)
    drain(app)
    unlock(app, "a", "b")
    drain(app)

    assert app.AsyncResult("body").get(0) == 6


def test_unlock_looks_again_while_one_has_not(app: Caraway) -> None:
    app.send_task("add", (1, 2), task_id="a")
    drain(app)
    unlock(app, "a", "b")
    app.send_task("add", (3, 4), task_id="b")
    runs = [run.state for run in drain(app) if run.task == "celery.chord_unlock"]

    assert runs == ["RETRY", "SUCCESS"]
    assert app.AsyncResult("body").get(0) == 10


def test_unlock_fails_the_body_when_a_member_failed(app: Caraway) -> None:
    app.send_task("fail", task_id="a")
    drain(app)
    unlock(app, "a", "b", link_error=[sig("mourn", task_id="mourned")])
    drain(app)

    with pytest.raises(ChordError, match="Dependency a raised ValueError"):
        app.AsyncResult("body").get(0)
    assert app.AsyncResult("mourned").get(0) == "mourned body"


def test_an_apps_own_task_of_the_name_stays() -> None:
    app = Caraway("own", broker="memory://", set_as_current=False)

    @app.task(name="celery.map")
    def mine() -> int:
        return 1

    register(app)

    assert app.tasks["celery.map"].run is mine.run
    assert "celery.chunks" in app.tasks
