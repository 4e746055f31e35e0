"""How a lane begins: its consumer, what commits for it, what judges for it."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from caraway.worker.commit import Committer
from caraway.worker.entries import unstorable
from caraway.worker.intake import Intake

if TYPE_CHECKING:
    from caraway.errors import CarawayError
    from caraway.message import Completion
    from caraway.worker.lane import Lane


def connect(lane: Lane) -> None:
    """Connect, register the owner, and give the lane what it works with.

    Raises:
        CarawayError: broker or backend can't, or won't.
    """
    app, config = lane.app, lane.config
    transport = app.transport

    def wait(seconds: float) -> bool:
        """Between two tries of a commit; False ends the trying, after which the lease
        brings the messages back."""
        if lane.hard_stop:
            return False
        lane.board.tick(monotonic(), 0.0)
        lane.idle.clear()
        lane.idle.wait(seconds)
        return True

    def substitute(completion: Completion, exc: CarawayError) -> Completion:
        """For a completion that can't be stored: one that says so."""
        job = lane.in_flight.pop(completion.settlement.tag, None)
        return unstorable(job, completion, exc)

    # First what may be away, then the owner: an id can't be registered twice.
    backend = app.backend if app.backend_enabled else None
    lane.consumer = transport.consume(config.queues, config.owner)
    if config.queues:
        lane.pace.limit = config.prefetch_limit or transport.fetches_at_once
    lane.committer = Committer(transport, backend, lane.consumer, wait, substitute, app)
    # Where a lane can be ahead, owners share what is left; and who has several queues serves
    # one before the other.
    lane.pace.patient = (
        lane.committer.exchange is not None and lane.executor.inline and len(config.queues) == 1
    )
    lane.intake = Intake(
        app, lane.board, config, lane.consumer, backend, atomic=lane.committer.atomic
    )
    if config.events:
        from caraway.worker.events import switch

        switch(lane, on=True)
