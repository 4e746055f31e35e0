"""A lane's attendant: the thread beside its loop.

It listens to the supervisor, enforces soft limits, ticks while the loop's thread runs a
task, and, where a task turns out to be long, commits what had ended before it and gives
back what waits behind it.  Should the supervisor die, it renews the lane's lease until
what runs has ended.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.control.ending import way_of
from caraway.errors import CarawayError, SoftTimeLimitExceeded, Terminated, TimeLimitExceeded
from caraway.outcome import terminated_by
from caraway.worker.draining import cut_short
from caraway.worker.intake import LONG
from caraway.worker.jobs import describe
from caraway.worker.orders import forget_oldest

if TYPE_CHECKING:
    from caraway.worker.channel import Channel
    from caraway.worker.job import TaskJob
    from caraway.worker.lane import Lane

BUSY, CALM = 0.05, 0.25
"""Seconds between two looks while something runs, and while nothing does or a long queue of
short tasks is worked off.  Each takes the interpreter from the task that runs."""
_PROMPT = 0.02
"""A result that waits longer than this behind a running task is committed at once."""


def counters(lane: Lane) -> dict[str, Any]:
    """What a lane tells of itself: see `caraway.worker.lanes.Counters`."""
    return {
        "counts": [[*key, *tally] for key, tally in list(lane.counts.items())],
        "fetched": lane.board.fetched,
        "fenced": lane.fenced,
        "dead": lane.dead,
        "parked": lane.parked,
    }


class Attendant(threading.Thread):
    """See the module's text.

    Args:
        lane: attended.
        channel: to the supervisor; None for a lane without one.
        enforce_hard: raise `TimeLimitExceeded` in a run at its hard limit, because
            nobody outside does more.
    """

    def __init__(self, lane: Lane, channel: Channel | None, *, enforce_hard: bool = False) -> None:
        super().__init__(name="caraway-attendant", daemon=True)
        self._enforce_hard = enforce_hard
        self._lane = lane
        self._channel = channel
        self._stopped = threading.Event()
        self._orphan = False
        self._renewed = monotonic()
        self._reported = 0.0
        self._told = 0
        self._long = False  # what ran at the last look had run for long
        self._insist_after: dict[Any, float] = {}
        self._doomed: list[TaskJob] = []

    def run(self) -> None:
        while not self._stopped.is_set():
            # A lane without its attendant would be deaf: it outlives whatever comes.
            try:
                self._attend()
            except CarawayError as exc:
                self._lane.log().warning("attendant: %s", exc)
            except Exception:  # noqa: BLE001 - see above
                self._lane.log().exception("attendant")
                self._stopped.wait(CALM)

    def _attend(self) -> None:
        self.listen(self.rest())
        now = monotonic()
        if self._orphan:
            self._renew(now)
        elif now - self._reported >= 1.0:
            self._report(now)
        self._look(now)

    def rest(self) -> float:
        """Seconds until the next look, if nothing is heard before."""
        lane = self._lane
        calm = not lane.in_flight or (lane.pace.deep and not self._long)
        return CALM if calm else BUSY

    def end(self) -> None:
        """Stop attending."""
        self._report(monotonic())
        self._stopped.set()

    # -- the supervisor ----------------------------------------------------------------

    def listen(self, timeout: float) -> None:
        """Obey what the supervisor says within ``timeout`` seconds."""
        channel = self._channel
        if channel is None or self._orphan:
            self._stopped.wait(timeout)
            return
        try:
            if not select.select([channel], [], [], timeout)[0]:
                return
            messages = channel.receive()
        except (OSError, ValueError):  # a task closed what it didn't open
            channel.closed = True
            messages = []
        self.follow(messages)
        if not messages and channel.closed and not self._stopped.is_set():
            self._orphan = True
            self._lane.stop()

    def follow(self, messages: Iterable[dict[str, Any]]) -> None:
        """Obey these; what can't be obeyed is logged."""
        for message in messages:
            try:
                self.obey(message)
            except (CarawayError, KeyError, TypeError, ValueError) as exc:
                self._lane.log().warning("can't obey %r: %s", message.get("do"), exc)

    def obey(self, message: dict[str, Any]) -> None:
        """Do what the supervisor says."""
        lane = self._lane
        what = message.get("do")
        if what == "stop":
            lane.stop(hard=bool(message.get("hard")), code=int(message.get("code", 0)))
        elif what == "revoke":
            lane.intake.revoke(message["ids"])
        elif what == "terminate":
            self._terminate(set(message["ids"]), int(message["signum"]))
        elif what == "revoke_stamps":
            lane.intake.revoke_stamps(message["stamps"])
        elif what == "ended":
            lane.intake.ended.update(message["runs"])
            forget_oldest(lane.intake.ended)
        elif what == "ask":
            self._answer(message)
        elif what == "events":
            from caraway.worker.events import switch

            switch(lane, on=bool(message["on"]))
        elif what == "rate_limit":
            plan = lane.intake.plan(message["task"])
            if plan is not None:
                lane.intake.limits.set_rate(message["task"], message["rate"])
        elif what == "share":
            lane.intake.limits.set_share(float(message["share"]))
        elif what == "time_limit":
            plan = lane.intake.plan(message["task"])
            if plan is not None:
                plan.hard = float(message.get("hard") or 0.0)
                plan.soft = float(message.get("soft") or 0.0)

    def _answer(self, message: dict[str, Any]) -> None:
        if self._channel is not None:
            answer = describe(self._lane, safe=bool(message.get("safe")))
            self._channel.send(tell="answer", ticket=message["ticket"], answer=answer)

    def _terminate(self, ids: set[str], signum: int) -> None:
        way = way_of(signum)
        exc = SoftTimeLimitExceeded if way == "limit" else terminated_by(signum)
        for job in list(self._lane.in_flight.values()):
            if job.delivery.message.headers.get("id") in ids and job.started and not job.seconds:
                if way != "limit":
                    job.interrupted, job.signum = "terminated", signum
                if way == "kill":
                    # We are told of it only where nobody can be killed for it.
                    self._doomed.append(job)
                else:
                    self._lane.executor.interrupt(job, exc)

    def _report(self, now: float) -> None:
        """Counters by task name, since the start, go to the supervisor's metrics."""
        self._reported = now
        lane = self._lane
        ended = lane.board.done + lane.parked + lane.fenced
        if ended != self._told and self._channel is not None and not self._channel.closed:
            self._told = ended
            self._channel.send(tell="counts", **counters(lane))

    # -- the lane ----------------------------------------------------------------------

    def _look(self, now: float) -> None:
        lane = self._lane
        longest = 0.0
        ages: list[float] = []
        for job in list(lane.in_flight.values()):
            started = job.started
            if not started or job.seconds:
                continue
            ages.append(now - started)
            if not job.is_async:
                longest = max(longest, now - started)
            if job.soft and now - started >= job.soft:
                self._soft(job)
            if self._enforce_hard and job.hard and now - started >= job.hard:
                self._insist(job, now, TimeLimitExceeded)
        if lane.events is not None and lane.in_flight:
            lane.events.running(list(lane.in_flight.values()))
        if self._enforce_hard and lane.draining:
            self._cut_short()
        for job in list(self._doomed):
            if job.seconds:
                self._doomed.remove(job)
            else:
                self._insist(job, now, terminated_by(job.signum) if job.signum else Terminated)
        self._long = longest >= LONG
        if ages and not lane.executor.inline:
            self._share(ages)
        if longest and lane.executor.inline:
            lane.board.tick(now, now - longest)
            if longest >= LONG and not lane.draining:
                lane.give_back()
                lane.consumer.recede()
            if longest >= _PROMPT:
                try_commit(lane)

    def _share(self, ages: Sequence[float]) -> None:
        """Where all slots are taken by what runs long, let nothing wait behind it: other
        workers may be idle."""
        lane = self._lane
        youngest = min(ages)
        if youngest < LONG or len(ages) < lane.executor.slots or lane.draining:
            return
        lane.pace.believe(youngest)
        if lane.give_back() or lane.waiting == 2:
            lane.wake()
        else:
            lane.consumer.recede()

    def _soft(self, job: TaskJob) -> None:
        # Marked on the job: an id() would be used again by a later one.
        if job.interrupted is None:
            job.interrupted = "soft time limit"
            self._lane.executor.interrupt(job, SoftTimeLimitExceeded)

    def _insist(self, job: TaskJob, now: float, exc: type[BaseException]) -> None:
        """End a run that nobody outside can end; once more each second, should it swallow
        that."""
        tag = job.delivery.tag
        if now >= self._insist_after.get(tag, 0.0):
            self._insist_after[tag] = now + 1.0
            self._lane.executor.interrupt(job, exc)

    def _cut_short(self) -> None:
        """A stop that is over its time: give back what runs, then end it."""
        lane = self._lane
        running = [j for j in list(lane.in_flight.values()) if j.started and not j.seconds]
        if cut_short(lane):
            self._doomed += running
        if self._doomed:
            try_commit(lane)

    def _renew(self, now: float) -> None:
        owner = self._lane.config.owner
        if now - self._renewed < owner.lease / 3:
            return
        self._renewed = now
        try:
            if self._lane.app.transport.renew([owner.id]):
                self._lane.stop(hard=True)
        except CarawayError as exc:
            self._lane.log().warning("renewing the lease: %s", exc)


def try_commit(lane: Lane) -> bool:
    """Commit what has ended, once, beside the loop's thread: what can't be committed now stays.

    Returns:
        False if there is nothing, or the loop is at it.

    Raises:
        CarawayError: the store can't; all is as before.
    """
    if not (lane.done or lane.pending) or not lane.io.acquire(blocking=False):
        return False
    try:
        if lane.pending is not None:
            lane.settle(patient=False)
        # Not the journal, which the loop's thread may be writing.  What it says of committed
        # runs is fenced off.
        lane.settle(patient=False)
    finally:
        lane.io.release()
    return True
