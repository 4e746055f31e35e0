"""What a worker sends for a signature of any kind: the publications of its first tasks.

A step of a chain, a callback or the body of a chord may be a chain, group or chord, as
data.  Celery's clients write them so: docs/reference/wire-format.md, "Signatures".  Ids
that a signature doesn't have yet are derived from the run that sends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caraway.errors import InvalidTaskError
from caraway.message import ChordStart, Publication

if TYPE_CHECKING:
    from caraway.app import Caraway

Record = Mapping[str, Any]
_DEPTH = 50
"""Of canvas in canvas: what came over the wire must not exhaust the stack."""


class Expansion:
    """Collects what is to be published.

    Args:
        app: whose tasks and settings apply.
        seed: what ids that are missing are derived from: of `derived_id`.
        root_id: of the workflow; None: each task that begins one is its own.
        parent_id: of the task that sends.

    Attributes:
        publications: in the order in which they should be published.
        starts: of the chords whose headers are among them.
        reply_to: where results of tasks go that don't say it themselves.
    """

    reply_to = ""

    def __init__(
        self,
        app: Caraway,
        seed: tuple[str, str, int],
        root_id: str | None,
        parent_id: str | None,
    ) -> None:
        self._app = app
        self._seed = seed
        self._count = 0
        self._lineage = {"root_id": root_id, "parent_id": parent_id}
        self._ttl = chord_ttl(app)
        self.publications: list[Publication] = []
        self.starts: list[ChordStart] = []

    def add(
        self, record: Any, args: Sequence[Any] = (), options: Record | None = None, depth: int = 0
    ) -> None:
        """Send a signature.

        Args:
            record: of any kind.
            args: go in front of its own, unless it is immutable.
            options: in place of its own; ``link`` and ``link_error`` beside its own, and
                ``chain`` after its own.
            depth: of the canvas that it stands in.

        Raises:
            InvalidTaskError: it is no signature.
            EncodeError: arguments that can't be written.
        """
        if not isinstance(record, Mapping) or not isinstance(record.get("task"), str):
            raise InvalidTaskError(f"not a signature: {str(record)[:200]}")
        kind = record.get("subtask_type")
        if depth > _DEPTH:
            raise InvalidTaskError(f"canvas within canvas, {_DEPTH} times")
        if record.get("immutable"):
            args = ()
        merged = _merged(record.get("options") or {}, options or {})
        if not kind:
            self._task(record, args, merged)
        elif kind == "chain":
            self._chain(record, args, merged, depth + 1)
        elif kind == "group":
            self._group(record, args, merged, depth + 1)
        elif kind == "chord":
            self._chord(record, args, merged, depth + 1)
        else:
            raise InvalidTaskError(f"a signature of the unknown kind {str(kind)[:50]!r}")

    def _task(self, record: Record, args: Sequence[Any], options: dict[str, Any]) -> None:
        from caraway.task.publication import build, known_options

        name = record["task"]
        chosen = known_options(options)
        if not chosen.get("task_id"):
            chosen["task_id"] = self._new_id()
        if not chosen.get("reply_to"):
            chosen["reply_to"] = self.reply_to or self._app.oid
        chosen.update((key, value) for key, value in self._lineage.items() if value)
        given = (*args, *(record.get("args") or ()))
        kwargs = dict(record.get("kwargs") or {})
        task = self._app.tasks.get(name)
        self.publications.append(build(self._app, name, given, kwargs, chosen, task).publication)

    def _chain(
        self, record: Record, args: Sequence[Any], options: dict[str, Any], depth: int
    ) -> None:
        steps = _with_chords(_tasks_of(record))
        if not steps:
            return
        errbacks = options.get("link_error")
        if errbacks:
            steps = [_optioned(step, {"link_error": errbacks}) for step in steps]
        # Whatever holds for the whole holds for its last step: that is its result.
        last = {
            key: options[key]
            for key in ("link", "task_id", "group_id", "group_index", "chord")
            if options.get(key) is not None
        }
        if (steps[-1].get("options") or {}).get("task_id"):
            last.pop("task_id", None)
        steps[-1] = _optioned(steps[-1], last)
        rest = [*(options.get("chain") or ()), *reversed(steps[1:])]
        given = (*args, *(record.get("args") or ()))
        self.add(steps[0], given, {"chain": rest or None}, depth)

    def _group(
        self, record: Record, args: Sequence[Any], options: dict[str, Any], depth: int
    ) -> None:
        rest = list(options.get("chain") or ())
        if rest:
            body = rest.pop()
            whole = _chord_of(record, body)
            keys = ("link", "link_error", "chord", "group_id", "group_index")
            passed = {key: options.get(key) for key in keys}
            self._chord(whole, args, {**passed, "chain": rest or None}, depth + 1)
            return
        chord = options.get("chord")
        group_id = options.get("group_id") if chord else None
        group_id = group_id or options.get("task_id") or self._new_id()
        for at, (member, given) in enumerate(_members(record, args, depth)):
            passed = {
                "group_id": group_id,
                "group_index": options.get("group_index") if chord else at,
                "chord": chord,
                "link_error": options.get("link_error"),
                "link": options.get("link") if at == 0 else None,
            }
            self.add(member, given, passed, depth)

    def _chord(
        self, record: Record, args: Sequence[Any], options: dict[str, Any], depth: int
    ) -> None:
        kwargs = record.get("kwargs") or {}
        header, body = kwargs.get("header"), kwargs.get("body")
        if not isinstance(body, Mapping):
            raise InvalidTaskError("a chord without a body")
        whole: Record = header if isinstance(header, Mapping) else {"kwargs": {"tasks": header}}
        args = (*args, *(record.get("args") or ()))
        members = list(_members(whole, args, depth))
        header_options = whole.get("options") or {}
        group_id = header_options.get("task_id") or self._new_id()
        keys = ("link", "link_error", "chain", "chord", "group_id", "group_index")
        body = _optioned(body, {key: options[key] for key in keys if options.get(key) is not None})
        own = body["options"]
        if not own.get("task_id"):
            given = options.get("task_id")
            own["task_id"] = given if given and given != group_id else self._new_id()
        size = sum(size_of(member, depth) for member, _ in members)
        if not size:
            self.add(body, ([],), {}, depth)
            return
        body["chord_size"] = size
        self.starts.append(ChordStart(str(group_id), size, self._ttl))
        for at, (member, given) in enumerate(members):
            passed = {"group_id": group_id, "group_index": at, "chord": body}
            self.add(member, given, passed, depth)

    def _new_id(self) -> str:
        count, self._count = self._count, self._count + 1
        parent, kind, position = self._seed
        if not count:
            return derived_id(parent, kind, position)
        return derived_id(f"{parent}:{kind}:{position}", "canvas", count)


def derived_id(parent: str, kind: str, position: int) -> str:
    """A UUID (version 5's shape) that is the same whenever the same run asks for it."""
    from hashlib import sha256

    text = bytearray(sha256(f"caraway:{parent}:{kind}:{position}".encode()).digest()[:16])
    text[6] = text[6] & 0x0F | 0x50
    text[8] = text[8] & 0x3F | 0x80
    raw = text.hex()
    return f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}"


