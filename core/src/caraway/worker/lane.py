"""A lane: one consumer, one executor, and the loop between them.

One turn of the loop:

1. commit what has ended since the last turn, and
2. fetch as much as will run within a few milliseconds, in one round trip if it can be, and
   behind a long queue while the batch before it runs (`caraway.worker.ahead`);
3. judge each delivery; what doesn't run becomes a completion at once;
4. hand the rest to the executor.

With an inline executor (prefork, solo) all happens in the process's main thread: no hand-off
between threads, so no fight for the GIL.  When a task turns out to be long, the attendant
commits what had ended and gives back what had not begun.  With others, step 4 returns at once,
and the loop is woken when something ended.
"""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Sequence
from time import monotonic, sleep, time
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError
from caraway.message import Completion, Delivery, Settlement, StoredResult
from caraway.protocol.codec import success_record
from caraway.states import SUCCESS
from caraway.worker.ahead import Pending, begin, fetch_ahead
from caraway.worker.commit import workflow_of
from caraway.worker.draining import live, taken_back
from caraway.worker.entries import (
    RETURNED,
    Entry,
    Settled,
    admitted_alone,
    interrupted,
    parted,
    without_second_thoughts,
)
from caraway.worker.intake import Pace
from caraway.worker.job import TaskJob
from caraway.worker.lane_config import RECYCLE, STOPPED, LaneConfig
from caraway.worker.memory import Watch
from caraway.worker.opening import connect

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Consumer, Executor
    from caraway.worker.board import LaneBoard
    from caraway.worker.commit import Committer
    from caraway.worker.events import LaneEvents
    from caraway.worker.intake import Intake

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
        self._briefly = not app.replies
        slots, beside = (1, executor.slots - 1) if self._inline else (executor.slots, None)
        self.pace = Pace(slots, 0, config.prefetch_seconds, beside)
        self.counts: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
        """(task name, state) -> [runs, seconds].  Read by the attendant for the metrics."""
        self.dead = self.parked = 0
        self.draining = self.hard_stop = False
        self.exit_code = STOPPED
        self.fenced = 0
        self.done: deque[Entry] = deque()
        """What has ended and is not committed."""
        self.pending: Pending | None = None
        self.ahead: list[Delivery] = []
        """Fetched while others ran, and not looked at yet."""
        self.io = threading.Lock()
        self._noting = threading.Lock()
        self.idle = threading.Event()
        self.waiting = 0  # 1: in `pause`; 2: in a fetch
        self.early = self.cut = False
        self.deadline = 0.0
        self.ended = 0
        self._memory = Watch(config.max_memory)
        self.events: LaneEvents | None = None
        self.consumer: Consumer
        self.committer: Committer
        self.intake: Intake

    # -- life --------------------------------------------------------------------------

    def open(self) -> None:
        """Connect, register the owner, and make ready; raises what goes wrong."""
        connect(self)
        self.executor.start()

    def run(self) -> int:
        """Turn until stopped; return the exit code."""
        return live(self)

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
        self.idle.set()
        if self.waiting == 2:
            self.consumer.wake()

    # -- one turn ----------------------------------------------------------------------

    def turn(self) -> None:
        """Commit, fetch, judge, run: see the module's text."""
        if not self._inline and self.done and not self.draining:
            spare = self.pace.spare(len(self.in_flight) - len(self.done))
            if spare:
                sleep(spare)
        config = self.config  # what may grow too large looks at its size before a fetch
        deliveries = self.commit(exchange=not config.max_memory and not self.draining)
        if deliveries:
            self.board.tick(monotonic(), 0.0)
            self._take(deliveries)
            return
        spent = 0 < config.max_tasks <= self.ended
        if spent or (config.max_memory and self._memory.too_large()):
            self.stop(code=RECYCLE)
            return
        want = self.want()
        self.board.tick(monotonic(), 0.0)
        if want <= 0:
            self.pause(IDLE_WAIT)
            return
        self.waiting = 2
        # Looked at after the flag is up: whoever reports from now on wakes the fetch.
        wait = 0.0 if self.done or self.draining else IDLE_WAIT
        try:
            with self.io:
                deliveries = self.consumer.fetch(want, wait)
        finally:
            self.waiting = 0
        if deliveries:
            self._take(deliveries, fetched=True)

    def _take(self, deliveries: Sequence[Delivery], *, fetched: bool = False) -> None:
        board = self.board
        board.fetched += len(deliveries)
        if fetched:
            self.pace.meet(deliveries)
        try:
            jobs, judged = self.intake.admit(deliveries)
        except Exception as exc:  # noqa: BLE001 - or the next lane goes down, too
            jobs, judged = admitted_alone(self, deliveries, exc)
        if self.events is not None:
            self.events.received(deliveries, jobs, judged)
        if judged:
            self.done.extend((None, completion) for completion in judged)
        if not jobs:
            return
        for job in jobs:
            self.in_flight[job.delivery.tag] = job
            if job.settled:
                self.early = True
        if self._inline:
            self.executor.execute(jobs, self._report_inline)
            board.end(0)
        else:
            self.executor.execute(jobs, self._report)

    def _report_inline(self, job: Any, completion: Completion | None) -> None:
        if job.is_async:
            self._report(job, completion)
            return
        noted = job.settled
        if completion is None and job.value:
            # A plain success: no more is made of it between two tasks than must be.
            ended = job.started + job.seconds
            noted = noted or (
                self._briefly and self.board.note(job.mark, job.value, ended, job.plan.ttl)
            )
            if not noted:
                completion = completed(job, time() - monotonic())
        elif type(completion) is not Completion:
            completion = interrupted(job, completion)
        if not noted and completion is not None:
            noted = self.board.record(completion)
        self.done.append((job, completion))
        if not noted:
            self.board.end(0)
            self.commit()

    def _report(self, job: Any, completion: Completion | None) -> None:
        if completion is None and job.value:
            completion = completed(job, time() - monotonic())
        elif type(completion) is not Completion:
            completion = interrupted(job, completion)
        assert completion is not None
        if self._inline:  # the journal belongs to the one thread that runs sync jobs
            self.done.append((job, completion))
        else:
            with self._noting:
                job.noted = not job.settled and self.board.record(completion)
                self.done.append((job, completion))
        self.board.end(job.slot)
        waiting = self.waiting
        if waiting:
            self.waiting = 0
            if waiting == 2:
                self.consumer.wake()
            else:
                self.idle.set()

    def pause(self, seconds: float) -> None:
        """Wait until something ended, the lane is woken, or the time is over."""
        self.idle.clear()
        self.waiting = 1
        if not self.done and not self.hard_stop and not (self.draining and seconds > 0.2):
            self.idle.wait(seconds)
        self.waiting = 0

    # -- commit ------------------------------------------------------------------------

    def commit(self, *, exchange: bool = False) -> Sequence[Delivery]:
        """Commit what has ended, trying again for as long as the store can't.  For the
        loop's thread.

        Args:
            exchange: fetch what is to run next in the same round trip, if that can be.
        """
        deliveries: Sequence[Delivery] = ()
        if not (self.done or self.board.used or self.pending or self.ahead):
            return deliveries
        with self.io:
            if self.pending is not None:
                self.settle()
            if self.done:
                deliveries = self.settle(exchange=exchange)
            if self.board.used and not self.committer.gave_up:
                # What the journal says is committed: the next entry begins it anew.
                with self._noting:
                    if self._inline or not any(job and job.noted for job, _ in self.done):
                        self.board.used = 0
            if exchange and self.ahead:
                deliveries, self.ahead = self.ahead, []
            elif deliveries and self.pace.deep:
                fetch_ahead(self)
        return deliveries

    def settle(self, *, patient: bool = True, exchange: bool = False) -> Sequence[Delivery]:
        """End what is pending, or apply what has ended, under the lock; not patient, it raises
        what goes wrong, and all is as before.  Returns what was fetched."""
        pending, self.pending = self.pending, None
        batch, normal = pending.commits if pending is not None else self._gathered()
        late, early, settled = batch, list[Settled](), list[Completion]()
        if (self.early or self.cut) and pending is None:
            batch = without_second_thoughts(batch) if self.cut else batch
            late, early = parted(batch)
            normal, settled = [c for _, c in late], [c for _, c in early]
        lost: Sequence[Any] = ()
        deliveries: Sequence[Delivery] = ()
        committer = self.committer
        try:
            # As a rule it goes well; all else is the committer's.
            if pending is not None:
                lost, fetched = pending.end()
                self.pace.meet(fetched)
                self.ahead += fetched
                normal = []
            elif normal:
                swap = committer.exchange if exchange and not early else None
                if any(map(workflow_of, normal)):
                    lost = committer.apply_any(normal)
                elif swap and self.ahead:
                    # There is work at hand.  Behind a long queue it need not wait for this.
                    if self.pace.deep and begin(self, batch, normal):
                        return deliveries
                    lost = committer.apply(normal)
                elif swap and (want := self.want(len([1 for job, _ in batch if job]))) > 0:
                    lost, deliveries = swap(normal, want)()
                    self.pace.meet(deliveries)
                else:
                    lost = committer.apply(normal)
                normal = []
            if settled:
                committer.apply_settled(settled)
        except CarawayError as exc:
            self.pace.met(0)
            if patient and (normal or settled):
                self.fenced += committer.persist(normal, settled, exc)
            elif not patient:
                self.done.extendleft(reversed(batch if normal else early))
                if normal:
                    raise
                batch = late
        except BaseException:
            self.pace.met(0)
            self.done.extendleft(reversed(batch))
            raise
        if lost:
            self.fenced += len(lost)
            self.log().warning("%d late outcome(s) fenced off", len(lost))
        count = 0  # in place: a room less for every batch
        in_flight, counts = self.in_flight, self.counts
        for job, completion in batch:
            if completion.settlement.reason:
                self.parked += completion.settlement.parked
                self.dead += not completion.settlement.parked
            if job is None or job.state is RETURNED:
                continue
            in_flight.pop(job.delivery.tag, None)
            count += 1
            tally = counts[job.plan.name, job.state]
            tally[0] += 1
            tally[1] += job.seconds
        self.board.done += count
        self.ended += count
        if self.events is not None:
            self.events.ended(batch, lost)
        return deliveries

    def _gathered(self) -> tuple[list[Settled], list[Completion]]:
        """What has ended, and the completions; the pace learns how long tasks take."""
        batch, completions = list[Settled](), list[Completion]()
        ahead = time() - monotonic()
        inline, pop = self._inline, self.done.popleft
        measured, seconds, size = 0, 0.0, 0
        while self.done:
            job, completion = pop()
            if job is not None:
                if completion is None:
                    completion = completed(job, ahead)
                if not (job.state is RETURNED or (inline and job.is_async)):
                    measured += 1
                    seconds += job.seconds
                    size += len(job.delivery.message.body)
            assert completion is not None
            batch.append((job, completion))
            completions.append(completion)
        self.pace.observe(measured, seconds, size)
        return batch, completions

    def want(self, ended: int = 0) -> int:
        """How many to fetch, with so many of those in flight ended."""
        in_flight, limit = len(self.in_flight), self.config.max_tasks
        want = self.pace.want(in_flight - ended)
        return min(want, limit - self.ended - in_flight) if limit else want

    # -- giving back -------------------------------------------------------------------

    def give_back(self, *, running: bool = False) -> int:
        """Release what has not begun (and what runs, if told); return how many."""
        self.cut = self.cut or running
        entries = taken_back(self, running=running)
        self.done.extend(entries)
        return len(entries)

    def log(self) -> logging.Logger:
        """The worker's logger."""
        return logging.getLogger("caraway.worker")


def completed(job: TaskJob, ahead: float) -> Completion:
    """The completion of a plain success.

    Args:
        job: whose run returned none.
        ahead: by how much the epoch's time is ahead of `time.monotonic`.
    """
    delivery, plan = job.delivery, job.plan
    task_id = delivery.message.headers["id"]
    payload = success_record(task_id, job.value, job.started + job.seconds + ahead)
    reply_to = plan.reply_to(delivery) if plan.replies else ""
    return Completion(
        Settlement(delivery.tag), StoredResult(task_id, SUCCESS, payload, plan.ttl, reply_to)
    )
