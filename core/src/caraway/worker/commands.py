"""Remote control: the commands that change a worker.

Each takes a `ControlState` and the request's arguments, Celery's names; what it doesn't
know of it leaves alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from caraway.control.commands import ControlState, control_command
from caraway.control.ending import signal_name, signal_number
from caraway.errors import ImproperlyConfigured
from caraway.message import Queue


def ok(text: str) -> dict[str, str]:
    """The answer of a command that was obeyed."""
    return {"ok": text}


def no(text: str) -> dict[str, str]:
    """The answer of one that wasn't."""
    return {"error": text}


def _ids(value: Any) -> list[str]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else [str(each) for each in value]


# -- tasks ---------------------------------------------------------------------------------


@control_command(variadic="task_id", signature="TASK_ID...", help="Keep tasks from running.")
def revoke(
    state: ControlState,
    task_id: Any,
    terminate: bool = False,  # noqa: FBT001, FBT002 - arguments of a request
    signal: Any = None,
    **_: Any,
) -> Any:
    ids = _ids(task_id)
    signum = 0
    if terminate:
        try:
            signum = signal_number(signal)
        except ImproperlyConfigured as exc:
            return no(str(exc))
    _keep_revoked(state, ids)
    worker = state.worker

    def do() -> None:
        worker.tell_lanes(do="revoke", ids=ids)
        if terminate:
            worker.terminate(set(ids), signum)

    worker.post(do)
    return ok(f"{'terminated' if terminate else 'revoked'} {', '.join(ids)}")


def _keep_revoked(state: ControlState, ids: Sequence[str]) -> None:
    """Celery's clients tell the workers only; what the broker keeps reaches also those
    that start later."""
    from caraway.errors import CarawayError
    from caraway.interfaces import Capability

    transport = state.app.transport
    if ids and Capability.REVOKE in transport.capabilities:
        try:
            transport.revoke(ids, ttl=float(state.app.conf.result_expires or 86400.0))
        except CarawayError as exc:
            import logging

            logging.getLogger("caraway.worker").warning("a revocation isn't kept: %s", exc)


def _signal(text: str) -> str:
    try:
        return signal_name(signal_number(text))
    except ImproperlyConfigured as exc:
        raise ValueError(str(exc)) from None


@control_command(
    args=[("signal", _signal)],
    variadic="task_id",
    signature="SIGNAL TASK_ID...",
    help="Keep tasks from running, and end those that run.",
)
def terminate(state: ControlState, task_id: Any, signal: Any = None, **_: Any) -> Any:
    return revoke(state, task_id, terminate=True, signal=signal)


def _pairs(text: str) -> dict[str, list[str]]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ValueError("write NAME=VALUE")
    return {name: [value]}


@control_command(
    args=[("headers", _pairs)],
    signature="NAME=VALUE",
    help="Keep tasks that carry a stamp from running.",
)
def revoke_by_stamped_headers(
    state: ControlState,
    headers: Any,
    terminate: bool = False,  # noqa: FBT001, FBT002 - arguments of a request
    signal: Any = None,
    **_: Any,
) -> Any:
    signum = 0
    if terminate:
        try:
            signum = signal_number(signal)
        except ImproperlyConfigured as exc:
            return no(str(exc))
    if isinstance(headers, (list, tuple)):
        merged: dict[str, list[Any]] = {}
        for each in headers:
            for name, value in dict(each).items():
                merged.setdefault(name, []).append(value)
        headers = merged
    stamps = {
        str(name): [str(value) for value in values]
        if isinstance(values, (list, tuple, set))
        else [str(values)]
        for name, values in dict(headers).items()
    }
    worker = state.worker
    worker.post(lambda: worker.tell_lanes(do="revoke_stamps", stamps=stamps))
    if terminate:
        ids = {item["id"] for item in _stamped(state, stamps)}
        if ids:
            worker.post(lambda: worker.terminate(ids, signum))
            return ok(f"terminated {', '.join(sorted(ids))}")
    return ok(f"tasks with the stamps {stamps} flagged as revoked")


def _stamped(state: ControlState, stamps: dict[str, list[str]]) -> Iterable[dict[str, Any]]:
    from caraway.worker.admission import stamped

    for items in state.worker.ask_lanes().values():
        for item in items:
            if item["time_start"] and stamped(item, stamps):
                yield item


@control_command(
    args=[("task_name", str), ("rate_limit", str)],
    signature="TASK RATE",
    help="Change a task's rate limit: 10/s, 100/m, 5/h; 0 lifts it.",
)
def rate_limit(state: ControlState, task_name: str, rate_limit: Any, **_: Any) -> Any:
    from caraway.ratelimit import parse_rate

    try:
        per_second = parse_rate(rate_limit)
    except ValueError as exc:
        return no(f"Invalid rate limit string: {exc!r}")
    worker, tasks = state.worker, state.app.tasks
    if task_name not in tasks:
        return no(f"unknown task: {task_name}")
    tasks[task_name].rate_limit = rate_limit
    worker.post(lambda: worker.tell_lanes(do="rate_limit", task=task_name, rate=rate_limit))
    return ok(f"{'new rate limit set' if per_second else 'rate limit disabled'} successfully")


