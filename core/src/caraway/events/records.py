"""A worker and a task, as events tell of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field, structs

from caraway import states

HEARTBEAT_EXPIRE_WINDOW = 2.0
"""A worker that missed so many heartbeats is taken for dead."""
HEARTBEAT_DRIFT_MAX = 16.0
"""Seconds by which a clock may differ from ours before that is logged."""
_KEPT_BEATS = 4

_STATES = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "succeeded": states.SUCCESS,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}
"""Events of tasks -> the state they tell of.  Others, as ``cancelled``, change none."""
_RANK = {name: rank for rank, name in enumerate(("sent", "received", "started"))}
_LAST = len(_RANK)


class Worker(Struct, eq=False):
    """A worker.

    Attributes:
        hostname: node name.
        pid: of its parent process.
        freq: seconds between two heartbeats.
        heartbeats: when the last few were sent (epoch seconds), in order.
        clock: of its last event.
        active: tasks that run.
        processed: tasks that have ended.
        loadavg: of its machine.
        sw_ident, sw_ver, sw_sys: its software.
    """

    hostname: str = ""
    pid: int | None = None
    freq: float = 60.0
    heartbeats: list[float] = field(default_factory=list)
    clock: int = 0
    active: int | None = None
    processed: int | None = None
    loadavg: list[float] | None = None
    sw_ident: str | None = None
    sw_ver: str | None = None
    sw_sys: str | None = None
    expire_window: float = HEARTBEAT_EXPIRE_WINDOW

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of this worker."""
        if kind == "offline":
            self.heartbeats.clear()
            return
        for name in ("pid", "active", "processed", "loadavg", "sw_ident", "sw_ver", "sw_sys"):
            if fields.get(name) is not None:
                setattr(self, name, fields[name])
        freq = fields.get("freq")
        if isinstance(freq, (int, float)) and freq > 0:
            self.freq = float(freq)
        self.clock = max(self.clock, _integer(fields.get("clock")))
        timestamp = _seconds(fields)
        if abs(_local(fields) - timestamp) > HEARTBEAT_DRIFT_MAX:
            import logging

            logging.getLogger("caraway.events").warning(
                "the clocks of this machine and of %s differ by %.0f s: one of them is wrong",
                self.hostname, _local(fields) - timestamp,
            )  # fmt: skip
            timestamp = _local(fields)
        self.heartbeats.append(timestamp)
        self.heartbeats.sort()
        del self.heartbeats[:-_KEPT_BEATS]

    @property
    def heartbeat_expires(self) -> float:
        """When it is taken for dead (epoch seconds), 0.0 if it is."""
        return self.heartbeats[-1] + self.freq * self.expire_window if self.heartbeats else 0.0

    @property
    def alive(self) -> bool:
        """True if its last heartbeat is fresh."""
        return time.time() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """``ONLINE`` or ``OFFLINE``."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """``hostname.pid``."""
        return f"{self.hostname}.{self.pid}"


class Task(Struct, eq=False):
    """A task.  Times are epoch seconds, None for what hasn't happened, or wasn't heard of.

    Attributes:
        uuid: its id.
        state: one of `caraway.states`, or the name of an event of your own, upper-case.
        timestamp: when it came into this state.
        clock: of the event that brought it there.
        worker: who runs it.
        client: who sent it.
    """

    uuid: str
    name: str | None = None
    state: str = states.PENDING
    received: float | None = None
    sent: float | None = None
    started: float | None = None
    succeeded: float | None = None
    failed: float | None = None
    retried: float | None = None
    revoked: float | None = None
    rejected: float | None = None
    args: str | None = None
    kwargs: str | None = None
    eta: str | None = None
    expires: str | None = None
    retries: int | None = None
    worker: Worker | None = None
    result: Any = None
    exception: str | None = None
    timestamp: float | None = None
    runtime: float | None = None
    traceback: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    queue: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    client: str | None = None
    clock: int = 0
    last: str = "sent"

    def event(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Take in an event of this task.  One that comes late adds what it knows, and
        doesn't turn the state back."""
        timestamp = _seconds(fields)
        state = _STATES.get(kind)
        if state is not None:
            setattr(self, kind, timestamp)
        newer = self._follows(kind, timestamp)
        for name, value in fields.items():
            if name in _TOLD and value is not None and (newer or getattr(self, name) is None):
                setattr(self, name, value)
        if newer:
            if state is not None or kind not in _SILENT:
                self.state = state or kind.upper()
                self.last = kind
            self.timestamp = timestamp
            self.clock = _integer(fields.get("clock"))

    def _follows(self, kind: str, timestamp: float) -> bool:
        if self.timestamp is None:
            return True
        if kind == "sent":
            # The clocks of clients are in step with nobody's.
            return False
        if self.last == "sent":
            return True
        rank, last = _RANK.get(kind, _LAST), _RANK.get(self.last, _LAST)
        return (timestamp, rank) >= (self.timestamp, last)

    @property
    def id(self) -> str:
        """Its id."""
        return self.uuid

    @property
    def ready(self) -> bool:
        """True if it has ended."""
        return self.state in states.READY_STATES

    @property
    def origin(self) -> str | None:
        """Who sent it, else who runs it."""
        return self.client if self.worker is None else self.worker.id

    def info(self, fields: Any = None, extra: Any = ()) -> dict[str, Any]:
        """What is known beyond state and times: attributes that aren't None."""
        names = list(fields if fields is not None else _INFO) + list(extra)
        return {n: getattr(self, n) for n in names if getattr(self, n, None) is not None}

    def as_dict(self) -> dict[str, Any]:
        """All attributes; the worker by its node name."""
        values = structs.asdict(self)
        values["worker"] = None if self.worker is None else self.worker.hostname
        del values["last"]
        return values


_TOLD = frozenset(Task.__struct_fields__) - {
    "uuid", "worker", "client", "state", "timestamp", "clock", "last", "sent", "received",
    "started", "succeeded", "failed", "retried", "revoked", "rejected",
}  # fmt: skip
_INFO = (
    "args", "kwargs", "retries", "result", "eta", "runtime", "expires", "exception", "exchange",
    "routing_key", "root_id", "parent_id",
)  # fmt: skip
_SILENT = frozenset(("cancelled",))


def _seconds(fields: Mapping[str, Any]) -> float:
    value = fields.get("timestamp")
    return float(value) if isinstance(value, (int, float)) else time.time()


def _local(fields: Mapping[str, Any]) -> float:
    value = fields.get("local_received")
    return float(value) if isinstance(value, (int, float)) else _seconds(fields)


def _integer(value: Any) -> int:
    return value if type(value) is int else 0
