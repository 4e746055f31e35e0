"""Events: what happens to tasks and workers, told to monitors as it happens (`app.events`).

The messages are Celery's: docs/reference/wire-format.md, "Events".  Events are best effort:
who doesn't listen misses them, and a broker that is away costs events, never tasks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from caraway.events.dispatcher import Dispatcher
from caraway.events.receiver import Receiver
from caraway.events.state import State

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.message import Publication

__all__ = ["Dispatcher", "Events", "Receiver", "State"]


class Events:
    """What an app has to do with events."""

    def __init__(self, app: Caraway) -> None:
        self._app = app

    def Receiver(  # noqa: N802 - Celery's name
        self,
        connection: Any = None,
        handlers: Any = None,
        routing_key: str = "#",
        **_: Any,
    ) -> Receiver:
        """What receives events: see `caraway.events.receiver.Receiver`.

        Args:
            connection: has no meaning here: a receiver makes its own.
            handlers: type of an event, or ``*`` for all others, to what is called with it.
            routing_key: which events: ``#`` is all, ``worker.#`` those of workers.
        """
        del connection
        return Receiver(self._app, handlers, routing_key)

    def Dispatcher(  # noqa: N802 - Celery's name
        self, connection: Any = None, hostname: str | None = None, **_: Any
    ) -> Dispatcher:
        """What sends events: see `caraway.events.dispatcher.Dispatcher`.

        Args:
            connection: has no meaning here.
            hostname: who sends; None is this process's own name.
        """
        del connection
        return Dispatcher(self._app, hostname)

    default_dispatcher = Dispatcher

    def State(self, **options: Any) -> State:  # noqa: N802 - Celery's name
        """What keeps all workers and tasks that events tell of: see
        `caraway.events.state.State`."""
        return State(**options)

    def announcing(
        self, publish: Callable[[Sequence[Publication]], None]
    ) -> Callable[[Sequence[Publication]], None]:
        """A way to publish tasks that sends ``task-sent`` for each, once the broker has
        them: the setting ``task_send_sent_event``."""
        from caraway.events.sent import announce

        def publish_and_tell(publications: Sequence[Publication]) -> None:
            publish(publications)
            announce(self._app, publications)

        return publish_and_tell
