"""Sends events."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, Self

from caraway.errors import CarawayError
from caraway.events import wire

if TYPE_CHECKING:
    from caraway.app import Caraway


class Dispatcher:
    """Sends events, each at once.

    Args:
        app: whose broker they go to.
        hostname: who sends; None is this process's own name.

    Attributes:
        enabled: False drops what is sent.
    """

    def __init__(self, app: Caraway, hostname: str | None = None) -> None:
        self.app = app
        self.hostname = hostname or app.origin
        self.enabled = True

    def send(self, type: str, **fields: Any) -> None:  # noqa: A002 - Celery's name
        """Send an event.

        Args:
            type: e.g. ``task-progress``; events of your own are fine.
            **fields: data of JSON's kinds.

        Raises:
            EncodeError: a field can't be written.
        """
        if not self.enabled:
            return
        event = self.event(type, fields)
        notice = wire.notice(self.app, self.hostname, event)
        try:
            self.app.transport.broadcast().publish([notice])
        except (CarawayError, NotImplementedError) as exc:
            # Events are best effort; whoever sends one has something better to do.
            import logging

            logging.getLogger("caraway.events").debug("an event is lost: %s", exc)

    def event(self, kind: str, fields: dict[str, Any]) -> dict[str, Any]:
        """An event with its envelope."""
        return {
            "hostname": self.hostname,
            "utcoffset": wire.utcoffset(),
            "pid": os.getpid(),
            "clock": self.app.clock.forward(),
            "timestamp": time.time(),
            "type": kind,
            **fields,
        }

    def enable(self) -> None:
        """Send from now on."""
        self.enabled = True

    def disable(self) -> None:
        """Drop what is sent from now on."""
        self.enabled = False

    def close(self) -> None:
        """Nothing is held here; for Celery's sake."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
