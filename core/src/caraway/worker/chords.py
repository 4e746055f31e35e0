"""Workflows in messages: what the end of a run means for the chord that it is a member
of, and for the steps that would follow it.

Semantics and wire are Celery's: docs/reference/wire-format.md, "Chords".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from caraway import states
from caraway.canvas.expand import chord_ttl
from caraway.errors import ChordError, DecodeError, OperationalError
from caraway.interfaces.context import Capability
from caraway.message import (
    ChordEnd,
    ChordPart,
    ChordStart,
    Completion,
    Publication,
    StoredResult,
    Workflow,
)
from caraway.protocol.result import decode_exception, encode_exception, encode_meta

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend, Serializer
    from caraway.outcome import Outcome
    from caraway.request import Request


def workflow_of(
    app: Caraway, request: Request, outcome: Outcome, ttl: float, starts: tuple[ChordStart, ...]
) -> Workflow | None:
    """What the end of a run, or of what was not to run, changes beyond itself.

    Args:
        app: its settings apply.
        request: of the run.
        outcome: of the run.
        ttl: of results, seconds.
        starts: chords whose headers follow the run.
    """
    failed: tuple[StoredResult, ...] = ()
    end: ChordEnd | None = None
    if outcome.state in states.PROPAGATE_STATES and request.chain:
        # The rest of its chain won't run: who waits for the last step must be told.
        failed = tuple(_failures(app, request, outcome, ttl))
        for step in request.chain:
            options = _options(step)
            if options.get("chord") and end is None:
                task_id, group = options.get("task_id"), options.get("group_id")
                body, index = options["chord"], options.get("group_index")
                end = _end(app, request, outcome, (body, task_id, group, index))
    if request.chord and end is None:
        member = (request.chord, request.id, request.group, request.group_index)
        end = _end(app, request, outcome, member)
    if end is None and not starts and not failed:
        return None
    return Workflow(end, starts, failed)


def _options(step: Any) -> Mapping[str, Any]:
    found = step.get("options") if isinstance(step, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _failures(
    app: Caraway, request: Request, outcome: Outcome, ttl: float
) -> Iterator[StoredResult]:
    """The failure of the run, as that of each step after it."""
    if not app.backend_enabled or request.ignore_result:
        return
    serializer = app.registry.serializer(app.conf.result_serializer)
    error = encode_exception(outcome.value)
    for step in request.chain or ():
        task_id = _options(step).get("task_id")
        if isinstance(task_id, str) and task_id:
            payload = encode_meta(
                serializer, task_id, outcome.state, error, traceback=outcome.traceback
            )
            reply_to = str(_options(step).get("reply_to") or "")
            yield StoredResult(task_id, outcome.state, payload, ttl, reply_to)


def _end(
    app: Caraway,
    request: Request,
    outcome: Outcome,
    member: tuple[Any, Any, Any, Any],
) -> ChordEnd | None:
    """The end of a member ``(body, task id, group id, index)``."""
    body, task_id, group, index = member
    if not isinstance(body, Mapping) or not group or not task_id:
        return None
    if not app.backend_enabled or Capability.CHORDS not in app.backend.capabilities:
        import logging

        logging.getLogger("caraway.worker").error(
            "task %s[%s] is a member of chord %s, which this result backend can't complete: "
            "its body won't run. Use one with the capability chords (caraway plugins list).",
            request.task, task_id, group,
        )  # fmt: skip
        return None
    value = outcome.value
    if outcome.state in states.EXCEPTION_STATES:
        value = encode_exception(value)
    serializer = app.registry.serializer(app.conf.result_serializer)
    size = body.get("chord_size") or _options(body).get("chord_size") or 0
    part = ChordPart(
        group_id=str(group),
        task_id=str(task_id),
        index=index if type(index) is int else -1,
        state=outcome.state,
        payload=serializer.dumps([1, task_id, outcome.state, value]),
        size=size if type(size) is int and size > 0 else 0,
        ttl=chord_ttl(app),
    )
    return ChordEnd(part, dict(body), request.root_id)


def settle(
    app: Caraway, backend: Backend, completions: Sequence[Completion]
) -> tuple[list[Completion], list[str]]:
    """Apply what these change in their workflows, but for publishing; return the
    completions with the bodies of chords that are to be sent now, and the chords' ids.

    May be repeated: a member is counted once.

    Raises:
        OperationalError: the backend can't just now.
    """
    flows = [c.workflow for c in completions if c.workflow is not None]
    failed = [result for flow in flows for result in flow.failed]
    starts = [start for flow in flows for start in flow.starts]
    ends = [flow.end for flow in flows if flow.end is not None]
    parts = [end.part for end in ends]
    answers = iter(backend.chord_parts(parts) if parts else ())
    made: list[Completion] = []
    done: list[str] = []
    for completion in completions:
        end = completion.workflow.end if completion.workflow is not None else None
        payloads = next(answers) if end is not None else None
        if end is None or payloads is None:
            made.append(completion)
            continue
        done.append(end.part.group_id)
        publications, begun, results = _finish(app, backend, end, payloads)
        starts += begun
        failed += results
        made.append(replace(completion, publications=(*completion.publications, *publications)))
    if failed:
        backend.store(failed)
    if starts and Capability.CHORDS in backend.capabilities:
        backend.chord_start(starts)
    return made, done


def _finish(
    app: Caraway, backend: Backend, end: ChordEnd, payloads: Sequence[bytes]
) -> tuple[tuple[Publication, ...], Sequence[ChordStart], Sequence[StoredResult]]:
    """The body with the results of all members; or, if one failed, the body's errbacks
    and its own failure."""
    from caraway.canvas import follow

    serializer = app.registry.serializer(app.conf.result_serializer)
    part = end.part
    try:
        values = {}
        for payload in payloads:
            _, task_id, state, value = serializer.loads(payload)
            if state in states.PROPAGATE_STATES:
                raise ChordError(f"Dependency {task_id} raised {decode_exception(value)!r}")
            values[task_id] = value
        body = follow.chord_body(app, end, _shaped(serializer, backend, part.group_id, values))
    except OperationalError:
        raise  # nothing is wrong with the chord: the store can't just now
    except Exception as exc:  # noqa: BLE001 - a body that can't be sent fails, as its run would
        error = exc if isinstance(exc, ChordError) else ChordError(f"Callback error: {exc!r}")
    else:
        return tuple(body.publications), body.starts, ()
    import logging

    logging.getLogger("caraway.worker").error("chord %s: %s", part.group_id, error)
    task_id = str(_options(end.body).get("task_id") or "")
    if not task_id:
        return (), (), ()
    ttl = float(app.conf.result_expires or 0.0)
    record = encode_exception(error)
    failures = []
    # The chord may be a step of a chain, whose rest won't run either.
    for step in (end.body, *(_options(end.body).get("chain") or ())):
        each = _options(step).get("task_id")
        if isinstance(each, str) and each:
            payload = encode_meta(serializer, each, states.FAILURE, record)
            reply_to = str(_options(step).get("reply_to") or "")
            failures.append(StoredResult(each, states.FAILURE, payload, ttl, reply_to))
    return follow.chord_errbacks(app, end, task_id), (), failures


def _shaped(
    serializer: Serializer, backend: Backend, group_id: str, values: dict[str, Any]
) -> list[Any]:
    """The members' values, in order; where the header held groups, whose shape its sender
    kept in the backend, in lists of that shape."""
    flat = list(values.values())
    if Capability.GROUPS not in backend.capabilities:
        return flat
    kept = backend.restore_group(group_id)
    if kept is None:
        return flat
    try:
        _, members = serializer.loads(kept)["result"]
        return _values_of(members, values)
    except (KeyError, TypeError, ValueError, DecodeError):
        return flat


def _values_of(members: Any, values: dict[str, Any]) -> list[Any]:
    return [
        values[head[0]] if inner is None else _values_of(inner, values) for head, inner in members
    ]
