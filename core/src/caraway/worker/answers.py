"""Remote control: the questions that a worker answers, in the shapes of Celery's answers."""

from __future__ import annotations

import os
import time
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.control.commands import ControlState, inspect_command
from caraway.worker.commands import ok

if TYPE_CHECKING:
    from collections.abc import Iterable

    from caraway.worker.lanes import LaneProcess

_MOST_SOUGHT = 20
"""Tasks of lanes that don't answer, which the broker is asked for by name."""
_samples: list[str] = []


# -- the worker ----------------------------------------------------------------------------


@inspect_command(help="Answer.")
def ping(state: ControlState, **_: Any) -> Any:
    del state
    return ok("pong")


@inspect_command(help="The logical clock.")
def clock(state: ControlState, **_: Any) -> Any:
    return {"clock": state.app.clock.value}


@inspect_command(hidden=True, help="What workers ask one another at their start.")
def hello(state: ControlState, from_node: str, revoked: Any = None, **_: Any) -> Any:
    if from_node == state.hostname:
        return None
    worker = state.worker
    if isinstance(revoked, dict) and revoked:
        ids = [str(task_id) for task_id in revoked]
        worker.post(lambda: worker.tell_lanes(do="revoke", ids=ids))
    return {"clock": state.app.clock.forward(), "revoked": dict(worker.orders.revoked)}


@inspect_command(help="Versions and settings.")
def report(state: ControlState, **_: Any) -> Any:
    import platform

    from caraway import __version__

    conf = state.app.conf
    lines = [
        f"software -> caraway:{__version__} py:{platform.python_version()}",
        f"platform -> system:{platform.system()} arch:{platform.machine()} "
        f"kernel:{platform.release()} imp:{platform.python_implementation()}",
        f"settings -> transport:{conf.shown('broker_url')} results:{conf.shown('result_backend')}",
        "",
        *(f"{name}: {conf.shown(name)!r}" for name in sorted(conf.changed())),
    ]
    return ok("\n".join(lines))


@inspect_command(
    alias="dump_conf",
    args=[("with_defaults", lambda text: text.lower() in ("1", "true", "yes", "on"))],
    signature="[WITH_DEFAULTS=false]",
    help="Settings.",
)
def conf(state: ControlState, with_defaults: bool = False, **_: Any) -> Any:  # noqa: FBT001, FBT002
    settings = state.app.conf
    names: Iterable[str] = settings if with_defaults else settings.changed()
    return {name: settings.shown(name) for name in names}


@inspect_command(help="Counters, processes, resources.")
def stats(state: ControlState, **_: Any) -> Any:
    worker, app = state.worker, state.app
    totals: dict[str, int] = {}
    lanes = list(worker.lanes.values())
    for (name, _state), (count, _seconds) in worker.tally.with_lanes(lanes).tasks.items():
        totals[name] = totals.get(name, 0) + int(count)
    conf = app.conf
    slots = sum(lane.board.slots for lane in lanes) if not worker.processes else worker.target
    found: dict[str, Any] = {
        "total": totals,
        "pid": os.getpid(),
        "clock": str(app.clock.value),
        "uptime": int(monotonic() - worker.started),
        "pool": {
            "implementation": f"{type(worker.pool).__module__}:{type(worker.pool).__qualname__}",
            "max-concurrency": slots,
            "processes": [lane.pid for lane in lanes],
            "max-tasks-per-child": worker.template.max_tasks or "N/A",
            "timeouts": [conf.task_soft_time_limit or 0, conf.task_time_limit or 0],
            "writes": _writes(lanes),
        },
        "broker": _broker(state),
        "prefetch_count": worker.template.prefetch_limit or worker.app.transport.fetches_at_once,
        "rusage": _rusage(),
    }
    if worker.autoscaler is not None:
        found["autoscaler"] = worker.autoscaler.info()
    return found


