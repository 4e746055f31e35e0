"""The tasks that Celery's clients send without defining them: ``celery.map`` and its kin.

Workers register them when they start: docs/reference/wire-format.md, "Celery's own
tasks".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caraway import states
from caraway.canvas.expand import Expansion
from caraway.canvas.signature import maybe_signature
from caraway.errors import ChordError

if TYPE_CHECKING:
    from caraway.app import Caraway


def register(app: Caraway) -> None:
    """Register those that the app doesn't define itself."""
    known = app.tasks
    for name, (fun, options) in _TASKS.items():
        if name not in known:
            app.task(name=name, bind=True, **options)(fun)


def _map(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
    run = maybe_signature(task, self.app).type
    return [run(item) for item in it]


def _starmap(self: Any, task: Any, it: Iterable[Any]) -> list[Any]:
    run = maybe_signature(task, self.app).type
    return [run(*item) for item in it]


def _chunks(self: Any, task: Any, it: Iterable[Any], n: int) -> Any:
    items = list(it)
    parts = [
        {"task": "celery.starmap", "args": (), "options": {},
         "kwargs": {"task": task, "it": items[at : at + n]}}
        for at in range(0, len(items), n)
    ]  # fmt: skip
    return _send(
        self, {"task": "celery.group", "kwargs": {"tasks": parts}, "subtask_type": "group"}
    )


def _group(
    self: Any,
    tasks: Any,
    result: Any = None,
    group_id: str | None = None,
    partial_args: Sequence[Any] = (),
    **_: Any,
) -> Any:
    options = {"task_id": group_id} if group_id else {}
    sent = _send(
        self,
        {"task": "celery.group", "kwargs": {"tasks": tasks}, "options": options,
         "subtask_type": "group"},
        partial_args or (),
    )  # fmt: skip
    return result or sent


def _chord(self: Any, header: Any, body: Any, partial_args: Sequence[Any] = (), **_: Any) -> Any:
    _send(
        self,
        {"task": "celery.chord", "kwargs": {"header": header, "body": body}, "options": {},
         "subtask_type": "chord"},
        partial_args or (),
    )  # fmt: skip


def _chain(self: Any, *args: Any, **kwargs: Any) -> None:
    raise NotImplementedError(
        "celery.chain can't be called by its name: a chain is sent as its first task"
    )


def _accumulate(self: Any, *args: Any, index: int | None = None, **_: Any) -> Any:  # noqa: ARG001
    return list(args) if index is None else args[index]


def _backend_cleanup(self: Any) -> None:
    self.app.backend.cleanup()


def _chord_unlock(
    self: Any,
    group_id: str,
    callback: Any,
    interval: float | None = None,
    max_retries: int | None = None,
    result: Any = (),
    **_: Any,
) -> None:
    """Look whether the members of a chord have ended; if not, look again later.

    Sent by Celery's clients and workers for result backends that don't count.
    """
    app = self.app
    members = list(_ids(result))
    stored = app.backend.get(members)
    ended = {key for key, each in stored.items() if each.state in states.READY_STATES}
    failed = [key for key in members
              if key in ended and stored[key].state in states.PROPAGATE_STATES]  # fmt: skip
    if not failed and len(ended) < len(set(members)):
        pause = app.conf.result_chord_retry_interval if interval is None else interval
        raise self.retry(countdown=float(pause), max_retries=max_retries)
    try:
        if failed:
            cause = app.AsyncResult(failed[0]).result
            raise ChordError(f"Dependency {failed[0]} raised {cause!r}")
        values = {key: app.AsyncResult(key).result for key in members}
        made = Expansion(app, (group_id, "chord", 0), self.request.root_id, self.request.id)
        made.add(callback, (_shaped(result, values),))
    except ChordError as exc:
        _fail_body(app, self.request, group_id, callback, exc)
        return
    _publish(app, made)


def _fail_body(app: Caraway, request: Any, group_id: str, callback: Any, exc: ChordError) -> None:
    from caraway.canvas.follow import chord_errbacks
    from caraway.message import ChordEnd, ChordPart

    options = callback.get("options") or {}
    task_id = str(options.get("task_id") or "")
    if not task_id:
        return
    app.store_state(task_id, states.FAILURE, exc)
    part = ChordPart(group_id, str(request.id), -1, states.FAILURE, b"", 0)
    errbacks = chord_errbacks(app, ChordEnd(part, dict(callback), request.root_id), task_id)
    if errbacks:
        app.publish_all(errbacks)


def _ids(result: Any) -> Iterable[str]:
    for head, inner in result or ():
        if inner is None:
            yield str(head[0])
        else:
            yield from _ids(inner)


def _shaped(result: Any, values: Mapping[str, Any]) -> list[Any]:
    return [values[str(head[0])] if inner is None else _shaped(inner, values)
            for head, inner in result or ()]  # fmt: skip


def _send(task: Any, record: Mapping[str, Any], args: Sequence[Any] = ()) -> Any:
    """Send canvas from within a run; return its result as it travels."""
    request = task.request
    made = Expansion(task.app, (str(request.id), "sent", 0), request.root_id, request.id)
    made.add(record, args)
    _publish(task.app, made)
    ids = [each.message.headers["id"] for each in made.publications]
    group = made.publications[0].message.headers["group"] if made.publications else None
    return [[group, None], [[[each, None], None] for each in ids]]


def _publish(app: Caraway, made: Expansion) -> None:
    from caraway.interfaces import Capability

    if made.starts and Capability.CHORDS in app.backend.capabilities:
        app.backend.chord_start(made.starts)
    if made.publications:
        app.publish_all(made.publications)


_TASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "celery.accumulate": (_accumulate, {}),
    "celery.backend_cleanup": (_backend_cleanup, {}),
    "celery.chain": (_chain, {}),
    "celery.chord": (_chord, {}),
    "celery.chord_unlock": (_chord_unlock, {"max_retries": None, "ignore_result": True}),
    "celery.chunks": (_chunks, {}),
    "celery.group": (_group, {}),
    "celery.map": (_map, {}),
    "celery.starmap": (_starmap, {}),
}