def chord_ttl(app: Caraway) -> float:
    """Seconds for which what is counted of a chord is kept."""
    return float(app.conf.result_chord_expires or app.conf.result_expires or 0.0)


def size_of(record: Any, depth: int = 0) -> int:
    """How many ends of tasks a member of a chord's header comes to."""
    kind = record.get("subtask_type") if isinstance(record, Mapping) else None
    if not kind or depth > _DEPTH:
        return 1
    if kind == "chord":
        return size_of((record.get("kwargs") or {}).get("body"), depth + 1)
    steps = _with_chords(_tasks_of(record)) if kind == "chain" else _tasks_of(record)
    if kind == "group":
        return sum(size_of(step, depth + 1) for step in steps)
    return size_of(steps[-1], depth + 1) if steps else 0


def _tasks_of(record: Record) -> list[dict[str, Any]]:
    tasks = (record.get("kwargs") or {}).get("tasks")
    if isinstance(tasks, Mapping):  # a group may hold a group in place of its tasks
        return _tasks_of(tasks)
    if not isinstance(tasks, (list, tuple)):
        raise InvalidTaskError(f"a {record.get('subtask_type') or 'header'} without tasks")
    return [_optioned(each, {}) for each in tasks]


def _members(
    record: Record, args: Sequence[Any], depth: int
) -> list[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Tasks of a group with what goes in front of their arguments; those of groups within
    it are its own."""
    if depth > _DEPTH:
        raise InvalidTaskError(f"canvas within canvas, {_DEPTH} times")
    given = () if record.get("immutable") else (*args, *(record.get("args") or ()))
    members = []
    for task in _tasks_of(record):
        if task.get("subtask_type") == "group":
            members += _members(task, given, depth + 1)
        else:
            members.append((task, given))
    return members


def _with_chords(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Steps of a chain, each group with the step after it as one chord."""
    made: list[dict[str, Any]] = []
    for step in steps:
        if made and made[-1].get("subtask_type") == "group":
            step = _chord_of(made.pop(), step)  # noqa: PLW2901 - the two are one
        made.append(step)
    return made


def _chord_of(header: Record, body: Any) -> dict[str, Any]:
    return {
        "task": "celery.chord",
        "args": (),
        "kwargs": {"kwargs": {}, "header": header, "body": body},
        "options": {},
        "subtask_type": "chord",
        "immutable": False,
    }


def _optioned(record: Any, options: Record) -> dict[str, Any]:
    """A copy of a signature with further options."""
    if not isinstance(record, Mapping):
        raise InvalidTaskError(f"not a signature: {str(record)[:200]}")
    return {**record, "options": _merged(record.get("options") or {}, options)}


def _merged(own: Record, more: Record) -> dict[str, Any]:
    merged = dict(own)
    for key, value in more.items():
        if value is None:
            continue
        if key in ("link", "link_error") and own.get(key):
            known = _listed(own[key])
            merged[key] = [*known, *(each for each in _listed(value) if each not in known)]
        elif key == "chain" and own.get(key):
            merged[key] = [*value, *own[key]]  # the next one stands last
        else:
            merged[key] = value
    return merged


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