def _writes(lanes: Iterable[LaneProcess]) -> dict[str, Any]:
    """How the tasks were spread over the processes."""
    counts = [lane.board.seen().done for lane in lanes]
    total = sum(counts)
    shares = [f"{count / total:.2%}" if total else "0.00%" for count in counts]
    return {
        "total": total,
        "avg": f"{1 / len(counts):.2%}" if counts else "0.00%",
        "all": ", ".join(shares),
        "raw": ", ".join(map(str, counts)),
        "strategy": "lanes",
        "inqueues": {"total": 0, "active": 0},
    }


def _broker(state: ControlState) -> dict[str, Any]:
    from caraway.url import Url

    conf = state.app.conf
    first, *others = Url.parse_list(str(conf.broker_url))
    return {
        "hostname": first.host or None,
        "userid": first.username or None,
        "virtual_host": first.path or "/",
        "port": first.port,
        "insist": False,
        "ssl": bool(conf.broker_use_ssl),
        "transport": first.scheme,
        "connect_timeout": conf.broker_connection_timeout,
        "transport_options": conf.shown("broker_transport_options"),
        "login_method": None,
        "uri_prefix": None,
        "heartbeat": 0,
        "failover_strategy": "round-robin",
        "alternates": [str(each) for each in others],
    }


def _rusage() -> dict[str, Any]:
    try:
        import resource
    except ImportError:  # Windows
        return {}
    used = resource.getrusage(resource.RUSAGE_SELF)
    names = [name for name in dir(used) if name.startswith("ru_")]
    return {name.removeprefix("ru_"): getattr(used, name) for name in names}


@inspect_command(
    alias="dump_tasks",
    variadic="taskinfoitems",
    signature="[ATTRIBUTE...]",
    help="Tasks that are known, with these attributes of theirs.",
)
def registered(
    state: ControlState,
    taskinfoitems: Any = None,
    builtins: bool = False,  # noqa: FBT001, FBT002 - arguments of a request
    **_: Any,
) -> Any:
    items = taskinfoitems or ("exchange", "routing_key", "rate_limit")
    items = [items] if isinstance(items, str) else list(items)
    found = []
    for name, task in sorted(state.app.tasks.items()):
        if not builtins and name.startswith(("celery.", "caraway.")):
            continue
        values = [(item, getattr(task, item, None)) for item in items if item.isidentifier()]
        told = " ".join(f"{item}={value}" for item, value in values if value is not None)
        found.append(f"{name} [{told}]" if told else name)
    return found


@inspect_command(help="Queues that are consumed.")
def active_queues(state: ControlState, **_: Any) -> Any:
    return [
        {
            "name": queue.name,
            "exchange": {
                "name": queue.exchange,
                "type": queue.exchange_type,
                "arguments": None,
                "durable": True,
                "passive": False,
                "auto_delete": False,
                "delivery_mode": None,
                "no_declare": False,
            },
            "routing_key": queue.routing_key,
            "queue_arguments": queue.arguments or None,
            "binding_arguments": None,
            "consumer_arguments": None,
            "durable": queue.durable,
            "exclusive": False,
            "auto_delete": False,
            "no_ack": False,
            "alias": None,
            "bindings": [],
            "no_declare": None,
            "expires": None,
            "message_ttl": None,
            "max_length": None,
            "max_length_bytes": None,
            "max_priority": queue.max_priority,
        }
        for queue in state.worker.template.queues
    ]


# -- tasks ---------------------------------------------------------------------------------


def _jobs(state: ControlState, *, safe: bool = False) -> list[dict[str, Any]]:
    """All that the lanes have; of lanes that don't answer, what the board says."""
    worker = state.worker
    answers = worker.ask_lanes(safe=safe)
    found = [item for items in answers.values() for item in items]
    ahead = time.time() - monotonic()
    for lane in list(worker.lanes.values()):
        if lane.index in answers:
            continue
        for run in lane.board.running():
            item = _sought(state, run.task_id, sought=len(found))
            item["hostname"] = state.hostname
            item["time_start"] = run.started + ahead
            item["worker_pid"] = lane.pid
            item["acknowledged"] = run.early
            found.append(item)
    return found


