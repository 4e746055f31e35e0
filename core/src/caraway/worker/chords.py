"""Chords in messages: a member reports its end, the last one has the body sent.

Semantics and wire are Celery's: docs/reference/wire-format.md, "Chords".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from caraway import states
from caraway.errors import ChordError
from caraway.interfaces.context import Capability
from caraway.message import ChordEnd, ChordPart, Completion, Publication, StoredResult
from caraway.protocol.result import decode_exception, encode_exception, encode_meta

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend
    from caraway.outcome import Outcome
    from caraway.request import Request


def end_of(app: Caraway, request: Request, outcome: Outcome, ttl: float) -> ChordEnd | None:
    """The end of a member that ran, or was not to run; None if it is a member of none."""
    body, task_id, group, index = request.chord, request.id, request.group, request.group_index
    if not body and request.chain and outcome.state in states.PROPAGATE_STATES:
        # The rest of its chain won't run: who waits for the last step must be told.
        for step in request.chain:
            options = step.get("options") or {}
            if options.get("chord"):
                body, task_id = options["chord"], options.get("task_id")
                group, index = options.get("group_id"), options.get("group_index")
    if not body or not group or not task_id:
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
    options = body.get("options") or {}
    size = body.get("chord_size") or options.get("chord_size") or 0
    part = ChordPart(
        group_id=str(group),
        task_id=str(task_id),
        index=index if type(index) is int else -1,
        state=outcome.state,
        payload=serializer.dumps([1, task_id, outcome.state, value]),
        size=size if type(size) is int and size > 0 else 0,
        ttl=ttl,
    )
    return ChordEnd(part, dict(body), request.root_id)


def settle(
    app: Caraway, backend: Backend, completions: Sequence[Completion]
) -> tuple[list[Completion], list[str]]:
    """Report the ends among these; return the completions with the bodies that are to be
    sent now, and the groups they are of.

    May be repeated: a member is counted once.

    Raises:
        OperationalError: the backend can't just now.
    """
    ends = [c.chord for c in completions if c.chord is not None]
    answers = iter(backend.chord_parts([end.part for end in ends]))
    made: list[Completion] = []
    done: list[str] = []
    failed: list[StoredResult] = []
    for completion in completions:
        end = completion.chord
        payloads = next(answers) if end is not None else None
        if end is None or payloads is None:
            made.append(completion)
            continue
        done.append(end.part.group_id)
        publications, result = _finish(app, end, payloads)
        if result is not None:
            failed.append(result)
        made.append(replace(completion, publications=(*completion.publications, *publications)))
    if failed:
        backend.store(failed)
    return made, done


def _finish(
    app: Caraway, end: ChordEnd, payloads: Sequence[bytes]
) -> tuple[tuple[Publication, ...], StoredResult | None]:
    """The body with the results of all members; or, if one failed, the body's errbacks
    and its own failure."""
    from caraway.canvas import follow

    serializer = app.registry.serializer(app.conf.result_serializer)
    part = end.part
    try:
        values = []
        for payload in payloads:
            _, task_id, state, value = serializer.loads(payload)
            if state in states.PROPAGATE_STATES:
                raise ChordError(f"Dependency {task_id} raised {decode_exception(value)!r}")
            values.append(value)
        return (follow.chord_body(app, end, values),), None
    except Exception as exc:  # noqa: BLE001 - a body that can't be sent fails, as its run would
        error = exc if isinstance(exc, ChordError) else ChordError(f"Callback error: {exc!r}")
    import logging

    logging.getLogger("caraway.worker").error("chord %s: %s", part.group_id, error)
    task_id = str((end.body.get("options") or {}).get("task_id") or "")
    if not task_id:
        return (), None
    ttl = float(app.conf.result_expires or 0.0)
    payload = encode_meta(serializer, task_id, states.FAILURE, encode_exception(error))
    errbacks = follow.chord_errbacks(app, end, task_id)
    return errbacks, StoredResult(task_id, states.FAILURE, payload, ttl)
