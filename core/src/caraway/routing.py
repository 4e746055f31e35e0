"""Which queue a task goes to.  Pure; resolved once per task where the routes allow it.

Order, as in Celery: options of the call, attributes of the task, ``task_routes``, the
default queue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Any

from msgspec import Struct

from caraway.errors import ImproperlyConfigured, QueueNotFound
from caraway.message import Queue, Topic

OPTIONS = ("queue", "exchange", "routing_key", "priority")


class Route(Struct, frozen=True):
    """Where a message goes.

    Attributes:
        queue: name of the queue.
        exchange: AMQP exchange; empty for direct routing, the common case.
        routing_key: for a named exchange.
        priority: 0 to 9, or None if the route doesn't say.
        options: other options that the route sets (``serializer``, ``expires`` ...).
    """

    queue: str
    exchange: str = ""
    routing_key: str = ""
    priority: int | None = None
    options: dict[str, Any] = {}


def read_queues(
    declared: Any,
    *,
    default_queue: str = "celery",
    default_exchange: str | None = None,
    default_exchange_type: str = "direct",
    default_routing_key: str | None = None,
    max_priority: int | None = None,
) -> dict[str, Queue]:
    """The setting ``task_queues`` as queues by name; the default queue if it is empty.

    Args:
        declared: None; a list of names, tables, `Queue` objects or kombu's; or a table
            from name to table.

    Raises:
        ImproperlyConfigured: something else.
    """
    if not declared:
        declared = [default_queue]
    if isinstance(declared, Mapping):
        declared = [{"name": name, **(table or {})} for name, table in declared.items()]
    if isinstance(declared, str):
        declared = [name.strip() for name in declared.split(",") if name.strip()]
    queues = {}
    for each in declared:
        if isinstance(each, Queue):
            queue = each
        else:
            fields = _queue_fields(each)
            is_default = fields["name"] == default_queue
            exchange = fields.get("exchange") or (default_exchange if is_default else None)
            key = fields.get("routing_key") or (default_routing_key if is_default else None)
            queue = Queue(
                name=fields["name"],
                exchange=exchange or fields["name"],
                exchange_type=fields.get("exchange_type") or default_exchange_type,
                routing_key=key or fields["name"],
                durable=fields.get("durable") is not False,
                max_priority=fields.get("max_priority") or max_priority,
                arguments=dict(fields.get("arguments") or fields.get("queue_arguments") or {}),
            )
        queues[queue.name] = queue
    return queues


def _queue_fields(each: Any) -> dict[str, Any]:
    if isinstance(each, str) and each:
        return {"name": each}
    if isinstance(each, Mapping) and isinstance(each.get("name"), str):
        return dict(each)
    name = getattr(each, "name", None)
    if isinstance(name, str) and name:  # kombu's Queue, without importing kombu
        exchange = getattr(each, "exchange", None)
        return {
            "name": name,
            "exchange": getattr(exchange, "name", exchange) or "",
            "exchange_type": getattr(exchange, "type", None),
            "routing_key": getattr(each, "routing_key", None),
            "durable": getattr(each, "durable", True),
            "max_priority": getattr(each, "max_priority", None),
            "arguments": getattr(each, "queue_arguments", None),
        }
    raise ImproperlyConfigured(
        f"task_queues: can't make a queue of {each!r}",
        hint="write a name, or a table with `name` and, where wanted, `routing_key`, "
        "`exchange`, `exchange_type`, `max_priority`",
    )


Matcher = Callable[[str, Any, Any, Mapping[str, Any], Any], Mapping[str, Any] | str | None]


class Router:
    """Finds the route of a task.

    Args:
        routes: the setting ``task_routes``: None, a table, a function, a class or object
            with ``route_for_task``, a dotted name of one of these, or a list of them.
        queues: declared ones by name.
        default_queue: for what nothing routes.
        create_missing: a queue that isn't declared may be used.

    Attributes:
        is_static: the route depends on nothing but the task's name, so it can be kept.
    """

    def __init__(
        self,
        routes: Any = None,
        *,
        queues: Mapping[str, Queue] | None = None,
        default_queue: str = "celery",
        create_missing: bool = True,
    ) -> None:
        self.queues = dict(queues or {})
        self.default_queue = default_queue
        self.create_missing = create_missing
        self._matchers: list[Matcher] = []
        self.is_static = True
        if routes is not None:
            listed = isinstance(routes, (list, tuple)) and not _is_pair(routes)
            for each in routes if listed else [routes]:
                matcher, is_static = _matcher(each)
                self._matchers.append(matcher)
                self.is_static = self.is_static and is_static

    def route(
        self,
        name: str,
        args: Any = (),
        kwargs: Any = None,
        options: Mapping[str, Any] | None = None,
        task: Any = None,
    ) -> Route:
        """The route of one message.

        Args:
            name: of the task.
            args: for routers that look at them.
            kwargs: for routers that look at them.
            options: of the call and the task: ``queue``, ``exchange``, ``routing_key``,
                ``priority``.
            task: the task object, for routers that look at it.

        Raises:
            QueueNotFound: the queue isn't declared, and creating is switched off.
            ImproperlyConfigured: a router returned something that is no route.
        """
        given = {key: value for key, value in (options or {}).items() if value is not None}
        merged: dict[str, Any] = {}
        for match in self._matchers:
            answer = match(name, args, {} if kwargs is None else kwargs, given, task)
            if answer:
                merged = _as_options(answer, name)
                break
        if given.get("queue") or given.get("exchange"):
            # a place named by the call replaces the route's place as a whole
            for key in ("queue", "exchange", "routing_key"):
                merged.pop(key, None)
        merged.update(given)
        return self._resolve(merged)

    def _resolve(self, options: dict[str, Any]) -> Route:
        queue, exchange = options.pop("queue", None), options.pop("exchange", None)
        routing_key = options.pop("routing_key", None)
        priority = options.pop("priority", None)
        exchange = getattr(exchange, "name", exchange) or ""
        name = getattr(queue, "name", queue) or ""
        if not name and (exchange or routing_key):
            # for an exchange that isn't declared, brokers that have exchanges go by it, and
            # those that have none by the routing key
            name = self._bound_queue(exchange, routing_key or "") or routing_key or ""
        if not name:
            name = self.default_queue
        declared = self.queues.get(name)
        if declared is None and name and not self.create_missing:
            raise QueueNotFound(
                f"queue {name!r} is not declared in task_queues",
                hint="add it to task_queues, or set task_create_missing_queues to true",
            )
        if declared is not None and declared.exchange_type != "direct" and not exchange:
            exchange = declared.exchange
            routing_key = routing_key or declared.routing_key
        elif declared is not None and declared.exchange_type == "direct":
            # the default exchange reaches every queue by its name, without a binding
            exchange = routing_key = ""
        return Route(name, exchange, routing_key or "", priority, options)

    def _bound_queue(self, exchange: str, routing_key: str) -> str | None:
        for queue in self.queues.values():
            if exchange and queue.exchange != exchange:
                continue
            if queue.exchange_type == "topic":
                if topic_matches(queue.routing_key, routing_key):
                    return queue.name
            elif queue.routing_key == routing_key or (exchange and queue.exchange_type == "fanout"):
                return queue.name
        return None


def topic_matches(pattern: str, key: str) -> bool:
    """AMQP's topic rule: ``*`` is one word, ``#`` any number of words."""
    return _topic(pattern.split("."), key.split(".") if key else [])


