"""The messages that follow a run: callbacks, errbacks, the next link of a chain.

They are built here and published by the worker's commit.  Their ids are derived from the
run's, so that a run that was repeated after a crash sends the same messages again, and
not others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway import states
from caraway.canvas.expand import Expansion
from caraway.canvas.signature import Signature, maybe_signature
from caraway.errors import InvalidTaskError
from caraway.message import ChordEnd, ChordStart, Publication

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.outcome import Outcome
    from caraway.request import Request


def publications(
    app: Caraway, request: Request, outcome: Outcome, kind: str
) -> tuple[tuple[Publication, ...], tuple[ChordStart, ...]]:
    """What is to be published after a run, and the chords that begin with it.

    Args:
        app: whose tasks they are.
        request: of the run.
        outcome: of the run.
        kind: ``callbacks`` or ``errbacks``; see `caraway.outcome.MEANING`.

    Raises:
        InvalidTaskError: something in the message is no signature.
    """
    if kind == "errbacks":
        return _errbacks(app, request, outcome), ()
    if outcome.state != states.SUCCESS:
        return (), ()
    made = [
        _follow_up(app, request, link, (outcome.value,), "callback", at)
        for at, link in enumerate(request.callbacks or ())
    ]
    if request.chain:
        rest = list(request.chain)
        step = rest.pop()  # the next one stands last
        made.append(_follow_up(app, request, step, (outcome.value,), "chain", 0, rest))
    return (
        tuple(each for one in made for each in one.publications),
        tuple(each for one in made for each in one.starts),
    )


def chord_body(app: Caraway, end: ChordEnd, values: list[Any]) -> Expansion:
    """The body of a chord whose members all succeeded, with their results."""
    made = Expansion(app, (end.part.group_id, "chord", 0), end.root_id, end.part.task_id)
    made.add(end.body, (values,))
    return made


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
        each
        for at, link in enumerate(listed)
        for each in _follow_up(app, request, link, (task_id,), "errback", at).publications
    )


def _errbacks(app: Caraway, request: Request, outcome: Outcome) -> tuple[Publication, ...]:
    made: list[Publication] = []
    for at, link in enumerate(request.errbacks or ()):
        if isinstance(link, dict) and link.get("subtask_type"):
            made += _follow_up(app, request, link, (request.id,), "errback", at).publications
            continue
        signature = _read(app, link)
        task = app.tasks.get(signature.name)
        if task is not None and takes_failure(task, len(signature.args)):
            # as in Celery: an errback of (request, exc, traceback) needs the exception
            # itself, which no message can carry, so it is called here
            call_errback(task, signature, request, outcome)
            continue
        made += _follow_up(app, request, link, (request.id,), "errback", at).publications
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
    chain: list[Any] | None = None,
) -> Expansion:
    made = Expansion(app, (str(request.id), kind, position), request.root_id, request.id)
    made.reply_to = request.reply_to or ""
    made.add(link, args, {"chain": chain or None})
    return made