def _sought(state: ControlState, task_id: str, *, sought: int) -> dict[str, Any]:
    """A run of which the board knows the id: the rest from the broker, where it can tell."""
    from caraway.errors import CarawayError
    from caraway.interfaces import Capability
    from caraway.message import Delivery, Message
    from caraway.worker.job import TaskPlan
    from caraway.worker.jobs import described

    app = state.app
    if sought < _MOST_SOUGHT and Capability.INSPECT in app.transport.capabilities:
        try:
            for place in app.transport.find(task_id):
                delivery = Delivery(place.message, 0, place.queue, place.attempt)
                task = app.tasks.get(str(place.message.headers.get("task")))
                plan = None if task is None else TaskPlan(app, task, None, state.hostname)
                return described(plan, delivery)
        except CarawayError:
            pass
    return described(None, Delivery(Message(b"", {"id": task_id}), 0, ""))


@inspect_command(alias="dump_active", help="Tasks that run now.")
def active(state: ControlState, safe: Any = None, **_: Any) -> Any:
    return [item for item in _jobs(state, safe=bool(safe)) if item["time_start"]]


@inspect_command(alias="dump_reserved", help="Tasks that were fetched and have not begun.")
def reserved(state: ControlState, **_: Any) -> Any:
    return [item for item in _jobs(state) if not item["time_start"]]


@inspect_command(alias="dump_schedule", help="Delayed tasks: none, the broker keeps them.")
def scheduled(state: ControlState, **_: Any) -> Any:
    del state
    return []


@inspect_command(alias="dump_revoked", help="Tasks revoked since the worker's start.")
def revoked(state: ControlState, **_: Any) -> Any:
    return list(state.worker.orders.revoked)


@inspect_command(variadic="ids", signature="TASK_ID...", help="What is known of tasks, by id.")
def query_task(state: ControlState, ids: Any, **_: Any) -> Any:
    wanted = {ids} if isinstance(ids, str) else {str(each) for each in ids}
    return {
        item["id"]: ["active" if item["time_start"] else "reserved", item]
        for item in _jobs(state)
        if item["id"] in wanted
    }


# -- memory --------------------------------------------------------------------------------


@inspect_command(help="Note how much memory is used.")
def memsample(state: ControlState, **_: Any) -> Any:
    from caraway.worker.memory import resident

    pids = {os.getpid(), *(lane.pid for lane in list(state.worker.lanes.values()) if lane.pid)}
    text = f"{sum(map(resident, pids)) / 1024 / 1024:.1f}MB"
    _samples.append(text)
    del _samples[:-1000]
    return text


@inspect_command(args=[("samples", int)], signature="[N=10]", help="What memsample noted.")
def memdump(state: ControlState, samples: int = 10, **_: Any) -> Any:
    del state
    return "\n".join(_samples[-max(1, int(samples)) :])


@inspect_command(
    args=[("type", str), ("num", int), ("max_depth", int)],
    signature="[TYPE=Request [N=200 [DEPTH=10]]]",
    help="Draw a graph of objects; needs the library objgraph.",
)
def objgraph(
    state: ControlState,
    num: int = 200,
    max_depth: int = 10,
    type: str = "Request",  # noqa: A002 - Celery's name
    **_: Any,
) -> Any:
    del state
    try:
        import objgraph as library  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        return {"error": "objgraph is missing: pip install objgraph, where the worker runs"}
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="caraway-", suffix=".png", delete=False) as file:
        objects = library.by_type(type)[: int(num)]
        library.show_backrefs(objects, max_depth=int(max_depth), filename=file.name)
        return {"filename": file.name}
