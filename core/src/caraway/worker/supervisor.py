"""The supervisor: starts lanes, watches them, replaces them, stops them.

Its loop never touches the broker: that is done by the keeper's thread (leases, dead
lanes) and the control thread (remote commands), so that a broker that hangs can't keep a
hard limit from being enforced.  All state of lanes is touched by the loop alone; other
threads leave it messages (`Supervisor.post`).
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.interfaces import Capability
from caraway.message import new_owner_id
from caraway.worker.endings import Endings
from caraway.worker.forkserver import ForkServer
from caraway.worker.lane_config import LOST, RECYCLE, STOPPED, LaneConfig
from caraway.worker.lane_main import LaneMain
from caraway.worker.lanes import LaneProcess, Tally, exit_text, is_alive, stuck_after
from caraway.worker.orders import Orders
from caraway.worker.questions import Questions
from caraway.worker.restarts import Restarts
from caraway.worker.stop_signals import listen

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Pool
    from caraway.message import Queue
    from caraway.worker.autoscale import Autoscaler
    from caraway.worker.board import Board
    from caraway.worker.heart import Heart
    from caraway.worker.keeper import Keeper

_TICK, _BUSY_TICK, _CALM_TICK = 0.1, 0.25, 0.5
"""Seconds between two looks at the boards while something with a hard limit runs, which is the
precision of that; while something runs; and while nothing does."""
_KILL_GRACE = 3.0
"""Seconds a lane has, beyond its own deadline, before it is killed."""


class Supervisor:
    """Runs a worker's lanes until told to stop.

    Args:
        app: finalized, with no connection open yet.
        pool: says how many lanes, and makes executors.
        board: with room for the lanes and their replacements.
        template: configuration of every lane; index and owner are filled in.
    """

    def __init__(self, app: Caraway, pool: Pool, board: Board, template: LaneConfig) -> None:
        self.app = app
        self.pool = pool
        self.board = board
        self.template = template
        self.lanes: dict[int, LaneProcess] = {}
        self.target = pool.lanes
        self.stopping = False
        self.exit_code = 0
        self.tally = Tally()
        self.started = time.monotonic()
        self.on_ready: Callable[[], None] = lambda: None
        self.processes = Capability.PROCESSES in pool.capabilities
        self._hard = False
        self._tick = _TICK
        self._posts: deque[Callable[[], Any]] = deque()
        self.orders = Orders()
        self.questions = Questions()
        self.autoscaler: Autoscaler | None = None
        self.heart: Heart | None = None
        self._restarts = Restarts()
        self._endings = Endings(self)
        self._not_before = 0.0
        self._ready_told = False
        self._selector = selectors.DefaultSelector()
        self._server: ForkServer | None = None
        self._wake_read, self._wake_write = os.pipe()
        for end in (self._wake_read, self._wake_write):
            os.set_blocking(end, False)
        self.keeper: Keeper

    # -- life --------------------------------------------------------------------------

    def fork(self) -> None:
        """Start the fork server.  Before any thread and any connection of this process."""
        self._server = ForkServer(LaneMain(self.app, self.pool, self.board))

    def run(self, keeper: Keeper) -> int:
        """Supervise until stopped; return the exit code of the worker."""
        assert self._server is not None, "fork() comes first"
        self.keeper = keeper
        self._selector.register(self._server.channel, selectors.EVENT_READ, self._hear_server)
        self._selector.register(self._wake_read, selectors.EVENT_READ, self._hear_wake)
        listen(self, self._wake_write)
        while not (self.stopping and not self.lanes):
            self._keep_number()
            for key, _ in self._selector.select(self._tick):
                self._safely(key.data)
            while self._posts:
                self._safely(self._posts.popleft())
            self._safely(lambda: self._watch(time.monotonic()))
            if self._server.channel.closed:
                self._without_server()
        self._server.end()
        return self.exit_code

    def _safely(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception:  # noqa: BLE001 - see the next line
            # Whatever it was, the lanes need their supervisor.
            self._log().exception("supervisor")

    def _without_server(self) -> None:
        """The fork server died, and with it the news of lanes: a lane is dead when its
        channel is.  When all have ended, the worker starts over."""
        if not self.stopping:
            self._log().critical("the fork server died; the worker starts over")
            self.exit_code = RECYCLE
            self.stop(hard=False)
        for lane in list(self.lanes.values()):
            if lane.channel.closed or (lane.pid and not is_alive(lane.pid)):
                self._exited(lane, STOPPED)

    def post(self, call: Callable[[], Any]) -> None:
        """Have the loop do something; any thread or signal handler may call this."""
        self._posts.append(call)
        try:
            os.write(self._wake_write, b"\0")
        except BlockingIOError:
            pass

    def stop(self, *, hard: bool = False) -> None:
        """Stop all lanes: warm at first; hard gives back what runs as well."""
        self.stopping = True
        self._hard = self._hard or hard
        for lane in self.lanes.values():
            self.stop_lane(lane, hard=hard)

    def resize(self, target: int) -> int:
        """Aim at this many lanes (pool_grow, pool_shrink, autoscale); return the number."""
        self.target = max(1, min(target, self.board.lanes // 2))
        surplus = [lane for lane in self.lanes.values() if not lane.stopping][self.target :]
        for lane in surplus:
            self.stop_lane(lane)
        self.tell_lanes(do="share", share=1.0 / self.target)
        return self.target

    # -- lanes -------------------------------------------------------------------------

    def _keep_number(self) -> None:
        if self.stopping or time.monotonic() < self._not_before:
            return
        alive = sum(1 for lane in self.lanes.values() if not lane.stopping and not lane.dead)
        while alive < self.target:
            index = self._free_index()
            if index is None or not self._start_lane(index):
                return
            alive += 1

    def _free_index(self) -> int | None:
        return next((i for i in range(self.board.lanes) if i not in self.lanes), None)

    def _start_lane(self, index: int) -> bool:
        assert self._server is not None
        board = self.board.lane(index)
        board.clear()
        template = self.template
        owner = msgspec.structs.replace(template.owner, id=new_owner_id())
        config = msgspec.structs.replace(
            template, index=index, owner=owner, rate_share=1.0 / max(1, self.target)
        )
        channel = self._server.start(config)
        if channel is None:
            return False
        for order in self.orders:  # before it runs anything; `_hear_lane` tells them again
            channel.send(**order)
        lane = LaneProcess(index, owner.id, channel, board, time.monotonic())
        self.lanes[index] = lane
        self._selector.register(channel, selectors.EVENT_READ, lambda: self._hear_lane(lane))
        return True

    def stop_lane(self, lane: LaneProcess, *, hard: bool = False, code: int = STOPPED) -> None:
        """Stop one lane, or have it make room for another (``RECYCLE``)."""
        now = time.monotonic()
        if not lane.stopping:
            lane.stopping = True
            lane.kill_at = now + self.template.shutdown_timeout + _KILL_GRACE
        if hard:
            lane.kill_at = min(lane.kill_at, now + _KILL_GRACE)
        lane.channel.send(do="stop", hard=hard, code=code)

    def kill(self, lane: LaneProcess) -> None:
        """SIGKILL a lane; its exit is then handled like any other death."""
        if lane.pid and not lane.dead:
            lane.killed = True
            try:
                os.kill(lane.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    # -- hearing -----------------------------------------------------------------------

    def _hear_wake(self) -> None:
        try:
            os.read(self._wake_read, 4096)
        except BlockingIOError:
            pass

    def _hear_lane(self, lane: LaneProcess) -> None:
        for message in lane.channel.receive():
            tell = message.get("tell")
            if tell == "ready":
                lane.ready = True
                self._restarts.ready()
                for order in self.orders:
                    lane.channel.send(**order)
                self.keeper.watch(lane.owner)
                if not self._ready_told and sum(p.ready for p in self.lanes.values()) >= min(
                    self.target, len(self.lanes)
                ):
                    self._ready_told = True
                    self.on_ready()
            elif tell == "counts":
                lane.count(message)
            elif tell == "answer":
                self.questions.heard(lane.index, message)
        if lane.channel.closed and not lane.dead:  # else its death was news in the same moment
            self._selector.unregister(lane.channel)
            lane.channel.close()

    def _hear_server(self) -> None:
        assert self._server is not None
        channel = self._server.channel
        for message in channel.receive():
            tell, pid = message["tell"], message["pid"]
            if tell in ("started", "failed"):
                lane = self.lanes.get(message["index"])
                if lane is None or lane.owner != message["owner"]:
                    continue
                lane.pid = pid
                if tell == "failed":
                    self._log().error("no process for a lane: %s", message["error"])
                    self._exited(lane, 1)
                continue
            lane = next((p for p in self.lanes.values() if p.pid == pid), None)
            if lane is None:
                continue
            if tell == "stopped":
                # A stopped process holds messages and does nothing: its lease may lapse.
                lane.suspended = True
                self.keeper.unwatch(lane.owner)
            elif tell == "continued":
                lane.suspended = False
                if lane.ready:
                    self.keeper.watch(lane.owner)
            elif tell == "exited":
                self._exited(lane, message["code"])
        if channel.closed:
            self._selector.unregister(channel)

    def _exited(self, lane: LaneProcess, code: int) -> None:
        lane.dead = True
        del self.lanes[lane.index]
        if not lane.channel.closed:
            self._selector.unregister(lane.channel)
            lane.hear_last_words()
        self.tally.add(lane.counters)
        self.keeper.unwatch(lane.owner)
        self.keeper.bury(lane.remains(code))
        self.tally.recycled += code == RECYCLE
        if code == RECYCLE or (lane.stopping and code == STOPPED):
            return
        if not lane.stopping or lane.killed:
            self.tally.restarts += 1
        wait = self._restarts.died(
            ready=lane.ready, code=code, seconds=time.monotonic() - lane.started
        )
        if wait:
            self._not_before = time.monotonic() + wait
            self._log().error(
                "a lane died at its start (%s), %d times in a row; next try in %.1f s",
                exit_text(code), self._restarts.in_a_row, wait,
            )  # fmt: skip
        if code != LOST and not lane.stopping:
            # A lane that was killed for one of its tasks has been told of already.
            level = 20 if lane.killed else 30
            self._log().log(
                level, "lane %d (pid %d) died: %s; it is replaced",
                lane.index, lane.pid, exit_text(code),
            )  # fmt: skip

    # -- watching ----------------------------------------------------------------------

    def _watch(self, now: float) -> None:
        stuck = stuck_after(self.app.conf)
        self._tick = _CALM_TICK
        for lane in list(self.lanes.values()):
            if lane.dead or not lane.pid:
                continue
            lane.channel.flush()
            if lane.ready:
                self._restarts.lived(now - lane.started)
            if lane.kill_at and now >= lane.kill_at:
                self._log().warning("lane %d didn't stop in time; it is killed", lane.index)
                lane.kill_at = now + 1.0
                self.kill(lane)
                continue
            running = lane.board.running()
            if running:
                limited = any(run.hard for run in running)
                self._tick = min(self._tick, _TICK if limited else _BUSY_TICK)
            for run in running:
                if run.hard and now - run.started >= run.hard:
                    self._endings.enforce(lane, run)
            if lane.overdue:
                self._endings.look(lane, running, now)
            if stuck and not (running or lane.suspended or lane.killed):
                tick = lane.board.seen().tick or lane.started
                if now - tick > stuck:
                    self._log().error(
                        "lane %d gave no sign of life for %.0f s; it is replaced",
                        lane.index, now - tick,
                    )  # fmt: skip
                    self.kill(lane)

    def terminate(self, task_ids: set[str], signum: int) -> None:
        """End the runs of these tasks: see `caraway.worker.endings`."""
        self._endings.terminate(task_ids, signum)

    def tell_lanes(self, **message: Any) -> None:
        """Send a message to every lane; what stands also to those that start later."""
        self.orders.keep(message)
        for lane in self.lanes.values():
            if not lane.dead:
                lane.channel.send(**message)

    def ask_lanes(self, **question: Any) -> dict[int, Any]:
        """Ask every lane; what was answered in a moment, by index.  Not for the loop."""
        return self.questions.ask(self, **question)

    def set_events(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Have lanes publish events of tasks, or not."""
        self.template = msgspec.structs.replace(self.template, events=on)
        self.tell_lanes(do="events", on=on)

    def set_queues(self, queues: tuple[Queue, ...]) -> None:
        """Consume other queues: every lane is replaced, each after what it runs."""
        self.template = msgspec.structs.replace(self.template, queues=queues)
        self.recycle()

    def lost(self, owners: list[str]) -> None:
        """The keeper says that these owners lost their lease: their lanes start over."""
        for lane in list(self.lanes.values()):
            if lane.owner in owners and not lane.suspended:
                self.stop_lane(lane, hard=True, code=LOST)

    def recycle(self) -> None:
        """Replace every lane, each after what it runs (SIGHUP)."""
        for lane in list(self.lanes.values()):
            if not lane.stopping:
                self.stop_lane(lane, code=RECYCLE)

    def _log(self) -> Any:
        import logging

        return logging.getLogger("caraway.worker")
