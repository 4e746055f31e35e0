"""How a lane lives until it is stopped, and how it ends: what hasn't begun is given back,
what runs may end, the rest is given back, too.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError, OperationalError, OwnerLost
from caraway.worker.ahead import given_up
from caraway.worker.entries import Entry, released, sent_again
from caraway.worker.lane_config import LONGEST_PAUSE, LOST

if TYPE_CHECKING:
    from caraway.worker.lane import Lane


def live(lane: Lane) -> int:
    """Turn until stopped, drain; return the exit code."""
    backoff = 0.0
    while not lane.draining:
        try:
            lane.turn()
            backoff = 0.0
        except OwnerLost:
            lane.log().error("the lease was lost; starting over with a new owner")
            lane.exit_code = LOST
            lane.hard_stop = True
            break
        except OperationalError as exc:
            backoff = min(max(backoff * 2, 0.05), LONGEST_PAUSE)
            lane.log().warning("broker: %s; trying again in %.2f s", exc, backoff)
            lane.pause(backoff)
    drain(lane)
    return lane.exit_code


def has_left(lane: Lane | None) -> bool:
    """True if outcomes were left uncommitted at its end."""
    return lane is not None and hasattr(lane, "committer") and lane.committer.gave_up


def drain(lane: Lane) -> None:
    """Give back what hasn't begun, let what runs end until the deadline, give back the
    rest, close."""
    lane.deadline = lane.deadline or monotonic() + lane.config.shutdown_timeout
    if lane.exit_code != LOST:
        lane.give_back()
    _commit(lane)
    if lane.ahead:  # by the answer that this commit waited for
        lane.give_back()
        _commit(lane)
    while lane.in_flight and not lane.hard_stop and monotonic() < lane.deadline:
        lane.pause(0.2)
        lane.board.tick(monotonic(), 0.0)
        _commit(lane)
    clean = not lane.in_flight
    if not clean and lane.exit_code != LOST and not lane.committer.gave_up:
        lane.give_back(running=True)
    lane.hard_stop = True
    _commit(lane)
    if lane.committer.gave_up:
        # The journal has what ended.  Whoever buries this lane commits it, and gives back
        # the rest; closing would have it all run again.
        return
    try:
        lane.consumer.close()
    except CarawayError as exc:
        lane.log().warning("closing the consumer: %s", exc)
    if clean:
        lane.executor.stop(timeout=1.0)


def taken_back(lane: Lane, *, running: bool) -> list[Entry]:
    """Take back what has not begun (and what runs, if told); the entries give it back."""
    jobs: list[Any] = list(lane.executor.withdraw())
    entries = sent_again(job for job in jobs if job.settled)
    if running:
        known = jobs + (lane.pending.jobs if lane.pending is not None else [])
        jobs += [job for job in list(lane.in_flight.values()) if job not in known]
    entries += released(job.delivery.tag for job in jobs if not job.settled)
    entries += given_up(lane)
    for job in jobs:
        lane.in_flight.pop(job.delivery.tag, None)
    if running and lane.events is not None:
        lane.events.cancelled(jobs)
    return entries


def cut_short(lane: Lane) -> bool:
    """Give back what runs, if a stop waits for it in vain; True if it did.  For a lane that
    nobody outside can end."""
    if not lane.draining or not (lane.hard_stop or monotonic() >= lane.deadline):
        return False
    return lane.give_back(running=True) > 0


def _commit(lane: Lane) -> None:
    try:
        lane.commit()
    except CarawayError as exc:
        lane.log().error("commit at stop: %s", exc)
