"""The worker's side of remote control: a thread that listens, and a table of commands.

The thread only receives and answers; what changes lanes is done by the supervisor's
loop.  A command answers even while every lane is busy.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.control import REQUESTS
from caraway.message import Message, Notice, Topic

if TYPE_CHECKING:
    from caraway.interfaces import Broadcast, Subscription
    from caraway.worker.supervisor import Supervisor

Command = Callable[["Supervisor", dict[str, Any]], Any]


class ControlThread(threading.Thread):
    """Receives requests and answers them.

    Args:
        supervisor: commanded.
        node: the name this worker answers to.
    """

    def __init__(self, supervisor: Supervisor, node: str) -> None:
        super().__init__(name="caraway-control", daemon=True)
        self._supervisor = supervisor
        self._node = node
        self._ended = threading.Event()
        self._subscription: Subscription | None = None

    def end(self) -> None:
        """Stop listening."""
        self._ended.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()

    def run(self) -> None:
        import logging

        logger = logging.getLogger("caraway.worker")
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as exc:  # noqa: BLE001 - a worker must not go deaf
                if not self._ended.is_set():
                    logger.warning("remote control: %r; trying again in 1 s", exc)
                self._ended.wait(1.0)

    def _listen(self) -> None:
        channel = self._supervisor.app.transport.broadcast()
        self._subscription = subscription = channel.subscribe([REQUESTS], name=self._node)
        try:
            while not self._ended.is_set():
                for notice in subscription.receive(5.0):
                    self._answer(notice.message.body, channel)
        finally:
            self._subscription = None
            subscription.close()

    def _answer(self, payload: bytes, channel: Broadcast) -> None:
        import logging

        try:
            request = msgspec.json.decode(payload, type=dict[str, Any])
            destination = request.get("destination")
            if destination is not None and self._node not in destination:
                return
            answer = self._call(str(request.get("method")), dict(request.get("arguments") or {}))
        except (msgspec.MsgspecError, TypeError, ValueError) as exc:
            logging.getLogger("caraway.worker").warning("remote control: bad request: %s", exc)
            return
        reply_to = request.get("reply_to")
        if isinstance(reply_to, dict) and request.get("ticket"):
            topic = Topic(str(reply_to.get("exchange")), str(reply_to.get("routing_key")), "direct")
            message = Message(msgspec.json.encode({self._node: answer}))
            channel.publish([Notice(topic, message)])

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        command = COMMANDS.get(name)
        if command is None:
            return {"error": f"unknown command {name!r}"}
        try:
            return command(self._supervisor, arguments)
        except Exception as exc:  # noqa: BLE001 - anybody may send anything
            return {"error": f"{type(exc).__name__}: {exc}"}


def _ping(_: Supervisor, __: dict[str, Any]) -> Any:
    return {"ok": "pong"}


def _ids(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value]


def _revoke(worker: Supervisor, arguments: dict[str, Any]) -> Any:
    ids = _ids(arguments["task_id"])
    terminate = bool(arguments.get("terminate"))

    def do() -> None:
        worker.tell_lanes(do="revoke", ids=ids, terminate=False)
        if terminate:
            worker.terminate(set(ids))

    worker.post(do)
    return {"ok": f"{'terminated' if terminate else 'revoked'} {', '.join(ids)}"}


def _rate_limit(worker: Supervisor, arguments: dict[str, Any]) -> Any:
    from caraway.ratelimit import parse_rate

    name, rate = str(arguments["task_name"]), arguments["rate_limit"]
    parse_rate(rate)
    if name not in worker.app.tasks:
        return {"error": f"unknown task {name!r}"}
    worker.app.tasks[name].rate_limit = rate
    worker.post(lambda: worker.tell_lanes(do="rate_limit", task=name, rate=rate))
    return {"ok": "new rate limit set successfully"}


def _time_limit(worker: Supervisor, arguments: dict[str, Any]) -> Any:
    name = str(arguments["task_name"])
    if name not in worker.app.tasks:
        return {"error": f"unknown task {name!r}"}
    hard, soft = float(arguments.get("hard") or 0.0), float(arguments.get("soft") or 0.0)
    worker.post(lambda: worker.tell_lanes(do="time_limit", task=name, hard=hard, soft=soft))
    return {"ok": "time limits set successfully"}


def _grow(worker: Supervisor, arguments: dict[str, Any]) -> Any:
    n = int(arguments.get("n", 1))
    worker.post(lambda: worker.resize(worker.target + n))
    return {"ok": "pool will grow"}


def _shrink(worker: Supervisor, arguments: dict[str, Any]) -> Any:
    n = int(arguments.get("n", 1))
    worker.post(lambda: worker.resize(worker.target - n))
    return {"ok": "pool will shrink"}


def _shutdown(worker: Supervisor, _: dict[str, Any]) -> Any:
    worker.post(worker.stop)
    return {"ok": "shutting down"}


def _registered(worker: Supervisor, _: dict[str, Any]) -> Any:
    return sorted(worker.app.tasks)


def _active(worker: Supervisor, _: dict[str, Any]) -> Any:
    now_wall, now = time.time(), time.monotonic()
    return [
        {
            "id": run.task_id,
            "time_start": now_wall - (now - run.started),
            "worker_pid": lane.pid,
            "acknowledged": False,
            "hostname": worker.template.owner.worker,
        }
        for lane in list(worker.lanes.values())
        for run in lane.board.running()
    ]


def _active_queues(worker: Supervisor, _: dict[str, Any]) -> Any:
    return [{"name": q.name, "routing_key": q.routing_key} for q in worker.template.queues]


def _stats(worker: Supervisor, _: dict[str, Any]) -> Any:
    totals: dict[str, int] = {}
    tally = worker.tally.with_lanes(list(worker.lanes.values()))
    for (name, _state), (count, _seconds) in tally.tasks.items():
        totals[name] = totals.get(name, 0) + int(count)
    return {
        "total": totals,
        "pid": os.getpid(),
        "pool": {
            "implementation": type(worker.pool).__name__,
            "max-concurrency": worker.target,
            "processes": [lane.pid for lane in list(worker.lanes.values())],
        },
    }


COMMANDS: dict[str, Command] = {
    "ping": _ping,
    "revoke": _revoke,
    "terminate": lambda w, a: _revoke(w, {**a, "terminate": True}),
    "rate_limit": _rate_limit,
    "time_limit": _time_limit,
    "pool_grow": _grow,
    "pool_shrink": _shrink,
    "shutdown": _shutdown,
    "registered": _registered,
    "active": _active,
    "active_queues": _active_queues,
    "stats": _stats,
}
"""Name of a command -> what does it.  Arguments are those of
`caraway.control.Control`."""
