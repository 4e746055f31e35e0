"""The short way of `Task.delay`: all that is the same for every call is closed over.

Made with a task's first call; thrown away when an attribute of the task is set, and in a
forked child.  Steps of one call: check the arguments, copy the headers, put the id in,
encode the arguments, hand over to the producer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from caraway import signals
from caraway.message import Message, Publication
from caraway.protocol import ids
from caraway.protocol.body import JSON_END, body_encoder
from caraway.protocol.v2 import header_template
from caraway.request import current_request
from caraway.result import AsyncResult

if TYPE_CHECKING:
    from caraway.task import Task

    Delay = Callable[..., AsyncResult[Any]]
    Build = Callable[[Any, Any], Publication]


def compile_build(task: Task[Any, Any]) -> Build | None:
    """What builds the publication of ``(args, kwargs)``; None if this task has options
    that differ from call to call (expiry, compression, a router that looks at arguments).

    The function doesn't check arguments, and neither sends signals nor looks whether
    tasks are to run in place: the caller does.
    """
    app = task.app
    conf = app.conf
    if task.expires is not None or not app.router.is_static:
        return None
    place = {
        key: getattr(task, key, None) for key in ("queue", "exchange", "routing_key", "priority")
    }
    route = app.router.route(task.name, options=place, task=task)
    compression = getattr(task, "compression", None) or conf.task_compression
    if route.options or compression or conf.task_send_argsrepr:
        return None
    inherit_priority = bool(conf.task_inherit_parent_priority)
    serializer = app.registry.serializer(task.serializer or conf.task_serializer)
    # JSON is put together here: one call less for every message
    is_json = serializer.content_type == "application/json"
    dumps, encode = serializer.dumps, body_encoder(serializer)
    json_end = b",{}" + JSON_END
    content_type, content_encoding = serializer.content_type, serializer.content_encoding
    headers_of = header_template(
        task.name,
        origin=app.origin,
        ignore_result=bool(task.ignore_result),
        time_limit=task.time_limit,
        soft_time_limit=task.soft_time_limit,
    ).copy
    delivery_mode = getattr(task, "delivery_mode", None) or conf.task_default_delivery_mode
    priority = route.priority if route.priority is not None else conf.task_default_priority
    reply_to = app.oid if task.ignore_result else app.reply_to
    properties_of = {"correlation_id": "", "reply_to": reply_to, "delivery_mode": delivery_mode}
    if priority is not None:
        properties_of["priority"] = priority
    copy_properties = properties_of.copy
    queue, exchange, routing_key = route.queue, route.exchange, route.routing_key
    amqp_priority = priority or 0
    request_of, take_id, new_id = current_request.get, ids.ready.pop, ids.new_id

    def build(args: Any, kwargs: Any) -> Publication:
        headers = headers_of()
        properties = copy_properties()
        try:
            task_id = take_id()
        except IndexError:
            task_id = new_id()
        headers["id"] = headers["root_id"] = properties["correlation_id"] = task_id
        message_priority = amqp_priority
        request = request_of()
        if request is not None and request.id is not None:
            headers["root_id"] = request.root_id
            headers["parent_id"] = request.id
            if inherit_priority and priority is None and request.delivery is not None:
                message_priority = properties["priority"] = request.delivery.priority
        body = b"[" + dumps(args) + json_end if is_json and not kwargs else encode(args, kwargs)
        return Publication(
            Message(body, headers, content_type, content_encoding, properties),
            queue,
            exchange,
            routing_key,
            message_priority,
        )

    return build


def compile_delay(task: Task[Any, Any]) -> Delay:
    """What `Task.delay` becomes with its first call."""
    app = task.app
    apply_async = task.apply_async
    build = compile_build(task) if type(task).apply_async is _base().apply_async else None
    if build is None or app.publish_middleware is not None:
        return lambda *args, **kwargs: apply_async(args, kwargs)
    compiled = build
    check = task.argument_check
    conf = app.conf.__dict__  # holds what was set: an attribute costs a descriptor's call
    before, after = signals.before_task_publish, signals.after_task_publish
    publish = app.producer.publish
    name = task.name

    def delay(*args: Any, **kwargs: Any) -> AsyncResult[Any]:
        if before.receivers or after.receivers or conf.get("task_always_eager"):
            return apply_async(args, kwargs)
        if check is not None:
            check(*args, **kwargs)
        publication = compiled(args, kwargs)
        publish((publication,))
        return AsyncResult(publication.message.headers["id"], None, name, app)

    return delay


def _base() -> type[Task[Any, Any]]:
    from caraway.task import Task

    return Task
