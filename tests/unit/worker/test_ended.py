"""What a lane makes of messages that come back, or are for later: judged without running."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway, signals, states
from caraway.message import Delivery, Message, Owner, StoredResult, new_owner_id
from caraway.protocol.times import iso
from caraway.worker.board import Board
from caraway.worker.intake import Intake
from caraway.worker.lane_config import LaneConfig
from caraway.worker.orders import Orders


@pytest.fixture
def intake() -> Iterator[Intake]:
    url = f"memory://ended-{new_owner_id()}"
    app = Caraway("ended", broker=url, backend=url, set_as_current=False)

    @app.task(name="work")
    def work() -> None: ...

    config = LaneConfig(index=0, owner=Owner(id="o", worker="w@here"), queues=())
    yield Intake(app, Board(1, 1).lane(0), config, None, app.backend)  # type: ignore[arg-type]
    app.close()


def delivery(intake: Intake, *, attempt: int = 1, **headers: Any) -> Delivery:
    body = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'
    message = Message(
        body, {"task": "work", "id": "me", **headers}, "application/json", "utf-8", {}
    )
    return Delivery(message, 1, "q", attempt)


def result(intake: Intake, completion: Any) -> tuple[str, str]:
    import json

    assert completion.settlement.action == "ack"
    record = json.loads(completion.result.payload)
    return record["status"], record["result"]["exc_type"]


def test_a_message_whose_run_was_ended_at_its_limit_does_not_run_again(intake: Intake) -> None:
    orders = Orders()
    orders.keep({"do": "ended", "runs": {"me": ["timed out", 1.5]}})
    (told,) = orders
    intake.ended.update(told["runs"])

    jobs, (judged,) = intake.admit([delivery(intake, attempt=2)])

    assert jobs == []
    assert result(intake, judged) == (states.FAILURE, "TimeLimitExceeded")


def test_one_that_was_terminated_is_told_of_as_that(intake: Intake) -> None:
    told: list[tuple[Any, ...]] = []

    def hear(request: Any, terminated: bool, signum: Any, expired: bool, **_: Any) -> None:
        told.append((request.id, terminated, signum, expired))

    signals.task_revoked.connect(hear)
    intake.revoke(["me"])
    intake.ended["me"] = ["terminated", 9]
    try:
        jobs, (judged,) = intake.admit([delivery(intake, attempt=2)])
    finally:
        signals.task_revoked.disconnect(hear)

    assert jobs == []
    assert result(intake, judged) == (states.REVOKED, "TaskRevokedError")
    assert told == [("me", True, 9, False)]


def test_a_new_message_of_that_task_runs(intake: Intake) -> None:
    intake.ended["me"] = ["timed out", 1.5]

    jobs, judged = intake.admit([delivery(intake)])

    assert (len(jobs), judged) == (1, [])


def test_what_expires_before_it_is_due_is_revoked_now(intake: Intake) -> None:
    now = intake._clock()
    late = delivery(intake, eta=iso(now + 20), expires=iso(now + 10))
    good = delivery(intake, eta=iso(now + 20), expires=iso(now + 30))

    jobs, (revoked, later) = intake.admit([late, good])

    assert jobs == []
    assert result(intake, revoked) == (states.REVOKED, "TaskRevokedError")
    assert (later.settlement.action, later.result) == ("release", None)


@pytest.mark.parametrize(
    ("state", "action"),
    [
        (states.SUCCESS, "ack"),
        (states.FAILURE, "reject"),
        (states.STARTED, "reject"),
        ("", "reject"),
    ],
)
def test_one_delivered_too_often_is_given_up_unless_it_had_ended(
    intake: Intake, state: str, action: str
) -> None:
    if state:
        intake._backend.store([StoredResult("me", state, b"{}", 60.0)])  # type: ignore[union-attr]

    jobs, (judged,) = intake.admit([delivery(intake, attempt=4)])

    assert jobs == []
    assert judged.settlement.action == action
    # What stands stays: a copy of a message that was done says nothing new.
    assert (judged.result is None) == (action == "ack")
