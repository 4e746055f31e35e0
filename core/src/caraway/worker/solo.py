"""The worker without a supervisor: one lane in the calling process.

Something outside of this process must keep its lease while a task holds the GIL, and
settle what it leaves should it be killed.  Where the platform can fork, that is a small
guardian process; elsewhere a thread renews the lease, as well as it can.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.errors import CarawayError
from caraway.interfaces import Capability
from caraway.message import new_owner_id
from caraway.worker.attendant import Attendant, counters
from caraway.worker.channel import Channel
from caraway.worker.draining import has_left
from caraway.worker.jobs import describe
from caraway.worker.lane import Lane
from caraway.worker.lane_config import LOST, RECYCLE, LaneConfig
from caraway.worker.lane_main import open_lane
from caraway.worker.lanes import Counters, LaneProcess, Tally
from caraway.worker.orders import Orders

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Executor, Pool
    from caraway.message import Queue
    from caraway.worker.board import Board
    from caraway.worker.heart import Heart

_LOOK = 0.5
"""Seconds between two looks of the guardian for its worker."""
_LAST_LOOK = 1.0
"""Seconds that the attendant has to end; its look may just talk to a broker that is silent."""


class SoloWorker:
    """Runs one lane here.  Has the face of a `Supervisor`, for remote control.

    Args:
        app: finalized.
        pool: makes a fresh executor should the lane start over.
        executor: for the first lane.
        board: of one lane.
        template: the lane's configuration, without an owner id.
    """

    def __init__(
        self, app: Caraway, pool: Pool, executor: Executor, board: Board, template: LaneConfig
    ) -> None:
        self.app = app
        self.pool = pool
        self.board = board
        # A new lane would be in the same process, as large and as old as before.
        self.template = msgspec.structs.replace(template, max_tasks=0, max_memory=0)
        self.target = 1
        self._ended = Tally()
        self.started = monotonic()
        self.lanes: dict[int, LaneProcess] = {}
        self.stopping = False
        self.processes = False
        self.on_ready: Callable[[], None] = lambda: None
        self.start_faces: Callable[[], list[Any]] = list
        self._executor = executor
        self._lane: Lane | None = None
        self._attendant: Attendant | None = None
        # What stands and who obeys change together: control's thread may tell a lane something
        # while it starts, and what that one misses nobody would tell it again.
        self._telling = threading.RLock()
        self.orders = Orders()
        self.autoscaler: Any = None
        self.heart: Heart | None = None

    def run(self) -> int:
        """Run until stopped."""
        # Memory brokers live in this process: nobody outside could keep their leases.
        guarded = Capability.SHARED in self._capabilities() and hasattr(os, "fork")
        # A process that has other threads isn't forked: a child may inherit a lock that is held.
        alone = threading.current_thread() is threading.main_thread()
        guardian = _guardian(self, forked=guarded and alone)
        # Threads come after the fork.
        control = self._control()
        faces = self.start_faces()
        code = LOST
        try:
            while code in (LOST, RECYCLE) and not self.stopping:
                code = self._run_lane(guardian)
                self._executor = self.pool.executor()
        finally:
            if control is not None:
                control.end()
            for face in faces:
                face.stop()
            # What couldn't be committed is the guardian's.
            guardian.end(bury=has_left(self._lane))
        return 0 if code in (LOST, RECYCLE) else code

    def _run_lane(self, guardian: Any) -> int:
        board = self.board.lane(0)
        board.clear()
        with self._telling:
            owner = msgspec.structs.replace(self.template.owner, id=new_owner_id(), pid=os.getpid())
            config = msgspec.structs.replace(self.template, owner=owner)
            self._lane = lane = Lane(self.app, self._executor, config, board)
        if self.stopping:
            lane.stop()
        _handle_signals(self)
        if self.stopping or not open_lane(lane, lambda: True):
            return 1 if not self.stopping else 0
        guardian.watch(owner.id)
        attendant = Attendant(lane, None, enforce_hard=True)
        with self._telling:
            attendant.follow([*self.orders, {"do": "events", "on": self.template.events}])
            self._attendant = attendant
        attendant.start()
        ours, theirs = Channel.pair()
        theirs.close()
        process = LaneProcess(0, owner.id, Channel(ours), board, monotonic())
        process.pid, process.ready = os.getpid(), True
        self.lanes[0] = process
        self.on_ready()
        try:
            return lane.run()
        finally:
            with self._telling:
                self._attendant = None
            attendant.end()
            attendant.join(_LAST_LOOK)  # it has no business with what is closed after this
            self.lanes.pop(0, None)
            process.channel.close()
            self._ended.add(msgspec.convert(counters(lane), Counters))

    def _capabilities(self) -> frozenset[Capability]:
        capabilities = self.app.transport.capabilities
        self.app.close()
        return capabilities

    def _control(self) -> Any:
        conf = self.app.conf
        if not conf.worker_enable_remote_control:
            return None
        if Capability.BROADCAST not in self.app.transport.capabilities:
            return None
        from caraway.worker.control import ControlThread

        control = ControlThread(self, self.template.owner.worker)  # type: ignore[arg-type]
        control.start()
        return control

    # -- the face of a supervisor --------------------------------------------------------

    @property
    def tally(self) -> Tally:
        """What lanes counted, the one that runs included: nobody need tell us of it."""
        total = self._ended.with_lanes(())
        if self.lanes and self._lane is not None:
            total.add(msgspec.convert(counters(self._lane), Counters))
        return total

    def post(self, call: Callable[[], Any]) -> None:
        """Do it now: everything here is safe from any thread."""
        call()

    def stop(self, *, hard: bool = False) -> None:
        """Stop the lane: warm, or giving back what runs."""
        self.stopping = True
        if self._lane is not None:
            self._lane.stop(hard=hard)

    def recycle(self) -> None:
        """Start over with a fresh lane, after what runs (SIGHUP)."""
        if self._lane is not None and not self.stopping:
            self._lane.stop(code=RECYCLE)

    def tell_lanes(self, **message: Any) -> None:
        """Have the lane's attendant obey; what stands holds for later lanes, too."""
        with self._telling:
            self.orders.keep(message)
            if self._attendant is not None:
                self._attendant.obey(message)

    def terminate(self, task_ids: set[str], signum: int) -> None:
        """Raise in these tasks what the signal stands for; nobody can be killed here."""
        self.tell_lanes(do="terminate", ids=sorted(task_ids), signum=signum)

    def ask_lanes(self, **question: Any) -> dict[int, Any]:
        """Describe what the lane has: see `caraway.worker.jobs`."""
        if self._lane is None or not self.lanes:
            return {}
        return {0: describe(self._lane, safe=bool(question.get("safe")))}

    def set_events(self, on: bool) -> None:  # noqa: FBT001 - a switch
        """Have the lane publish events of tasks, or not."""
        with self._telling:
            self.template = msgspec.structs.replace(self.template, events=on)
            self.tell_lanes(do="events", on=on)

    def set_queues(self, queues: tuple[Queue, ...]) -> None:
        """Consume other queues, after what runs."""
        with self._telling:
            self.template = msgspec.structs.replace(self.template, queues=queues)
            self.recycle()

    def resize(self, target: int) -> int:
        """A solo worker has one lane."""
        del target
        return 1


