"""The worker as a whole: reads the settings, puts the parts together, runs them."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caraway.canvas.tasks import register as register_canvas_tasks
from caraway.errors import CarawayError, ImproperlyConfigured
from caraway.interfaces import Capability
from caraway.message import Owner, Queue, new_owner_id
from caraway.ratelimit import parse_rate
from caraway.worker.board import Board
from caraway.worker.heart import start_heart
from caraway.worker.lane_config import LONGEST_PAUSE, RECYCLE, LaneConfig

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Consumer, Pool

_CONTROL_QUEUES: tuple[Queue, ...] = ()


class Worker:
    """A worker of one app.

    Args:
        app: whose tasks it runs.
        queues: names of the queues to consume; None takes those of the settings.
        exclude_queues: names left out.
        pool: name of the pool; None takes ``worker_pool``.
        concurrency: how many tasks at a time; None takes ``worker_concurrency``, else
            the number of CPUs.
        hostname: node name; ``%h`` is the host's name, ``%n`` its first part, ``%d`` the
            rest.  Without ``@`` the host is added.
        on_ready: called in the supervisor when all lanes are up.

    Raises:
        ImproperlyConfigured: unknown pool or queue, or settings that contradict.
    """

    def __init__(
        self,
        app: Caraway,
        *,
        queues: Sequence[str] | None = None,
        exclude_queues: Sequence[str] = (),
        pool: str | None = None,
        concurrency: int | None = None,
        hostname: str | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.app = app
        conf = app.conf
        self.hostname = node_name(hostname or conf.worker_hostname or "caraway@%h")
        from caraway import signals

        signals.celeryd_init.send(sender=self.hostname, instance=self, conf=conf, options={})
        self.pool_name = pool or conf.worker_pool
        self.concurrency = concurrency or conf.worker_concurrency or cpu_count()
        excluded = set(exclude_queues)
        self.queues = tuple(q for q in app.queues(queues) if q.name not in excluded)
        if not self.queues:
            raise ImproperlyConfigured(
                "no queue is left to consume", hint="see the options -Q and -X"
            )
        self.pool: Pool = app.registry.pool(self.pool_name, self.concurrency, conf)
        self.on_ready = on_ready
        self.supervisor: Any = None
        self._stopped_early = False
        self._end_heart: Callable[[], None] = lambda: None

    # -- running -----------------------------------------------------------------------

    def run(self) -> int:
        """Run until stopped; return the exit code of the process.

        Blocks.  Handles SIGTERM and SIGINT (warm, a second one hard), SIGQUIT (hard),
        SIGHUP (replace all lanes), where the platform has them.
        """
        app = self.app
        self._handle_early_signals()
        register_canvas_tasks(app)
        tasks = tuple(app.tasks)
        self._check_tasks()
        self._check_broker()
        if self._stopped_early:
            return self._finish(0)
        self._tell_what_has_no_effect()
        app.close()
        template = self._template(tasks)
        executor = self.pool.executor()
        in_process = self.pool.in_process or not hasattr(os, "fork")
        lanes = 1 if in_process else 2 * max(self.pool.lanes, self._most_lanes()) + 2
        board = Board(lanes, executor.slots)
        # Before anything is forked: monitors put the events of all lanes in order by it.
        app.clock.share()
        if in_process:
            from caraway.worker.solo import SoloWorker

            solo = SoloWorker(app, self.pool, executor, board, template)
            self.supervisor = solo
            # From here on the handler finds it; a signal before only left its mark.
            solo.stopping = self._stopped_early
            solo.on_ready = self._ready
            solo.start_faces = lambda: self._faces(solo, None)
            return self._finish(solo.run())
        from caraway.worker.supervisor import Supervisor

        supervisor = Supervisor(app, self.pool, board, template)
        supervisor.on_ready = self._ready
        self.supervisor = supervisor
        supervisor.fork()
        return self._finish(self._supervise(supervisor, template))

    def stop(self, *, hard: bool = False) -> None:
        """Stop from another thread; see `run` for the signals."""
        self._stopped_early = True
        supervisor = self.supervisor
        if supervisor is not None:
            supervisor.post(lambda: supervisor.stop(hard=hard))

    def _supervise(self, supervisor: Any, template: LaneConfig) -> int:
        from caraway.worker.autoscale import Autoscaler
        from caraway.worker.control import ControlThread
        from caraway.worker.keeper import Keeper
        from caraway.worker.undertaker import Undertaker

        app = self.app
        undertaker = Undertaker(
            app, lambda: self._heir(template), template.max_deliveries, self.hostname
        )
        keeper = Keeper(
            app,
            undertaker,
            template.owner.lease,
            lambda lost: supervisor.post(lambda: supervisor.lost(lost)),
            self.queues,
        )
        undertaker.tells = lambda: supervisor.template.events
        scale = app.conf.worker_autoscale
        if scale and supervisor.processes:
            supervisor.target = int(scale[1])
            supervisor.autoscaler = Autoscaler(supervisor, *scale)
            keeper.chores.append(supervisor.autoscaler.look)
        keeper.start()
        control = None
        if (
            app.conf.worker_enable_remote_control
            and Capability.BROADCAST in app.transport.capabilities
        ):
            control = ControlThread(supervisor, self.hostname)
            control.start()
        faces = self._faces(supervisor, keeper)
        try:
            if self._stopped_early:
                supervisor.post(supervisor.stop)
            return int(supervisor.run(keeper))
        finally:
            if control is not None:
                control.end()
            for face in faces:
                face.stop()
            keeper.finish(timeout=10.0)
            try:
                undertaker.close()
            except CarawayError as exc:
                self._log().warning("closing: %s", exc)

    def _heir(self, template: LaneConfig) -> Consumer:
        """The supervisor's own consumer: it fetches nothing, but dead lanes' deliveries
        are settled under its owner."""
        from msgspec.structs import replace

        owner = replace(template.owner, id=new_owner_id(), pid=os.getpid(), tasks=())
        return self.app.transport.consume(_CONTROL_QUEUES, owner)

    def _faces(self, supervisor: Any, keeper: Any) -> list[Any]:
        """Health and metrics, where they are asked for."""
        conf = self.app.conf
        if not conf.worker_health_address and not conf.worker_health_file:
            return []
        from caraway.worker.status import start_faces

        if keeper is not None:
            keeper.chores.append(keeper.look_at_queues)
        return start_faces(supervisor, keeper, conf.worker_health_address, conf.worker_health_file)

    def _finish(self, code: int) -> int:
        from caraway import signals

        self._end_heart()
        signals.worker_shutdown.send(sender=self.hostname)
        self.app.registry.worker_stop(self)
        self.app.close()
        if code == RECYCLE:
            # The fork server was lost.  The same process starts over: whoever supervises
            # us (systemd, a container) sees no exit.
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606
        return code

    def _ready(self) -> None:
        from caraway import signals

        if self.supervisor.heart is None:
            self._end_heart = start_heart(self.supervisor)
        signals.worker_ready.send(sender=self.hostname)
        if self.on_ready is not None:
            self.on_ready()

    def _handle_early_signals(self) -> None:
        """A signal that comes before the supervisor listens must not kill half a worker."""
        if threading.current_thread() is not threading.main_thread():
            return

        def on_stop(*_: Any) -> None:
            self._stopped_early = True
            if self.supervisor is not None:
                self.stop()

        signal.signal(signal.SIGTERM, on_stop)
        signal.signal(signal.SIGINT, on_stop)

    # -- preparing ---------------------------------------------------------------------

    def _check_tasks(self) -> None:
        """Meet a broken serializer, rate limit or backend setting here as well."""
        from caraway.worker.job import TaskPlan

        if self.app.backend_enabled:
            self.app.backend  # noqa: B018 - built here for its errors
        for task in self.app.tasks.values():
            parse_rate(TaskPlan(self.app, task, None, self.hostname).rate)

    def _tell_what_has_no_effect(self) -> None:
        """A limit that this pool can't keep is told of, never silently ignored."""
        conf = self.app.conf
        lost = []
        if Capability.PROCESSES not in self.pool.capabilities:
            lost.append("worker_autoscale")
        if self.pool.in_process:
            lost += ["worker_max_tasks_per_child", "worker_max_memory_per_child"]
        for name in lost:
            if getattr(conf, name):
                self._log().warning("%s has no effect in the pool %s", name, self.pool_name)

    def _check_broker(self) -> None:
        """Meet a broken setting here, in the foreground, and not in every lane; wait for
        a broker that is merely away."""
        from caraway.errors import TransportUnavailable

        app = self.app
        wait = 0.1
        while not self._stopped_early:
            try:
                app.transport.declare(self.queues)
                break
            except TransportUnavailable as exc:
                self._log().warning(
                    "the broker can't be reached: %s; trying again in %.1f s", exc, wait
                )
                until = time.monotonic() + wait
                while time.monotonic() < until and not self._stopped_early:
                    time.sleep(0.1)  # in steps: a signal doesn't end a sleep
                wait = min(wait * 2, LONGEST_PAUSE)
        if self._stopped_early:
            return
        shared = Capability.SHARED in app.transport.capabilities
        if not shared and not self.pool.in_process and hasattr(os, "fork"):
            raise ImproperlyConfigured(
                "this broker lives inside of one process, and the pool "
                f"{self.pool_name!r} runs tasks in others",
                hint="use --pool solo, or a broker that processes can share (sqlite://)",
            )
        app.registry.worker_start(self)
        from caraway import signals

        signals.celeryd_after_setup.send(sender=self.hostname, instance=self, conf=app.conf)
        signals.worker_init.send(sender=self.hostname)

    def _template(self, tasks: tuple[str, ...]) -> LaneConfig:
        conf = self.app.conf
        owner = Owner(
            id="",
            worker=self.hostname,
            host=socket.gethostname(),
            pid=os.getpid(),
            lease=float(conf.broker_lease),
            tasks=tasks,
        )
        one = conf.worker_disable_prefetch or conf.worker_prefetch_multiplier == 1
        prefetch = 1 if one else int(conf.worker_prefetch_limit or 0)
        return LaneConfig(
            index=0,
            owner=owner,
            queues=self.queues,
            prefetch_limit=prefetch,
            prefetch_seconds=float(conf.worker_prefetch_seconds),
            max_deliveries=int(conf.task_max_deliveries or 0),
            max_tasks=int(conf.worker_max_tasks_per_child or 0),
            max_memory=int(conf.worker_max_memory_per_child or 0) * 1024,
            shutdown_timeout=float(conf.worker_shutdown_timeout or 0.0),
            events=bool(conf.worker_send_task_events),
        )

    def _most_lanes(self) -> int:
        scale = self.app.conf.worker_autoscale
        return max(self.pool.lanes, int(scale[0]) if scale else 0) + 8

    def _log(self) -> Any:
        import logging

        return logging.getLogger("caraway.worker")


def node_name(pattern: str) -> str:
    """A node name from a pattern: see `Worker`."""
    host = socket.gethostname()
    name, _, domain = host.partition(".")
    for sign, value in (("%h", host), ("%n", name), ("%d", domain)):
        pattern = pattern.replace(sign, value)
    return pattern if "@" in pattern else f"{pattern}@{host}"


def cpu_count() -> int:
    """CPUs this process may use: its affinity, and a container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="ascii") as file:
            quota, period = file.read().split()
        if quota != "max":
            count = min(count, max(1, int(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return max(1, count)
