"""How many rooms of ours a message passes through, as numbers that may only shrink.

Counted with the profiler over the memory transport, so they don't depend on the machine:
*calls* of Python functions of ours, *files* of ours that were entered, *hops* from one
file of ours to another.  (Celery 5.7, counted alike: send 373 / 33 / 160, process one
259 / 37 / 128.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.message import Owner, new_owner_id


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://rooms-{new_owner_id()}"
    app = Caraway("rooms", broker=url, backend=url, worker_pool="solo")

    @app.task(name="rooms.add")
    def add(x: int, y: int) -> int:
        return x + y

    yield app
    app.close()


@pytest.fixture
def add(app: Caraway) -> Any:
    task = app.tasks["rooms.add"]
    for _ in range(5):
        task.delay(1, 2)
    app.transport.purge("celery")
    return task


@pytest.fixture
def lane(app: Caraway, add: Any) -> Iterator[Any]:
    """A worker's lane in this thread, warmed up."""
    from caraway.worker.board import Board
    from caraway.worker.lane import Lane
    from caraway.worker.lane_config import LaneConfig

    executor = app.registry.pool("solo", 1, app.conf).executor()
    owner = Owner(id=new_owner_id(), worker="rooms")
    config = LaneConfig(index=0, owner=owner, queues=tuple(app.queues()))
    lane = Lane(app, executor, config, Board(1, executor.slots).lane(0))
    lane.open()
    for _ in range(3):
        results = [add.delay(n, n) for n in range(5)]
        while ready(lane):  # the lane decides itself how many it takes at a time
            turn(lane)
        assert [r.state for r in results] == ["SUCCESS"] * 5
    yield lane
    lane.consumer.close()


def turn(lane: Any) -> None:
    """Fetch what there is, run it, commit it: one turn of a lane's loop and its end."""
    lane.turn()
    lane.commit()


def ready(lane: Any) -> int:
    """How many messages wait."""
    return lane.app.transport.stats(["celery"])[0].ready


Walk = Callable[[Callable[[], object]], Any]


def test_sending_one_message_passes_few_rooms(add: Any, rooms: Walk) -> None:
    walked = rooms(lambda: add.delay(2, 3))

    assert 0 < walked.calls <= 16, walked.path
    assert walked.files <= 6, walked.path
    assert walked.hops <= 8, walked.path


def test_processing_one_message_passes_few_rooms(lane: Any, add: Any, rooms: Walk) -> None:
    result = add.delay(2, 3)

    walked = rooms(lambda: turn(lane))

    assert result.get(timeout=1) == 5
    assert 0 < walked.calls <= 30, "\n".join(walked.path)
    assert walked.files <= 8, "\n".join(walked.path)
    assert walked.hops <= 16, "\n".join(walked.path)


def test_sending_a_batch_costs_few_calls_a_message(add: Any, rooms: Walk) -> None:
    pairs = [(n, n) for n in range(100)]

    walked = rooms(lambda: list(add.delay_many(pairs)))

    assert walked.calls / 100 <= 12, walked.path[:40]


def test_processing_a_batch_costs_few_calls_a_message(lane: Any, add: Any, rooms: Walk) -> None:
    results = list(add.delay_many((n, n) for n in range(100)))
    calls = 0
    while ready(lane):
        walked = rooms(lambda: turn(lane))
        calls += walked.calls

    assert [r.result for r in results] == [n + n for n in range(100)]
    assert calls / 100 <= 12, walked.path[:60]


def test_the_counter_counts(rooms: Walk) -> None:
    """The yardstick itself: known calls of ours, none of others'."""
    import json

    from caraway import states

    def work() -> None:
        json.dumps([1])
        states.precedence("SUCCESS")
        states.precedence("nothing")

    walked = rooms(work)

    assert (walked.calls, walked.files, walked.hops) == (2, 1, 0)
    assert walked.path == ["states.py:precedence"] * 2
