"""The event ``task-sent``: what clients tell of the tasks that they send."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError
from caraway.events import wire
from caraway.events.shown import shown
from caraway.protocol.codec import body_loader
from caraway.protocol.times import iso

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Publication


def announce(app: Caraway, publications: Sequence[Publication]) -> None:
    """Tell of tasks that the broker has; one broadcast for all.  Never raises: they are
    sent, whatever becomes of the event."""
    import logging

    try:
        load = body_loader(app.registry, app.conf.accept_content)
        events = [_event(app, publication, load) for publication in publications]
        app.transport.broadcast().publish(
            [wire.notice(app, app.origin, events if len(events) > 1 else events[0])]
        )
    except (CarawayError, NotImplementedError) as exc:
        logging.getLogger("caraway.events").debug("events are lost: %s", exc)
    except Exception:
        logging.getLogger("caraway.events").exception("events of tasks that were sent")


def _event(app: Caraway, publication: Publication, load: Any) -> dict[str, Any]:
    message = publication.message
    headers = message.headers
    args, kwargs = shown(message, load)
    return {
        "hostname": app.origin,
        "utcoffset": wire.utcoffset(),
        "pid": os.getpid(),
        "clock": app.clock.forward(),
        "timestamp": time.time(),
        "type": "task-sent",
        "uuid": headers.get("id"),
        "root_id": headers.get("root_id"),
        "parent_id": headers.get("parent_id"),
        "name": headers.get("task"),
        "args": args,
        "kwargs": kwargs,
        "retries": headers.get("retries") or 0,
        "eta": headers.get("eta") or (iso(publication.due) if publication.due else None),
        "expires": headers.get("expires"),
        "queue": publication.queue,
        "exchange": publication.exchange,
        "routing_key": publication.routing_key or publication.queue,
    }
