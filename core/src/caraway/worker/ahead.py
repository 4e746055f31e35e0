"""Fetching ahead: while a batch runs, the broker commits the one before and takes the next.

Only behind a long queue (`Pace.deep`), where commit and fetch are one request
(`Consumer.exchange`): a request is begun, the batch at hand runs, then the answer is read,
which is there by then.  So lane and broker work at the same time; elsewhere each waits for
the other.  There is one such request at most, and the next commit ends it first.

What it commits stands in one half of the journal until its answer is read; what runs meanwhile
is noted in the other (`LaneBoard.turn`).  After an error nobody is ahead for a while, as both
halves speak of what is to be committed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway.errors import CarawayError
from caraway.message import Completion
from caraway.worker.entries import Entry, Settled, released

if TYPE_CHECKING:
    from caraway.worker.lane import Lane


class Pending(Struct):
    """An exchange whose answer is not read.

    Attributes:
        commits: what it commits, and the completions of it.
        end: waits for the answer.
    """

    commits: tuple[list[Settled], list[Completion]]
    end: Callable[[], tuple[Sequence[Any], Sequence[Any]]]

    @property
    def jobs(self) -> list[Any]:
        """The runs that it commits."""
        return [job for job, _ in self.commits[0] if job is not None]


def begin(lane: Lane, batch: list[Settled], normal: list[Completion]) -> bool:
    """Begin to commit these and to fetch what runs after what is at hand; False if nothing
    is to be fetched now.

    Raises:
        CarawayError: the broker is out of reach; nothing was begun.
    """
    exchange = lane.committer.exchange
    runs = len([1 for job, _ in batch if job is not None])
    config = lane.config
    if exchange is None or not lane.executor.inline or config.max_tasks or config.prefetch_limit:
        return False
    # What is acknowledged early needs the connection before it runs; and beside coroutines,
    # which run for as long as they like, there is no batch to be ahead of.
    if lane.early or len(lane.in_flight) > runs:
        return False
    want = lane.want(runs)
    if want <= 0:
        return False
    lane.pending = Pending((batch, normal), exchange(normal, want))
    lane.board.turn()
    return True


def fetch_ahead(lane: Lane) -> None:
    """Begin to fetch what runs after what is at hand; what goes wrong is left to the next
    fetch."""
    try:
        begin(lane, [], [])
    except CarawayError:
        lane.pace.met(0)


def given_up(lane: Lane) -> list[Entry]:
    """Entries that give back what was fetched ahead."""
    if not lane.ahead or not lane.io.acquire(blocking=False):
        return []
    try:
        ahead, lane.ahead = lane.ahead, []
    finally:
        lane.io.release()
    return released(delivery.tag for delivery in ahead)
