"""The event ``task-sent`` of what a worker sends after a run, where the setting asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway import Caraway
from caraway.message import Topic, new_owner_id
from caraway.protocol.envelope import decode, message_of
from caraway.testing import drain

VECTORS = Path(__file__).parents[2] / "interop" / "vectors"
Make = Callable[..., "Site"]


class Site:
    """An app and who listens to its events."""

    def __init__(self, *, one_store: bool, **settings: Any) -> None:
        self.names = [f"follow-{new_owner_id()}" for _ in range(2)]
        first, second = (f"memory://{name}" for name in self.names)
        self.app = Caraway(
            "follow", broker=first, backend=first if one_store else second, set_as_current=False,
            **{"task_send_sent_event": True, **settings},
        )  # fmt: skip
        app = self.app

        @app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @app.task(name="again", bind=True, max_retries=1)
        def again(self: Any, early: bool = False) -> None:
            if not self.request.retries:
                raise self.retry(countdown=0)

        @app.task(name="early", bind=True, acks_late=False, max_retries=1)
        def early(self: Any) -> None:
            if not self.request.retries:
                raise self.retry(countdown=0)

        self.receiver = app.events.Receiver()
        self.subscription = app.transport.broadcast().subscribe([Topic("celeryev", "#", "topic")])

    def batches(self) -> list[list[dict[str, Any]]]:
        """What was heard: events by broadcast."""
        return [self.receiver.events_from(n.message) for n in self.subscription.receive(0.0)]

    def heard(self) -> list[dict[str, Any]]:
        return [event for batch in self.batches() for event in batch]


@pytest.fixture
def site() -> Iterator[Make]:
    made: list[Site] = []

    def make(**options: Any) -> Site:
        made.append(Site(**options))
        return made[-1]

    yield make
    for each in made:
        each.subscription.close()
        each.app.close()


def celerys() -> set[str]:
    """The fields of Celery's own event."""
    for each in json.loads((VECTORS / "remote-control.json").read_text()):
        if each["channel"].endswith("celeryev/task.sent"):
            return set(json.loads(message_of(decode(each["payload"].encode())).body))
    raise AssertionError("no such event among the vectors")


@pytest.mark.parametrize("one_store", [True, False])
def test_callbacks_and_the_steps_of_a_chain_are_told_of(site: Make, one_store: bool) -> None:
    case = site(one_store=one_store)
    add = case.app.tasks["add"]
    first = add.apply_async((1, 2), link=add.s(10))
    # The next step stands last.
    steps = [dict(add.s(6), options={"task_id": "last"}), add.s(5)]
    add.apply_async((1, 1), chain=steps)

    drain(case.app, throw=True)

    assert case.app.AsyncResult("last").get(timeout=1) == 13
    events = case.heard()
    assert {event["type"] for event in events} == {"task-sent"}
    assert len(events) == 5
    assert len({event["uuid"] for event in events}) == 5
    (called,) = [event for event in events if event["parent_id"] == first.id]
    assert called.keys() - {"local_received"} == celerys()
    assert (called["name"], called["args"], called["root_id"]) == ("add", "(3, 10)", first.id)
    assert (called["queue"], called["routing_key"], called["retries"]) == ("celery", "celery", 0)
    assert "last" in {event["uuid"] for event in events}


@pytest.mark.parametrize("one_store", [True, False])
@pytest.mark.parametrize("name", ["again", "early"])
def test_a_retry_is_told_of(site: Make, one_store: bool, name: str) -> None:
    case = site(one_store=one_store)
    result = case.app.tasks[name].delay()

    drain(case.app, throw=True)

    told = [(event["uuid"], event["retries"]) for event in case.heard()]
    assert told == [(result.id, 0), (result.id, 1)]


@pytest.mark.parametrize("one_store", [True, False])
def test_all_that_follows_a_batch_is_told_in_one_broadcast(site: Make, one_store: bool) -> None:
    from caraway.message import Owner
    from caraway.worker.board import Board
    from caraway.worker.lane import Lane
    from caraway.worker.lane_config import LaneConfig

    case = site(one_store=one_store)
    app = case.app
    for n in range(20):
        app.tasks["add"].apply_async((n, 1), link=app.tasks["add"].s(1))
    case.batches()
    executor = app.registry.pool("solo", 1, app.conf).executor()
    owner = Owner(id=new_owner_id(), worker="w@test")
    config = LaneConfig(index=0, owner=owner, queues=tuple(app.queues()))
    lane = Lane(app, executor, config, Board(1, executor.slots).lane(0))
    lane.open()
    lane._take(lane.consumer.fetch(50, 0.0))
    lane.commit()

    (batch,) = case.batches()
    assert len(batch) == 20
    lane.consumer.close()


def test_nothing_is_told_where_nobody_asked(site: Make) -> None:
    case = site(one_store=True, task_send_sent_event=False)
    case.app.tasks["again"].delay()

    drain(case.app, throw=True)

    assert case.heard() == []
