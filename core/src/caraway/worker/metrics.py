"""What a worker tells of itself: a snapshot, and its text for Prometheus.

The supervisor builds a `WorkerSnapshot` when somebody asks; nothing is counted for this
page that isn't counted anyway.  The text is version 0.0.4 of Prometheus' exposition
format.  Counters start at zero with the worker and never go down while it lives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class RunningTask(Struct, frozen=True, kw_only=True):
    """One task that runs.

    Attributes:
        task_id: which.
        age: seconds since it began.
        name: of the task, where it is known.
    """

    task_id: str
    age: float
    name: str = ""


class LaneSnapshot(Struct, frozen=True, kw_only=True):
    """One lane.

    Attributes:
        index: its place, from 0.
        pid: of its process; 0 while there is none.
        state: ``starting``, ``ready``, ``stopping`` or ``gone``.
        tick_age: seconds since it last gave a sign of life.
        stuck: it gave none for longer than ``worker_stuck_timeout``.
        slots: how many tasks it can run at a time.
        running: the tasks it runs.
        fetched: messages taken, since the lane's start.
        done: tasks ended, since the lane's start.
        memory: resident bytes, 0 if not measured.
    """

    index: int
    pid: int = 0
    state: str = "ready"
    tick_age: float = 0.0
    stuck: bool = False
    slots: int = 1
    running: tuple[RunningTask, ...] = ()
    fetched: int = 0
    done: int = 0
    memory: int = 0


class TaskStats(Struct, frozen=True, kw_only=True):
    """What the runs of one task came to, with one outcome.

    Attributes:
        name: of the task.
        outcome: a state in lower case (``success``, ``failure``, ``retry`` ...), or
            ``ended`` where outcomes aren't told apart.
        count: how many.
        seconds: their run times added up.
        buckets: how many took at most so long: (seconds, count) in rising order, each
            count including those before; empty if not measured.
    """

    name: str
    outcome: str = "ended"
    count: int = 0
    seconds: float = 0.0
    buckets: tuple[tuple[float, int], ...] = ()


class WorkerSnapshot(Struct, frozen=True, kw_only=True):
    """A worker at one moment.

    Attributes:
        node: its name.
        pid: of the supervisor.
        pool: name of the pool.
        uptime: seconds since its start.
        queues: what it consumes.
        lanes: its lanes.
        tasks: per task name and outcome.
        stopping: it was asked to stop.
        broker_error: why the broker can't be used now; empty if it can.
        broker_errors: how often it failed.
        fetched: messages taken, by lanes that have ended, too.
        committed: completions applied.
        fenced: late outcomes refused because the lease was lost.
        dead_lettered: messages sent to the dead letters.
        parked: messages parked there because nobody could judge them.
        restarts: lanes replaced because they died or were stuck.
        recycled: lanes replaced at their limit of tasks or memory.
        reclaimed: messages taken back from dead lanes.
        timeouts: tasks ended at their hard time limit.
        lag: age in seconds of the oldest ready message by queue, where it is known.
        ready: depth by queue, where it is known.
        stuck_timeout: seconds without a sign of life after which a lane is stuck; 0.0
            is never.
    """

    node: str
    pid: int = 0
    pool: str = ""
    uptime: float = 0.0
    queues: tuple[str, ...] = ()
    lanes: tuple[LaneSnapshot, ...] = ()
    tasks: tuple[TaskStats, ...] = ()
    stopping: bool = False
    broker_error: str = ""
    broker_errors: int = 0
    fetched: int = 0
    committed: int = 0
    fenced: int = 0
    dead_lettered: int = 0
    parked: int = 0
    restarts: int = 0
    recycled: int = 0
    reclaimed: int = 0
    timeouts: int = 0
    lag: Mapping[str, float] = field(default_factory=dict)
    ready: Mapping[str, int] = field(default_factory=dict)
    stuck_timeout: float = 60.0

    def is_stuck(self, lane: LaneSnapshot) -> bool:
        """True if the lane is wedged: no sign of life for too long, and nothing runs there.

        A task that runs may hold the interpreter's lock for as long as it likes.
        """
        late = bool(self.stuck_timeout) and lane.tick_age > self.stuck_timeout
        return lane.stuck or (lane.state == "ready" and late and not lane.running)


def render(snapshot: WorkerSnapshot) -> str:
    """The snapshot as Prometheus text."""
    out: list[str] = []
    lanes = snapshot.lanes
    _family(
        out, "caraway_worker_info", "gauge", "The worker; always 1.",
        [({"node": snapshot.node, "pool": snapshot.pool, "pid": str(snapshot.pid)}, 1)],
    )  # fmt: skip
    _single(out, "caraway_worker_uptime_seconds", "gauge", "Time since start.", snapshot.uptime)
    _single(
        out, "caraway_worker_stopping", "gauge", "1 while the worker stops.", int(snapshot.stopping)
    )
    _single(
        out, "caraway_broker_up", "gauge", "1 if the broker could be used at the last try.",
        int(not snapshot.broker_error),
    )  # fmt: skip
    for name, help_text in _COUNTERS:
        _single(out, f"caraway_{name}_total", "counter", help_text, getattr(snapshot, name))
    _single(out, "caraway_lanes", "gauge", "Lanes.", len(lanes))
    _single(
        out, "caraway_lanes_stuck", "gauge", "Lanes without a sign of life for too long.",
        sum(map(snapshot.is_stuck, lanes)),
    )  # fmt: skip
    _single(out, "caraway_slots", "gauge", "Tasks that can run.", sum(x.slots for x in lanes))
    _single(
        out, "caraway_slots_busy", "gauge", "Tasks that run.", sum(len(x.running) for x in lanes)
    )
    # Not the lanes' own counters: they begin anew with each process.
    done = sum(task.count for task in snapshot.tasks)
    failed = sum(task.count for task in snapshot.tasks if task.outcome == "failure")
    _single(out, "caraway_done_total", "counter", "Runs ended.", done)
    _single(out, "caraway_failed_total", "counter", "Runs failed.", failed)
    labels = [{"lane": str(lane.index)} for lane in lanes]
    _family(
        out, "caraway_lane_tick_age_seconds", "gauge", "Time since a lane's last sign of life.",
        zip(labels, (lane.tick_age for lane in lanes), strict=True),
    )  # fmt: skip
    _family(
        out, "caraway_lane_longest_run_seconds", "gauge", "Age of the oldest task that runs.",
        zip(labels, (max((t.age for t in lane.running), default=0) for lane in lanes), strict=True),
    )  # fmt: skip
    _family(
        out, "caraway_lane_memory_bytes", "gauge", "Resident memory of a lane.",
        [(label, x.memory) for label, x in zip(labels, lanes, strict=True) if x.memory],
    )  # fmt: skip
    _family(
        out, "caraway_queue_ready", "gauge", "Messages that could be delivered now.",
        [({"queue": queue}, depth) for queue, depth in snapshot.ready.items()],
    )  # fmt: skip
    _family(
        out, "caraway_queue_lag_seconds", "gauge", "Age of the oldest ready message.",
        [({"queue": queue}, age) for queue, age in snapshot.lag.items()],
    )  # fmt: skip
    _family(
        out, "caraway_tasks_total", "counter", "Runs that ended, by task and outcome.",
        [({"task": t.name, "outcome": t.outcome}, t.count) for t in snapshot.tasks],
    )  # fmt: skip
    _run_times(out, snapshot.tasks)
    return "\n".join(out) + "\n"


_COUNTERS = (
    ("fetched", "Messages taken."),
    ("broker_errors", "Operations on the broker that failed."),
    ("committed", "Completions applied."),
    ("fenced", "Late outcomes refused because the lease was lost."),
    ("dead_lettered", "Messages sent to the dead letters."),
    ("parked", "Messages parked because nobody could judge them."),
    ("restarts", "Lanes replaced because they died or were stuck."),
    ("recycled", "Lanes replaced at their limit of tasks or memory."),
    ("reclaimed", "Messages taken back from dead lanes."),
    ("timeouts", "Tasks ended at their hard time limit."),
)


def _run_times(out: list[str], tasks: Iterable[TaskStats]) -> None:
    # One series per task: outcomes are summed, since few ask how long failures take.
    counts: dict[str, int] = {}
    seconds: dict[str, float] = {}
    buckets: dict[str, dict[float, int]] = {}
    for each in tasks:
        counts[each.name] = counts.get(each.name, 0) + each.count
        seconds[each.name] = seconds.get(each.name, 0.0) + each.seconds
        mine = buckets.setdefault(each.name, {})
        for bound, count in each.buckets:
            mine[bound] = mine.get(bound, 0) + count
    if not counts:
        return
    name = "caraway_task_runtime_seconds"
    kind = "histogram" if any(buckets.values()) else "summary"
    _header(out, name, kind, "How long runs took.")
    for task, count in counts.items():
        if kind == "histogram":
            for bound, below in sorted(buckets[task].items()):
                _sample(out, f"{name}_bucket", {"task": task, "le": _number(bound)}, below)
            _sample(out, f"{name}_bucket", {"task": task, "le": "+Inf"}, count)
        _sample(out, f"{name}_sum", {"task": task}, seconds[task])
        _sample(out, f"{name}_count", {"task": task}, count)


def _single(out: list[str], name: str, kind: str, help_text: str, value: float) -> None:
    _family(out, name, kind, help_text, [({}, value)])


def _family(
    out: list[str],
    name: str,
    kind: str,
    help_text: str,
    samples: Iterable[tuple[Mapping[str, str], float]],
) -> None:
    rows = list(samples)
    if rows:
        _header(out, name, kind, help_text)
        for labels, value in rows:
            _sample(out, name, labels, value)


def _header(out: list[str], name: str, kind: str, help_text: str) -> None:
    text = help_text.replace("\\", r"\\").replace("\n", r"\n")
    out.append(f"# HELP {name} {text}")
    out.append(f"# TYPE {name} {kind}")


def _sample(out: list[str], name: str, labels: Mapping[str, str], value: float) -> None:
    if labels:
        inside = ",".join(f'{key}="{_escape(text)}"' for key, text in labels.items())
        name = f"{name}{{{inside}}}"
    out.append(f"{name} {_number(value)}")


def _escape(text: str) -> str:
    # Surrogates can't be sent as UTF-8, and a carriage return would end a line for some.
    clean = text.encode("utf-8", "replace").decode()
    return clean.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n").replace("\r", r"\r")


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