@control_command(
    args=[("task_name", str), ("soft", float), ("hard", float)],
    signature="TASK SOFT [HARD]",
    help="Change a task's time limits in seconds; 0 or none lifts one.",
)
def time_limit(
    state: ControlState, task_name: str, hard: Any = None, soft: Any = None, **_: Any
) -> Any:
    worker = state.worker
    if task_name not in state.app.tasks:
        return no(f"unknown task: {task_name}")
    limits = {"hard": float(hard or 0.0), "soft": float(soft or 0.0)}
    worker.post(lambda: worker.tell_lanes(do="time_limit", task=task_name, **limits))
    return ok("time limits set successfully")


# -- the pool ------------------------------------------------------------------------------


@control_command(args=[("n", int)], signature="[N=1]", help="Add processes.")
def pool_grow(state: ControlState, n: int = 1, **_: Any) -> Any:
    worker, more = state.worker, int(n)
    if not worker.processes:
        return no(f"the pool {worker.pool.name!r} has one process")
    worker.post(lambda: worker.resize(worker.target + more))
    return ok("pool will grow")


@control_command(
    args=[("n", int)], signature="[N=1]", help="Take processes away, each after what it runs."
)
def pool_shrink(state: ControlState, n: int = 1, **_: Any) -> Any:
    worker, less = state.worker, int(n)
    if not worker.processes:
        return no(f"the pool {worker.pool.name!r} has one process")
    worker.post(lambda: worker.resize(worker.target - less))
    return ok("pool will shrink")


@control_command(help="Replace every process, each after what it runs.")
def pool_restart(
    state: ControlState,
    modules: Any = None,
    reload: bool = False,  # noqa: FBT001, FBT002 - arguments of a request
    **_: Any,
) -> Any:
    if modules or reload:
        return no("code isn't imported anew in a running worker: restart it, or use --reload")
    state.worker.post(state.worker.recycle)
    return ok("reload started")


@control_command(
    args=[("max", int), ("min", int)],
    signature="[MAX [MIN]]",
    help="Change the bounds of a worker that was started with --autoscale.",
)
def autoscale(state: ControlState, max: Any = None, min: Any = None, **_: Any) -> Any:  # noqa: A002 - Celery's
    scaler = state.worker.autoscaler
    if scaler is None:
        return no("Autoscale not enabled: start the worker with --autoscale MAX,MIN")
    most, least = scaler.update(
        None if max is None else int(max), None if min is None else int(min)
    )
    return ok(f"autoscale now max={most} min={least}")


@control_command(help="Stop: what runs may end.")
def shutdown(state: ControlState, msg: str = "", **_: Any) -> Any:
    if msg:
        import logging

        logging.getLogger("caraway.worker").warning("remote control: shutdown: %s", msg)
    state.worker.post(state.worker.stop)
    return ok("shutting down")


# -- queues --------------------------------------------------------------------------------


@control_command(
    args=[("queue", str), ("exchange", str), ("exchange_type", str), ("routing_key", str)],
    signature="QUEUE [EXCHANGE [TYPE [ROUTING_KEY]]]",
    help="Consume one more queue.",
)
def add_consumer(
    state: ControlState,
    queue: str,
    exchange: str | None = None,
    exchange_type: str | None = None,
    routing_key: str | None = None,
    **options: Any,
) -> Any:
    from caraway.errors import CarawayError

    worker = state.worker
    if any(known.name == queue for known in worker.template.queues):
        return ok(f"already consuming from {queue!r}")
    try:
        found: Queue = state.app.queues([queue])[0]
    except CarawayError as exc:
        return no(str(exc))
    if exchange or routing_key:
        name = exchange or queue
        found = replace(
            found, exchange=name, exchange_type=exchange_type or "direct",
            routing_key=routing_key or name,
        )  # fmt: skip
    arguments = options.get("queue_arguments")
    if isinstance(arguments, dict):
        found = replace(found, arguments={**found.arguments, **arguments})
    # Here, so that what can't be is answered, and kills no lane.
    state.app.transport.declare([found])
    worker.post(lambda: worker.set_queues((*worker.template.queues, found)))
    return ok(f"add consumer {queue}")


@control_command(args=[("queue", str)], signature="QUEUE", help="No longer consume a queue.")
def cancel_consumer(state: ControlState, queue: str, **_: Any) -> Any:
    worker = state.worker
    left = tuple(known for known in worker.template.queues if known.name != queue)
    if len(left) < len(worker.template.queues):
        worker.post(lambda: worker.set_queues(left))
    return ok(f"no longer consuming from {queue}")


# -- events --------------------------------------------------------------------------------


@control_command(help="Publish events of tasks.")
def enable_events(state: ControlState, **_: Any) -> Any:
    worker = state.worker
    if worker.template.events:
        return ok("task events already enabled")
    worker.post(lambda: worker.set_events(on=True))
    return ok("task events enabled")


@control_command(help="Publish no events of tasks.")
def disable_events(state: ControlState, **_: Any) -> Any:
    worker = state.worker
    if not worker.template.events:
        return ok("task events already disabled")
    worker.post(lambda: worker.set_events(on=False))
    return ok("task events disabled")


@control_command(help="Send a heartbeat event now.")
def heartbeat(state: ControlState, **_: Any) -> None:
    if state.worker.heart is not None:
        state.worker.heart.beat()


@control_command(hidden=True, help="Elections are among Celery's workers.")
def election(state: ControlState, **_: Any) -> None:
    del state
