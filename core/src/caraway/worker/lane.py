"""A lane: one consumer, one executor, and the loop between them.

One turn of the loop:

1. commit what has ended since the last turn;
2. fetch as much as will run within a few milliseconds;
3. judge each delivery; what doesn't run becomes a completion at once;
4. hand the rest to the executor.

With an inline executor (prefork, solo) all four happen in the process's main thread: no
hand-off between threads, so no fight for the GIL.  When a task there turns out to be
long, the lane's attendant (`caraway.worker.attendant`) commits what had ended before it
and gives back what had not begun.  With other executors, step 4 returns at once, and the
loop is woken when something ended.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError, OperationalError, OwnerLost
from caraway.message import Completion, Delivery
from caraway.worker.commit import Committer, workflow_of
from caraway.worker.draining import drain, taken_back
from caraway.worker.entries import (
    RETURNED,
    Entry,
    admitted_alone,
    interrupted,
    released,
    unstorable,
    without_second_thoughts,
)
from caraway.worker.intake import Intake, Pace
from caraway.worker.job import TaskJob
from caraway.worker.lane_config import LONGEST_PAUSE, LOST, RECYCLE, STOPPED, LaneConfig
from caraway.worker.memory import Watch

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Consumer, Executor
    from caraway.worker.board import LaneBoard
    from caraway.worker.events import LaneEvents

IDLE_WAIT = 2.0
"""Seconds a fetch waits; the loop ticks at least that often."""


class Lane:
    """Runs until told to stop; see the module's text.

    Args:
        app: finalized; its transport and backend are opened here, in this process.
        executor: of the pool, not started.
        config: see `LaneConfig`.
        board: this lane's part of the shared memory.
    """

    def __init__(
        self, app: Caraway, executor: Executor, config: LaneConfig, board: LaneBoard
    ) -> None:
        self.app = app
        self.executor = executor
        self.config = config
        self.board = board
        self.in_flight: dict[Any, TaskJob] = {}
        self._inline = executor.inline
        self.pace = Pace(
            1 if self._inline else executor.slots,
            0,
            config.prefetch_seconds,
            executor.slots - 1 if self._inline else None,
        )
        self.counts: dict[tuple[str, str], list[float]] = {}
        """(task name, state) -> [runs, seconds].  Read by the attendant for the metrics."""
        self.dead = self.parked = 0
        self.draining = False
        self.exit_code = STOPPED
        self.fenced = 0
        self._done: deque[Entry] = deque()
        self._io = threading.Lock()
        self._noting = threading.Lock()
        self._idle = threading.Event()
        self._waiting = 0
        self.hard_stop = False
        self._early = False
        self._cut = False
        self.deadline = 0.0
        self._ended = 0
        self._memory = Watch(config.max_memory)
        self.events: LaneEvents | None = None
        self.consumer: Consumer
        self.committer: Committer
        self.intake: Intake

    # -- life --------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, register the owner, and make ready; raises what goes wrong."""
        transport = self.app.transport
        # First what may be away, then the owner: an id can't be registered twice.
        backend = self.app.backend if self.app.backend_enabled else None
        self.consumer = transport.consume(self.config.queues, self.config.owner)
        if self.config.queues:
            self.pace.limit = self.config.prefetch_limit or transport.fetches_at_once
        self.committer = Committer(
            transport, backend, self.consumer, self._wait_for_store, self._substitute, self.app
        )
        self.intake = Intake(
            self.app, self.board, self.config, self.consumer, backend, atomic=self.committer.atomic
        )
        if self.config.events:
            from caraway.worker.events import switch

            switch(self, on=True)
        self.executor.start()

    def run(self) -> int:
        """Turn until stopped; return the exit code."""
        backoff = 0.0
        while not self.draining:
            try:
                self._turn()
                backoff = 0.0
            except OwnerLost:
                self.log().error("the lease was lost; starting over with a new owner")
                self.exit_code = LOST
                self.hard_stop = True
                break
            except OperationalError as exc:
                backoff = min(max(backoff * 2, 0.05), LONGEST_PAUSE)
                self.log().warning("broker: %s; trying again in %.2f s", exc, backoff)
                self.pause(backoff)
        drain(self)
        return self.exit_code

    def stop(self, *, hard: bool = False, code: int = STOPPED) -> None:
        """Ask the lane to stop; any thread or signal handler may call this.

        Warm: what runs may end, up to the deadline.  Hard: what runs is given back.
        """
        if not self.draining:
            self.exit_code = code or self.exit_code
            self.deadline = monotonic() + self.config.shutdown_timeout
        self.draining = True
        if hard:
            self.hard_stop = True
        self.wake()

    def wake(self) -> None:
        """Make a waiting turn go on."""
        self._idle.set()
        if self._waiting == 2:
            self.consumer.wake()

    @property
    def left(self) -> bool:
        """Outcomes were left uncommitted at the end: see `caraway.worker.draining`."""
        return hasattr(self, "committer") and self.committer.gave_up

    # -- one turn ----------------------------------------------------------------------

    def _turn(self) -> None:
        if not self._inline and self._done and not self.draining:
            spare = self.pace.spare(len(self.in_flight) - len(self._done))
            if spare:
                sleep(spare)
        self.commit()
        want = self.pace.want(len(self.in_flight))
        limit = self.config.max_tasks
        if limit:
            want = min(want, limit - self._ended - len(self.in_flight))
            if self._ended >= limit:
                self.stop(code=RECYCLE)
                return
        if self.config.max_memory and self._memory.too_large():
            self.stop(code=RECYCLE)
            return
        self.board.tick(monotonic(), 0.0)
        if want <= 0:
            self.pause(IDLE_WAIT)
            return
        self._waiting = 2
        # Looked at after the flag is up: whoever reports from now on wakes the fetch.
        wait = 0.0 if self._done or self.draining else IDLE_WAIT
        try:
            with self._io:
                deliveries = self.consumer.fetch(want, wait)
        finally:
            self._waiting = 0
        if deliveries:
            self._take(deliveries)

    def _take(self, deliveries: Sequence[Delivery]) -> None:
        board = self.board
        board.fetched += len(deliveries)
        try:
            jobs, judged = self.intake.admit(deliveries)
        except CarawayError:
            # Fetched and not admitted: held by nobody, unless it is given back.
            self._done.extend(released(d.tag for d in deliveries))
            raise
        except Exception:  # noqa: BLE001 - or the next lane goes down, too
            self.log().exception("a batch can't be judged; its messages are taken one by one")
            jobs, judged = admitted_alone(self.intake, deliveries)
        if self.events is not None:
            self.events.received(deliveries, jobs, judged)
        if judged:
            self._done.extend((None, completion) for completion in judged)
        if not jobs:
            return
        in_flight = self.in_flight
        for job in jobs:
            in_flight[job.delivery.tag] = job
            if job.settled:
                self._early = True
        if self._inline:
            self.executor.execute(jobs, self._report_inline)
            board.end(0)
        else:
            self.executor.execute(jobs, self._report)

    def _report_inline(self, job: Any, completion: Completion) -> None:
        if job.is_async:
            self._report(job, completion)
            return
        if type(completion) is not Completion:
            completion = interrupted(job, completion)
        recorded = job.settled or self.board.record(completion)
        self._done.append((job, completion))
        if not recorded:
            self.board.end(0)
            self.commit()

    def _report(self, job: Any, completion: Completion) -> None:
        if type(completion) is not Completion:
            completion = interrupted(job, completion)
        if self._inline:  # the journal belongs to the one thread that runs sync jobs
            self._done.append((job, completion))
        else:
            with self._noting:
                job.noted = not job.settled and self.board.record(completion)
                self._done.append((job, completion))
        self.board.end(job.slot)
        waiting = self._waiting
        if waiting:
            self._waiting = 0
            if waiting == 2:
                self.consumer.wake()
            else:
                self._idle.set()

    def pause(self, seconds: float) -> None:
        """Wait until something ended, the lane is woken, or the time is over."""
        self._idle.clear()
        self._waiting = 1
        if not self._done and not self.hard_stop and not (self.draining and seconds > 0.2):
            self._idle.wait(seconds)
        self._waiting = 0

    # -- commit ------------------------------------------------------------------------

    def commit(self) -> None:
        """Commit what has ended, trying again for as long as the store can't.  For the
        loop's thread."""
        if not self._done and not self.board.used:
            return
        with self._io:
            if self._done:
                self._commit_batch()
            if self.board.used and not self.committer.gave_up:
                # What the journal says is committed: the next entry begins it anew.
                if self._inline:
                    self.board.used = 0
                    return
                with self._noting:
                    if not any(job is not None and job.noted for job, _ in self._done):
                        self.board.used = 0

    def try_commit(self) -> bool:
        """Commit what has ended, once; what can't be committed now stays.  For any other
        thread: it must not be held up.

        Raises:
            CarawayError: the store can't; all is as before.
        """
        if not self._done or not self._io.acquire(blocking=False):
            return False
        try:
            # Not the journal: the loop's thread may be writing it.  What it says of
            # committed runs is fenced off.
            self._commit_batch(patient=False)
        finally:
            self._io.release()
        return True

    def _commit_batch(self, *, patient: bool = True) -> None:
        batch: list[Entry] = []
        pop = self._done.popleft
        while self._done:
            batch.append(pop())
        if self._cut:
            batch = without_second_thoughts(batch)
        late, early = batch, []
        if self._early:
            late = [entry for entry in batch if entry[0] is None or not entry[0].settled]
            early = [entry for entry in batch if entry[0] is not None and entry[0].settled]
        normal, settled = [entry[1] for entry in late], [entry[1] for entry in early]
        lost: Sequence[Any] = ()
        try:
            # As a rule it goes well; all else is the committer's.
            if normal:
                committer = self.committer
                # Workflows are rare; without any it is one step less.
                apply = committer.apply_any if any(map(workflow_of, normal)) else committer.apply
                lost = apply(normal)
                normal = []
            if settled:
                self.committer.apply_settled(settled)
        except CarawayError as exc:
            if patient:
                self.fenced += self.committer.persist(normal, settled, exc)
            else:
                self._done.extendleft(reversed(batch if normal else early))
                if normal:
                    raise
                batch = late
        except BaseException:
            self._done.extendleft(reversed(batch))
            raise
        if lost:
            self.fenced += len(lost)
            self.log().warning("%d late outcome(s) fenced off", len(lost))
        # In place: a room less for every batch.
        count, measured, seconds, size = 0, 0, 0.0, 0
        in_flight, counts, inline = self.in_flight, self.counts, self._inline
        for job, completion in batch:
            if completion.settlement.reason:
                if completion.settlement.parked:
                    self.parked += 1
                else:
                    self.dead += 1
            if job is None or job.state is RETURNED:
                continue
            delivery = job.delivery
            in_flight.pop(delivery.tag, None)
            count += 1
            if not (inline and job.is_async):
                measured += 1
                seconds += job.seconds
                size += len(delivery.message.body)
            key = (job.plan.name, job.state)
            tally = counts.get(key)
            if tally is None:
                counts[key] = tally = [0, 0.0]
            tally[0] += 1
            tally[1] += job.seconds
        self.board.done += count
        self._ended += count
        self.pace.observe(measured, seconds, size)
        if self.events is not None:
            self.events.ended(batch, lost)

    def _wait_for_store(self, seconds: float) -> bool:
        """Between two tries of a commit; False ends the trying, after which the lease
        brings the messages back."""
        if self.hard_stop:
            return False
        self.board.tick(monotonic(), 0.0)
        self._idle.clear()
        self._idle.wait(seconds)
        return True

    def _substitute(self, completion: Completion, exc: CarawayError) -> Completion:
        """For a completion that can't be stored: one that says so."""
        return unstorable(self.in_flight.pop(completion.settlement.tag, None), completion, exc)

    # -- giving back -------------------------------------------------------------------

    def give_back(self, *, running: bool = False) -> int:
        """Release what has not begun (and what runs, if told); return how many."""
        self._cut = self._cut or running
        entries = taken_back(self, running=running)
        self._done.extend(entries)
        return len(entries)

    def log(self) -> Any:
        """The worker's logger."""
        import logging

        return logging.getLogger("caraway.worker")
