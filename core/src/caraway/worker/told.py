"""Events of tasks: their shapes, and what publishes them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway import states
from caraway.events import wire
from caraway.events.shown import text_of

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Completion
    from caraway.outcome import Outcome

_LONGEST_TRACEBACK = 16 * 1024
_SILENCE = 1.0
"""Seconds without events after one that the broker didn't take."""


class Told(Struct, gc=False):
    """An event of a task, in the order in which it is written."""

    hostname: str
    utcoffset: int
    pid: int
    clock: int
    timestamp: float
    type: str
    uuid: str


class Received(Told, gc=False):
    # None is written, too: monitors look for these.
    name: str
    args: str
    kwargs: str
    root_id: str | None
    parent_id: str | None
    retries: int
    eta: str | None
    expires: str | None


class Succeeded(Told, gc=False):
    result: str
    runtime: float


class Failed(Told, gc=False):
    exception: str
    traceback: str


class Revoked(Told, gc=False):
    terminated: bool
    signum: int | None
    expired: bool


class Rejected(Told, gc=False):
    requeue: bool


class Teller:
    """Publishes events of tasks.

    Args:
        app: whose broker they go to.
        node: the worker's name.

    Attributes:
        head: how every event begins: node name, offset, process id.
    """

    def __init__(self, app: Caraway, node: str) -> None:
        self._app = app
        self.node = node
        self.head = (node, wire.utcoffset(), os.getpid())
        self._lock = threading.Lock()
        self._pending: list[Told] = []
        self._silent_until = 0.0

    def add(self, events: Sequence[Told]) -> None:
        """Number events in their order, and put them to those that wait."""
        if events:
            clock = self.times(len(events))
            for event in events:
                clock += 1
                event.clock = clock
            self.put(events)

    def put(self, events: Sequence[Told]) -> None:
        """Put events that are numbered to those that wait."""
        with self._lock:
            self._pending += events

    def times(self, count: int) -> int:
        """Take so many times of the logical clock; they begin after what is returned."""
        return self._app.clock.forward(count) - count

    def flush(self) -> None:
        """Publish what waits, in one broadcast.  Never raises: events are best effort."""
        with self._lock:
            events, self._pending = self._pending, []
        if not events or monotonic() < self._silent_until:
            return
        try:
            self._app.transport.broadcast().publish([wire.notice(self._app, self.node, events)])
        except Exception as exc:  # noqa: BLE001 - a task must not suffer from its monitors
            # Not with each batch: a broker that is away would hold up every one of them.
            self._silent_until = monotonic() + _SILENCE
            import logging

            logging.getLogger("caraway.worker").warning("events are lost: %s", exc)

    def ended_as(self, uuid: str, outcome: Outcome, at: float) -> Told | None:
        """The event of an outcome; None for those that nothing is told of.

        Args:
            uuid: the task's id.
            outcome: what it came to.
            at: when (epoch seconds).
        """
        state, value = outcome.state, outcome.value
        if state == states.SUCCESS:
            return Succeeded(
                *self.head, 0, at, "task-succeeded", uuid, text_of(value), outcome.runtime
            )
        if state in (states.FAILURE, states.RETRY):
            kind = "task-failed" if state == states.FAILURE else "task-retried"
            traceback = (outcome.traceback or "")[-_LONGEST_TRACEBACK:]
            return Failed(*self.head, 0, at, kind, uuid, text_of(value), traceback)
        if state == states.REVOKED:
            why = str(value)
            return Revoked(
                *self.head, 0, at, "task-revoked", uuid, why == "terminated",
                getattr(value, "signum", None), why == "expired",
            )  # fmt: skip
        if state == states.REJECTED:
            return Rejected(*self.head, 0, at, "task-rejected", uuid, outcome.requeue)
        return None

    def simply(self, kind: str, uuid: str, at: float) -> Told:
        """An event that says no more than that it happened."""
        return Told(*self.head, 0, at, kind, uuid)

    def rejected(self, uuid: str, at: float) -> Told:
        """The event of a message that can't be run here."""
        return Rejected(*self.head, 0, at, "task-rejected", uuid, requeue=False)


def tell(
    app: Caraway,
    node: str,
    completions: Sequence[Completion],
    lost: Sequence[Any] = (),
    signums: Mapping[Any, int] | None = None,
) -> None:
    """Tell of runs whose lane can't any more, from the results that were stored for them.

    Args:
        app: whose broker the events go to.
        node: the worker's name.
        completions: of the runs.
        lost: tags of those that were not ours any more.
        signums: by tag, the signals that terminated runs.
    """
    from caraway.errors import CarawayError
    from caraway.outcome import Outcome
    from caraway.protocol.result import decode_meta

    teller = Teller(app, node)
    events = []
    for completion in completions:
        stored = completion.result
        if stored is None or completion.settlement.tag in lost:
            continue
        try:
            record = decode_meta(app.result_serializer, stored.payload)
        except CarawayError:
            continue
        value = record.get("result")
        if stored.state != states.SUCCESS and isinstance(value, dict):
            value = _Shown(value, (signums or {}).get(completion.settlement.tag))
        outcome = Outcome(stored.state, value, traceback=record.get("traceback"))
        event = teller.ended_as(stored.task_id, outcome, time())
        if event is not None:
            events.append(event)
    teller.add(events)
    teller.flush()


class _Shown:
    """An exception of a stored result, as the exception itself would show."""

    def __init__(self, record: dict[str, Any], signum: int | None = None) -> None:
        self.signum = signum
        message = record.get("exc_message")
        self._args = message if isinstance(message, list) else [message]
        self._type = str(record.get("exc_type"))

    def __str__(self) -> str:
        return " ".join(map(str, self._args))

    def __repr__(self) -> str:
        return f"{self._type}({', '.join(map(repr, self._args))})"