def listens(pattern: Topic, topic: Topic) -> bool:
    """True if a subscription to ``pattern`` receives what is published to ``topic``."""
    if pattern.exchange != topic.exchange:
        return False
    if topic.kind == "fanout":
        return True
    if topic.kind == "direct":
        return pattern.routing_key == topic.routing_key
    return topic_matches(pattern.routing_key, topic.routing_key)


def _topic(pattern: Sequence[str], words: Sequence[str]) -> bool:
    # reachable positions in `words` after each part: linear, whatever the pattern
    at = {0}
    for part in pattern:
        if part == "#":
            at = set(range(min(at), len(words) + 1)) if at else at
        else:
            at = {i + 1 for i in at if i < len(words) and part in ("*", words[i])}
    return len(words) in at


def _is_pair(value: Sequence[Any]) -> bool:
    return len(value) == 2 and isinstance(value[0], (str, re.Pattern)) and not callable(value[1])


def _matcher(route: Any) -> tuple[Matcher, bool]:
    if isinstance(route, str):
        route = _import(route)
    if isinstance(route, type):
        route = route()
    if isinstance(route, Mapping):
        return _table(route.items()), True
    if isinstance(route, (list, tuple)):
        if _is_pair(route):
            return _table([(route[0], route[1])]), True
        return _table(route), True
    if hasattr(route, "route_for_task"):
        route = route.route_for_task
    if not callable(route):
        raise ImproperlyConfigured(
            f"task_routes: can't route by {route!r}",
            hint="use a table, a function (name, args, kwargs, options, task=None, **kw), "
            "or an object with route_for_task",
        )
    fun = route
    return (
        lambda name, args, kwargs, options, task: fun(name, args, kwargs, dict(options), task=task)
    ), False


def _table(items: Iterable[Any]) -> Matcher:
    exact: dict[str, Any] = {}
    patterns: list[tuple[re.Pattern[str], Any]] = []
    try:
        for key, value in items:
            if isinstance(key, re.Pattern):
                patterns.append((key, value))
            elif any(sign in key for sign in "*?["):
                patterns.append((re.compile(translate(key)), value))
            else:
                exact[key] = value
    except (TypeError, ValueError):
        raise ImproperlyConfigured(
            "task_routes: expected pairs of a task name or pattern, and a queue or table",
            hint='for example {"shop.*": {"queue": "shop"}}',
        ) from None

    def match(name: str, *_: Any) -> Any:
        if name in exact:
            return exact[name]
        for pattern, value in patterns:
            if pattern.match(name):
                return value
        return None

    return match


def _as_options(answer: Any, name: str) -> dict[str, Any]:
    if isinstance(answer, str):
        return {"queue": answer}
    if isinstance(answer, Mapping):
        return dict(answer)
    raise ImproperlyConfigured(
        f"the route of {name!r} must be a queue name or a table, not {answer!r}",
        hint='for example "shop" or {"queue": "shop", "priority": 5}',
    )


def _import(path: str) -> Any:
    from importlib import import_module

    module, _, attribute = path.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"task_routes: can't import {path!r}: {exc}", hint="write package.module:name"
        ) from exc
