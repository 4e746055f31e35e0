"""Receives events."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from caraway.errors import CarawayError, TransportUnavailable
from caraway.events import wire
from caraway.protocol.body import content_loader

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Subscription
    from caraway.message import Message

Event = dict[str, Any]
Handler = Callable[[Event], Any]

_PATIENCE = 1.0
"""Seconds of one wait; a stop from another thread is seen in between."""


class Receiver:
    """Receives events, and calls handlers with them.

    Args:
        app: whose broker they come from.
        handlers: type of an event to what is called with it; ``*`` is for all types that
            have none of their own.
        routing_key: which events: ``#`` is all, ``worker.#`` those of workers.

    Attributes:
        handlers: see above.
        should_stop: set it to end a `capture` within a second; `stop` ends it at once.
    """

    def __init__(
        self,
        app: Caraway,
        handlers: Mapping[str, Handler] | None = None,
        routing_key: str = "#",
    ) -> None:
        self.app = app
        self.handlers: dict[str, Handler] = dict(handlers or {})
        self.routing_key = routing_key
        self.should_stop = False
        self._subscription: Subscription | None = None
        conf = app.conf
        accepted = {"json", conf.event_serializer, *conf.accept_content}
        self._loads = content_loader(app.registry, accepted)

    def capture(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        wakeup: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
    ) -> None:
        """Receive events until told to stop, and call the handlers with each.

        Args:
            limit: end after so many events; None is never.
            timeout: seconds; see below.
            wakeup: have all workers tell of themselves now, rather than with their next
                heartbeat.

        Raises:
            TimeoutError: no event came for ``timeout`` seconds.
        """
        for _ in self.itercapture(limit, timeout, wakeup):
            pass

    def itercapture(
        self,
        limit: int | None = None,
        timeout: float | None = None,
        wakeup: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
    ) -> Iterator[Event]:
        """As `capture`, and give each event to the caller after the handlers had it."""
        channel = self.app.transport.broadcast()
        subscription = channel.subscribe([wire.topic(self.app, self.routing_key)])
        self._subscription = subscription
        self.should_stop = False
        try:
            if wakeup:
                self.wakeup_workers()
            left = limit
            heard = time.monotonic()
            while not self.should_stop:
                wait = _PATIENCE
                if timeout is not None:
                    wait = min(wait, heard + timeout - time.monotonic())
                    if wait <= 0:
                        raise TimeoutError(f"no event for {timeout} seconds")
                for event in self._receive(subscription, wait):
                    heard = time.monotonic()
                    self.process(str(event["type"]), event)
                    yield event
                    if left is not None:
                        left -= 1
                        if left <= 0:
                            return
        finally:
            self._subscription = None
            subscription.close()

    def stop(self) -> None:
        """End a `capture`.  Any thread may call this, and any handler."""
        self.should_stop = True
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()

    def wakeup_workers(self, channel: Any = None) -> None:  # noqa: ARG002 - Celery's signature
        """Have all workers send a heartbeat now."""
        try:
            self.app.control.heartbeat()
        except CarawayError as exc:
            self._log().debug("workers can't be woken: %s", exc)

    def process(self, type: str, event: Event) -> None:  # noqa: A002 - Celery's name
        """Call the handler of an event, if there is one."""
        handler = self.handlers.get(type) or self.handlers.get("*")
        if handler is not None:
            handler(event)

    def events_from(self, message: Message) -> list[Event]:
        """The events of a message, each with ``local_received`` added (epoch seconds);
        none if it can't be read."""
        try:
            body = self._loads(message)
        except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
            self._log().warning("an event that can't be read: %s", exc)
            return []
        events = [
            event
            for event in (body if isinstance(body, list) else [body])
            if isinstance(event, dict) and isinstance(event.get("type"), str)
        ]
        now = time.time()
        clock = self.app.clock
        for event in events:
            other = event.get("clock")
            if event["type"] == "task-sent" or type(other) is not int:
                # Clients' clocks are in step with nobody's.
                event["clock"] = clock.forward()
            else:
                clock.adjust(other)
            event["local_received"] = now
        return events

    def _receive(self, subscription: Subscription, wait: float) -> Iterator[Event]:
        try:
            notices = subscription.receive(wait)
        except TransportUnavailable as exc:
            self._log().warning("events: %s; trying again in %.0f s", exc, _PATIENCE)
            time.sleep(_PATIENCE)
            return
        for notice in notices:
            yield from self.events_from(notice.message)

    def _log(self) -> Any:
        import logging

        return logging.getLogger("caraway.events")
