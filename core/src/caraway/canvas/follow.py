"""The messages that follow a run: callbacks, errbacks, the next link of a chain.

They are built here and published by the worker's commit.  Their ids are derived from the
run's, so that a run that was repeated after a crash sends the same messages again, and
not others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway import states
from caraway.canvas.signature import Signature, maybe_signature
from caraway.errors import InvalidTaskError
from caraway.message import ChordEnd, Publication

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.outcome import Outcome
    from caraway.request import Request


def publications(
    app: Caraway, request: Request, outcome: Outcome, kind: str
) -> tuple[Publication, ...]:
    """What is to be published after a run.

    Args:
        app: whose tasks they are.
        request: of the run.
        outcome: of the run.
        kind: ``callbacks`` or ``errbacks``; see `caraway.outcome.MEANING`.

    Raises:
        InvalidTaskError: something in the message is no signature.
        NotImplementedError: a kind of canvas that this version doesn't know.
    """
    if kind == "errbacks":
        return _errbacks(app, request, outcome)
    if outcome.state != states.SUCCESS:
        return ()
    made = [
        _follow_up(app, request, link, (outcome.value,), "callback", at)
        for at, link in enumerate(request.callbacks or ())
    ]
    if request.chain:
        rest = list(request.chain)
        step = rest.pop()  # the next one stands last
        made.append(
            _follow_up(app, request, step, (outcome.value,), "chain", 0, chain=rest or None)
        )
    return tuple(made)


def chord_body(app: Caraway, end: ChordEnd, values: list[Any]) -> Publication:
    """The body of a chord whose members all succeeded, with their results."""
    from caraway.task.publication import build, known_options

    signature = _read(app, end.body)
    options = known_options(signature.options)
    if not options.get("task_id"):
        options["task_id"] = derived_id(end.part.group_id, "chord", 0)
    options.setdefault("root_id", end.root_id)
    options.setdefault("parent_id", end.part.task_id)
    args = signature.args if signature.immutable else (values, *signature.args)
    task = app.tasks.get(signature.name)
    return build(app, signature.name, args, signature.kwargs, options, task).publication


def chord_errbacks(app: Caraway, end: ChordEnd, task_id: str) -> tuple[Publication, ...]:
    """The errbacks of a chord's body that won't run.

    Args:
        task_id: of the body.
    """
    from caraway.request import Request

    links = (end.body.get("options") or {}).get("link_error") or ()
    listed = links if isinstance(links, (list, tuple)) else [links]
    headers = {"id": task_id, "task": end.body.get("task"), "root_id": end.root_id}
    request = Request(headers, (), {}, {}, None, "")
    return tuple(
        _follow_up(app, request, link, (task_id,), "errback", at) for at, link in enumerate(listed)
    )


def _errbacks(app: Caraway, request: Request, outcome: Outcome) -> tuple[Publication, ...]:
    made = []
    for at, link in enumerate(request.errbacks or ()):
        signature = _read(app, link)
        task = app.tasks.get(signature.name)
        if task is not None and takes_failure(task, len(signature.args)):
            # as in Celery: an errback of (request, exc, traceback) needs the exception
            # itself, which no message can carry, so it is called here
            call_errback(task, signature, request, outcome)
            continue
        made.append(_follow_up(app, request, link, (request.id,), "errback", at))
    return tuple(made)


def takes_failure(task: Any, given: int = 0) -> bool:
    """True if an errback wants ``(request, exc, traceback)`` rather than the id: it needs
    more than one argument beside those that its signature gives."""
    check = task.argument_check
    if check is None:
        return False
    code = check.__code__
    needed = code.co_argcount - len(check.__defaults__ or ()) - given
    return bool(needed > 1 or code.co_flags & 0x04)


def call_errback(task: Any, signature: Signature[Any], request: Any, outcome: Outcome) -> None:
    """Call an errback in place; its own failure is logged."""
    try:
        args = (request, outcome.value, outcome.traceback)
        task(*(signature.args if signature.immutable else (*args, *signature.args)),
             **signature.kwargs)  # fmt: skip
    except Exception:
        import logging

        logging.getLogger("caraway.task").exception(
            "errback %s of task %s[%s] failed", signature.name, request.task, request.id
        )


def derived_id(parent: str, kind: str, position: int) -> str:
    """A UUID (version 5's shape) that is the same whenever the same run asks for it."""
    from hashlib import sha256

    text = bytearray(sha256(f"caraway:{parent}:{kind}:{position}".encode()).digest()[:16])
    text[6] = text[6] & 0x0F | 0x50
    text[8] = text[8] & 0x3F | 0x80
    raw = text.hex()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def _read(app: Caraway, link: Any) -> Signature[Any]:
    signature = maybe_signature(link, app)
    if not isinstance(signature, Signature):
        raise InvalidTaskError(f"not a signature: {str(link)[:200]}")
    return signature


def _follow_up(
    app: Caraway,
    request: Request,
    link: Any,
    args: tuple[Any, ...],
    kind: str,
    position: int,
    *,
    chain: list[Any] | None = None,
) -> Publication:
    from caraway.task.publication import build, known_options

    signature = _read(app, link)
    merged = signature.args if signature.immutable else (*args, *signature.args)
    options = known_options(signature.options)
    # Links that follow the last step of a chain come with the chain's own.
    if not options.get("task_id"):
        options["task_id"] = derived_id(str(request.id), kind, position)
    options["root_id"] = request.root_id
    options["parent_id"] = request.id
    if chain is not None:
        options["chain"] = chain
    task = app.tasks.get(signature.name)
    return build(app, signature.name, merged, signature.kwargs, options, task).publication
