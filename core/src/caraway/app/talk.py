"""What an app says to workers, and what it hears of them: remote control and events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caraway.app import Caraway
    from caraway.control import Control
    from caraway.events import Events
    from caraway.events.clock import LamportClock


class Talk:
    """The parts of an app for that; see `caraway.app.Caraway`."""

    def __init__(self) -> None:
        super().__init__()
        self._clock: LamportClock | None = None
        self.forget_talk()

    def forget_talk(self) -> None:
        """In a forked child: what was built is the parent's."""
        self._control: Control | None = None
        self._events: Events | None = None

    @property
    def control(self) -> Control:
        """Remote control of the workers."""
        control = self._control
        if control is None:
            from caraway.control import Control

            control = self._control = Control(cast("Caraway", self))
        return control

    @property
    def events(self) -> Events:
        """What happens to tasks and workers, told and heard."""
        events = self._events
        if events is None:
            from caraway.events import Events

            events = self._events = Events(cast("Caraway", self))
        return events

    @property
    def clock(self) -> LamportClock:
        """Orders events and commands of several processes."""
        clock = self._clock
        if clock is None:
            from caraway.events.clock import LamportClock

            clock = self._clock = LamportClock()
        return clock

    def send_event(self, type_: str, **fields: Mapping[str, Any] | Any) -> None:
        """Send an event of your own to whoever listens: see `caraway.events`."""
        hostname: Any = fields.pop("hostname", None)
        self.events.Dispatcher(hostname=hostname).send(type_, **fields)
