"""How a lane begins: what is said to it while it can't hear yet, and a broker that is away."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import TransportUnavailable
from caraway.message import Owner, new_owner_id
from caraway.worker.board import Board
from caraway.worker.channel import Channel
from caraway.worker.lane import Lane
from caraway.worker.lane_config import LaneConfig
from caraway.worker.lane_main import begin


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://start-{new_owner_id()}"
    made = Caraway("start", broker=url, backend=url, set_as_current=False)

    @made.task(name="work")
    def work() -> None:
        pass

    yield made
    made.close()


@pytest.fixture
def supervisor() -> Iterator[Channel]:
    ours, theirs = Channel.pair()
    end, lanes_end = Channel(ours), Channel(theirs)
    end.other = lanes_end  # type: ignore[attr-defined]
    yield end
    end.close()
    lanes_end.close()


class Late(Lane):
    """Finds its broker away at first; what its supervisor says comes in that time."""

    def __init__(self, app: Caraway, says: Any) -> None:
        executor = app.registry.pool("solo", 1, app.conf).executor()
        owner = Owner(id=new_owner_id(), worker="lane@test")
        config = LaneConfig(index=0, owner=owner, queues=tuple(app.queues()))
        super().__init__(app, executor, config, Board(1, executor.slots).lane(0))
        self.tries = 0
        self._says = says

    def open(self) -> None:
        self.tries += 1
        if self.tries <= 2:
            if self.tries == 1:
                self._says()
            raise TransportUnavailable("away")
        super().open()


def test_what_is_said_while_the_broker_is_away_holds_from_the_first_task_on(
    app: Caraway, supervisor: Any
) -> None:
    def says() -> None:
        supervisor.send(do="revoke", ids=["gone"], terminate=False)
        supervisor.send(do="time_limit", task="work", hard=7)

    lane = Late(app, says)

    attendant = begin(lane, supervisor.other)

    assert attendant is not None
    assert lane.tries == 3
    assert "gone" in lane.intake.revoked
    plan = lane.intake.plan("work")
    assert plan is not None
    assert plan.hard == 7.0
    assert [told["tell"] for told in supervisor.receive()] == ["ready"]


@pytest.mark.parametrize("how", ["told", "alone"])
def test_a_lane_that_is_not_wanted_any_more_ends_while_it_waits(
    app: Caraway, supervisor: Any, how: str
) -> None:
    def says() -> None:
        if how == "told":
            supervisor.send(do="stop", hard=False, code=0)
        else:
            supervisor.close()

    lane = Late(app, says)

    assert begin(lane, supervisor.other) is None
    assert lane.tries == 1
