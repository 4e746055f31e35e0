"""Builds the publication of one call, with every option there is.

`Task.delay` has a shorter way (`caraway.task.plan`) for the common case; both make the
same message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from caraway import signals
from caraway.message import Message, Publication
from caraway.protocol.body import EMPTY_EMBED, encode_body
from caraway.protocol.ids import new_id
from caraway.protocol.times import iso
from caraway.protocol.v2 import due_time, expiration, expiry_time, header_template
from caraway.request import current_request

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.task import Task

_PROPERTIES = frozenset(
    ("app_id", "cluster_id", "correlation_id", "delivery_mode", "expiration", "message_id",
     "reply_to", "timestamp", "type", "user_id")
)  # fmt: skip
_KNOWN = frozenset(
    ("add_to_parent", "argsrepr", "chain", "chord", "compression", "countdown", "eta", "exchange",
     "expires", "group", "group_id", "group_index", "headers", "ignore_result", "kwargsrepr",
     "link", "link_error", "parent_id", "priority", "queue", "replaced_task_nesting", "retries",
     "root_id", "routing_key", "serializer", "shadow", "soft_time_limit", "stamped_headers",
     "task_id", "task_type", "time_limit")
)  # fmt: skip
_MEANINGLESS = frozenset(
    ("confirm_timeout", "connection", "content_encoding", "content_type", "declare",
     "exchange_type", "immediate", "mandatory", "producer", "publisher", "result_cls",
     "route_name", "router")
)  # fmt: skip
"""Celery's, accepted: they steer what Caraway does by itself, or never did anything."""
FROM_TASK = (
    "queue", "exchange", "routing_key", "priority", "serializer", "compression", "expires",
    "time_limit", "soft_time_limit", "ignore_result", "delivery_mode",
)  # fmt: skip
"""Options that a task's attribute gives where the call doesn't."""
REPR_SIZE = 1024


class Unsent:
    """A publication that is ready, and what signals want to know of it."""

    __slots__ = ("body", "publication", "task_id")

    def __init__(self, task_id: str, publication: Publication, body: Any) -> None:
        self.task_id = task_id
        self.publication = publication
        self.body = body


def build(
    app: Caraway,
    name: str,
    args: Any,
    kwargs: Any,
    options: Mapping[str, Any],
    task: Task[Any, Any] | None = None,
) -> Unsent:
    """Build a call's publication.

    Args:
        app: whose settings and routes apply.
        name: of the task.
        args: positional arguments, None for none.
        kwargs: keyword arguments, None for none.
        options: of `Task.apply_async`.
        task: whose attributes apply; None for tasks known by name only.

    Raises:
        TypeError: an option that doesn't exist.
        EncodeError: arguments that can't be written.
    """
    _check_options(options)
    conf = app.conf
    given = dict(options)
    if task is not None:
        for option in FROM_TASK:
            if given.get(option) is None:
                given[option] = getattr(task, option, None)
    args = () if args is None else tuple(args)
    kwargs = {} if kwargs is None else dict(kwargs)
    request = current_request.get()
    if given.get("priority") is None and request is not None and conf.task_inherit_parent_priority:
        given["priority"] = request.delivery.priority if request.delivery else None
    route = app.router.route(name, args, kwargs, _place(given), task)
    for option, value in route.options.items():
        if given.get(option) is None:
            given[option] = value
    priority = route.priority if route.priority is not None else conf.task_default_priority
    task_id = given.get("task_id") or new_id()
    if not isinstance(task_id, str):
        task_id = str(task_id)
    headers, due, expires = _headers(app, name, task_id, given, request)
    properties = _properties(app, task_id, given, priority)
    if expires:
        properties["expiration"] = expiration(expires - app.context.clock())
    if conf.task_send_argsrepr or "argsrepr" in given:
        headers["argsrepr"] = given.get("argsrepr") or _shown(args)
        headers["kwargsrepr"] = given.get("kwargsrepr") or _shown(kwargs)
    embed = {
        "callbacks": _signatures(given.get("link")),
        "errbacks": _signatures(given.get("link_error")),
        "chain": given.get("chain"),
        "chord": given.get("chord"),
    }
    body = (args, kwargs, embed)
    if signals.before_task_publish.receivers:
        signals.before_task_publish.send(
            sender=name, body=body, exchange=route.exchange, headers=headers,
            routing_key=route.routing_key or route.queue, properties=properties,
            declare=[], retry_policy=given.get("retry_policy"),
        )  # fmt: skip
    serializer = app.registry.serializer(given.get("serializer") or conf.task_serializer)
    data = encode_body(serializer, args, kwargs, embed if any(embed.values()) else EMPTY_EMBED)
    compression = given.get("compression") or conf.task_compression
    if compression:
        compressor = app.registry.compressor(compression)
        data = compressor.compress(data)
        headers["compression"] = compressor.content_type
    message = Message(
        data, headers, serializer.content_type, serializer.content_encoding, properties
    )
    publication = Publication(
        message, route.queue, route.exchange, route.routing_key, priority or 0, due, expires
    )
    return Unsent(task_id, publication, body)


