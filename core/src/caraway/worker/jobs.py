"""What a lane has, described for people: the answers to ``active`` and ``reserved``.

Asked for by remote control, answered by the lane's attendant, so that nothing is written
down while tasks run.
"""

from __future__ import annotations

import os
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.events.shown import REPR_SIZE, shown

if TYPE_CHECKING:
    from caraway.message import Delivery
    from caraway.worker.job import TaskPlan
    from caraway.worker.lane import Lane

_LARGE = 64 * 1024
"""Bytes of a body beyond which its arguments are shown as text only."""


def describe(lane: Lane, *, safe: bool = False) -> list[dict[str, Any]]:
    """All that a lane has fetched and not ended, as Celery describes a request.

    Args:
        lane: of this process; any thread may ask.
        safe: arguments as text only.

    Returns:
        ``time_start`` is None for what has not begun.
    """
    found = []
    ahead = time.time() - monotonic()
    for job in list(lane.in_flight.values()):
        if job.seconds:
            continue
        started = job.started
        item = described(job.plan, job.delivery, safe=safe)
        item["hostname"] = lane.config.owner.worker
        item["time_start"] = started + ahead if started else None
        item["acknowledged"] = job.settled
        item["worker_pid"] = os.getpid() if started else None
        found.append(item)
    return found


def described(plan: TaskPlan | None, delivery: Delivery, *, safe: bool = False) -> dict[str, Any]:
    """One delivery, without what only its lane knows."""
    message = delivery.message
    headers = message.headers
    args: Any = headers.get("argsrepr")
    kwargs: Any = headers.get("kwargsrepr")
    if plan is not None:
        if safe or len(message.body) > _LARGE:
            args, kwargs = shown(message, plan.load_body)
        else:
            try:
                args, kwargs, _ = plan.load_body(message)
            except Exception:  # noqa: BLE001 - whatever hostile bytes may cause
                args, kwargs = args or "?", kwargs or "?"
    name = headers.get("task")
    item = {
        "id": headers.get("id"),
        "name": name,
        "args": _plain(args if args is not None else []),
        "kwargs": _plain(kwargs if kwargs is not None else {}),
        "type": name,
        "hostname": "",
        "time_start": None,
        "acknowledged": False,
        "delivery_info": {
            "exchange": "",
            "routing_key": delivery.queue,
            "priority": delivery.priority,
            "redelivered": delivery.attempt > 1,
        },
        "worker_pid": None,
    }
    if headers.get("stamps"):
        item["stamps"] = _plain(headers["stamps"])
    return item


def _plain(value: Any) -> Any:
    """As JSON has it; what JSON doesn't know as text."""
    try:
        return msgspec.json.decode(msgspec.json.encode(value, enc_hook=repr))
    except Exception:  # noqa: BLE001 - a __repr__ of the user's may raise anything
        try:
            return repr(value)[:REPR_SIZE]
        except Exception:  # noqa: BLE001 - as above
            return "?"
