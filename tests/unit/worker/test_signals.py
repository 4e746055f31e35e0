"""What a lane tells those who listen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway, signals
from caraway.testing import isolate


@pytest.fixture
def app() -> Caraway:
    app = Caraway("site", broker="memory://", set_as_current=False)

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    told: list[tuple[str, dict[str, Any]]] = []

    def listen(signal: Any, sender: Any, **fields: Any) -> None:
        told.append((signal.name, fields))

    names = ("received", "revoked", "unknown", "rejected", "failure")
    watched = [getattr(signals, f"task_{name}") for name in names]
    for each in watched:
        each.connect(listen)
    yield told
    for each in watched:
        each.disconnect(listen)


def test_a_received_task_is_told_with_its_request(app: Caraway, heard: Any) -> None:
    with isolate(app) as sandbox:
        sent = app.send_task("add", (1, 2))
        sandbox.run_tasks()

    ((name, fields),) = heard
    assert name == "task_received"
    assert (fields["request"].id, list(fields["request"].args)) == (sent.id, [1, 2])


def test_an_unknown_task_is_told(app: Caraway, heard: Any) -> None:
    with isolate(app) as sandbox:
        sent = app.send_task("far.away")
        sandbox.run_tasks()

    ((name, fields),) = heard
    assert (name, fields["name"], fields["id"]) == ("task_unknown", "far.away", sent.id)
    assert "far.away" in str(fields["exc"])


def test_a_message_that_cannot_be_read_is_told(app: Caraway, heard: Any) -> None:
    with isolate(app) as sandbox:
        app.send_task("add", (1, 2), content_type="application/json", headers={"id": 7})
        sandbox.run_tasks()

    assert [name for name, _ in heard] == ["task_rejected"]


def test_a_revoked_and_an_expired_task_are_told_and_are_no_failures(
    app: Caraway, heard: Any
) -> None:
    with isolate(app) as sandbox:
        revoked = app.send_task("add", (1, 2))
        app.control.revoke(revoked.id)
        app.send_task("add", (1, 2), expires=-1)
        sandbox.run_tasks()

    assert [(name, fields["expired"]) for name, fields in heard] == [
        ("task_revoked", False),
        ("task_revoked", True),
    ]


def test_an_errback_that_takes_the_exception_gets_it(app: Caraway) -> None:
    mourned: list[Any] = []

    @app.task(name="mourn")
    def mourn(request: Any, exc: Any, traceback: Any) -> None:
        mourned.append((request.id, repr(exc), traceback[:9]))

    with isolate(app) as sandbox:
        broken = app.send_task("add", (1, "2"), link_error=mourn.s())
        sandbox.run_tasks()

    assert [(task_id, text[:10]) for task_id, text, _ in mourned] == [(broken.id, "TypeError(")]
    assert mourned[0][2] == "Traceback"


def test_an_eager_errback_gets_it_as_well(app: Caraway) -> None:
    mourned: list[str] = []

    @app.task(name="mourn")
    def mourn(request: Any, exc: Any, traceback: Any) -> None:
        mourned.append(type(exc).__name__)

    app.tasks["add"].apply((1, "2"), link_error=mourn.s())

    assert mourned == ["TypeError"]
