"""Queues and routes, from the settings that declare them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from caraway.message import Queue
from caraway.routing import Router, read_queues

if TYPE_CHECKING:
    from caraway.settings import Settings


def declared_queues(conf: Settings) -> dict[str, Queue]:
    """``task_queues``, or the default queue."""
    return read_queues(
        conf.task_queues,
        default_queue=conf.task_default_queue,
        default_exchange=conf.task_default_exchange,
        default_exchange_type=conf.task_default_exchange_type,
        default_routing_key=conf.task_default_routing_key,
        max_priority=conf.task_queue_max_priority,
    )


def make_router(conf: Settings, queues: Mapping[str, Queue]) -> Router:
    """``task_routes`` over these queues."""
    return Router(
        conf.task_routes,
        queues=queues,
        default_queue=conf.task_default_queue,
        create_missing=conf.task_create_missing_queues,
    )


def choose_queues(router: Router, names: Sequence[str] | str | None) -> list[Queue]:
    """The queues of these names (commas in a text), all declared ones for None.

    Raises:
        QueueNotFound: a name isn't declared, and creating is switched off.
    """
    if names is None:
        return list(router.queues.values())
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",") if name.strip()]
    found = []
    for name in names:
        queue = router.queues.get(name)
        if queue is None:
            router.route("", options={"queue": name})
            queue = Queue(name=name, exchange=name, routing_key=name)
        found.append(queue)
    return found