def _handle_signals(worker: SoloWorker) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def on_stop(*_: Any) -> None:
        worker.stop(hard=worker.stopping)

    for name in ("SIGTERM", "SIGINT"):
        signal.signal(getattr(signal, name), on_stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: worker.recycle())
    if hasattr(signal, "SIGQUIT"):
        signal.signal(signal.SIGQUIT, lambda *_: worker.stop(hard=True))


def _guardian(worker: SoloWorker, *, forked: bool) -> Any:
    return _ForkedGuardian(worker) if forked else _ThreadGuardian(worker)


class _ThreadGuardian(threading.Thread):
    def __init__(self, worker: SoloWorker) -> None:
        super().__init__(name="caraway-guardian", daemon=True)
        self._app = worker.app
        self._every = worker.template.owner.lease / 3
        self._owner = ""
        self._ended = threading.Event()
        self.start()

    def watch(self, owner: str) -> None:
        self._owner = owner

    def end(self, *, bury: bool = False) -> None:  # noqa: ARG002 - nobody outlives us here
        self._ended.set()

    def run(self) -> None:
        while not self._ended.wait(self._every):
            if self._owner:
                _renew(self._app, self._owner)


class _ForkedGuardian:
    """The parent's handle on the guardian process."""

    def __init__(self, worker: SoloWorker) -> None:
        ours, theirs = Channel.pair()
        self._worker = worker
        self._substitute: _ThreadGuardian | None = None
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            try:
                _guard(Channel(theirs), worker, parent)
            finally:
                os._exit(0)
        theirs.close()
        self._channel = Channel(ours)

    def watch(self, owner: str) -> None:
        if not self._channel.send(watch=owner):
            # Somebody killed it.  A thread is better than nobody.
            _log().error("the guardian process is gone; a thread renews the lease from now on")
            self._substitute = self._substitute or _ThreadGuardian(self._worker)
            self._substitute.watch(owner)

    def end(self, *, bury: bool = False) -> None:
        if self._substitute is not None:
            self._substitute.end()
        if not bury:
            self._channel.send(end=True)
        self._channel.close()
        if bury:
            return  # it may take as long as the store is away
        try:
            os.waitpid(self._pid, 0)
        except ChildProcessError:
            pass


def _guard(channel: Channel, worker: SoloWorker, parent: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    app = worker.app
    app.forget_connections()
    every = worker.template.owner.lease / 3
    owner = ""
    due = monotonic() + every
    # The channel tells of the worker's end at once, but not if a process that a task
    # started has it, too.
    while not channel.closed and os.getppid() == parent:
        if select.select([channel], [], [], max(0.0, min(due - monotonic(), _LOOK)))[0]:
            for message in channel.receive():
                if message.get("end"):
                    return
                owner = message.get("watch", owner)
        if monotonic() >= due:
            due = monotonic() + every
            if owner:
                _renew(app, owner)
    if owner:
        _bury(worker, owner)


def _bury(worker: SoloWorker, owner: str) -> None:
    """The worker was killed: settle what it left, as a supervisor would."""
    from caraway.worker.undertaker import Remains, Undertaker

    template = worker.template
    board = worker.board.lane(0)
    remains = Remains(owner, "killed", list(board.journal()), board.running(), {})

    def heir() -> Any:
        mine = msgspec.structs.replace(template.owner, id=new_owner_id(), pid=os.getpid(), tasks=())
        return worker.app.transport.consume((), mine)

    undertaker = Undertaker(worker.app, heir, template.max_deliveries, template.owner.worker)
    until = monotonic() + template.owner.lease
    while True:
        try:
            undertaker.bury(remains)
            undertaker.close()
        except CarawayError as exc:
            _log().warning("what the worker left can't be settled yet: %s", exc)
            if monotonic() >= until:
                return  # by now the lease has brought the messages back
            time.sleep(0.5)
        else:
            return


def _renew(app: Caraway, owner: str) -> None:
    try:
        app.transport.renew([owner])
    except Exception as exc:  # noqa: BLE001 - whatever it was, the next renewal is due
        _log().warning("the lease can't be renewed: %s", exc)


def _log() -> Any:
    import logging

    return logging.getLogger("caraway.worker")