def known_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a signature that came over the wire, the options that mean something here."""
    return {key: options[key] for key in (_KNOWN | _PROPERTIES) & options.keys()}


def sent(name: str, unsent: Unsent) -> None:
    """Tell who listens that it was published."""
    publication = unsent.publication
    signals.after_task_publish.send(
        sender=name,
        body=unsent.body,
        headers=publication.message.headers,
        exchange=publication.exchange,
        routing_key=publication.routing_key or publication.queue,
    )


def lineage(request: Any, task_id: str) -> tuple[str, str | None]:
    """``(root_id, parent_id)`` of a task sent now."""
    if request is None or request.id is None:
        return task_id, None
    return request.root_id or request.id, request.id


def _headers(
    app: Caraway, name: str, task_id: str, given: Mapping[str, Any], request: Any
) -> tuple[dict[str, Any], float, float]:
    now = app.context.clock()
    due = due_time(countdown=given.get("countdown"), eta=given.get("eta"), now=now)
    expires = expiry_time(given.get("expires"), now=now)
    headers = header_template(
        name,
        origin=app.origin,
        ignore_result=bool(given.get("ignore_result")),
        time_limit=given.get("time_limit"),
        soft_time_limit=given.get("soft_time_limit"),
        shadow=given.get("shadow"),
    )
    root, parent = lineage(request, task_id)
    headers["id"] = task_id
    headers["eta"] = iso(due) if due else None
    headers["expires"] = iso(expires) if expires else None
    headers["group"] = given.get("group_id") or given.get("group")
    headers["group_index"] = given.get("group_index")
    headers["retries"] = given.get("retries") or 0
    headers["root_id"] = given.get("root_id") or root
    headers["parent_id"] = given.get("parent_id") or parent
    headers["replaced_task_nesting"] = given.get("replaced_task_nesting") or 0
    stamped = given.get("stamped_headers")
    if stamped:
        headers["stamped_headers"] = list(stamped)
        headers["stamps"] = {each: given.get(each) for each in stamped}
    extra = given.get("headers")
    if extra:
        headers.update(extra)
    return headers, due, expires


def _properties(
    app: Caraway, task_id: str, given: Mapping[str, Any], priority: int | None
) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "correlation_id": task_id,
        "reply_to": given.get("reply_to")
        or (app.oid if given.get("ignore_result") else app.reply_to),
        "delivery_mode": given.get("delivery_mode") or app.conf.task_default_delivery_mode,
    }
    if priority is not None:
        properties["priority"] = priority
    for name in _PROPERTIES:
        if given.get(name) is not None:
            properties[name] = given[name]
    return properties


def _place(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given.get(name) for name in ("queue", "exchange", "routing_key", "priority")}


def _signatures(value: Any) -> list[dict[str, Any]] | None:
    if not value:
        return None
    listed = value if isinstance(value, (list, tuple)) else [value]
    return [dict(each) for each in listed]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= REPR_SIZE else text[: REPR_SIZE - 3] + "..."


def _check_options(options: Mapping[str, Any]) -> None:
    unknown = options.keys() - _KNOWN - _PROPERTIES - _MEANINGLESS
    if not unknown:
        return
    unknown -= set(options.get("stamped_headers") or ())
    if unknown:
        from difflib import get_close_matches

        name = min(unknown)
        near = get_close_matches(name, _KNOWN | _PROPERTIES, 1)
        raise TypeError(
            f"apply_async() got an unexpected option {name!r}"
            + (f"; did you mean {near[0]!r}?" if near else "")
        )
