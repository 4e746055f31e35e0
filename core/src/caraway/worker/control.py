"""The worker's side of remote control: a thread that listens and answers.

The thread only receives and answers; what changes lanes is done by the supervisor's
loop.  A command answers even while every lane is busy.  The commands:
`caraway.worker.commands` changes things, `caraway.worker.answers` tells of them, and
`caraway.control.commands` is the table that both fill.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from caraway.control.commands import COMMANDS, ControlState, control_command, inspect_command
from caraway.control.rounds import ABSTAIN, matches, requests
from caraway.message import Message, Notice, Topic
from caraway.worker import answers, commands  # noqa: F401 - they fill the table

if TYPE_CHECKING:
    from caraway.interfaces import Broadcast, Subscription
    from caraway.worker.supervisor import Supervisor

__all__ = ["ControlThread", "control_command", "inspect_command"]


class ControlThread(threading.Thread):
    """Receives requests and answers them.

    Args:
        supervisor: commanded.
        node: the name this worker answers to.
    """

    def __init__(self, supervisor: Supervisor, node: str) -> None:
        super().__init__(name="caraway-control", daemon=True)
        self._supervisor = supervisor
        self._state = ControlState(supervisor.app, node, supervisor)
        self._node = node
        self._ended = threading.Event()
        self._subscription: Subscription | None = None

    def end(self) -> None:
        """Stop listening, and wait until that is done, for a moment."""
        self._ended.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(2.0)

    def run(self) -> None:
        import logging

        logger = logging.getLogger("caraway.worker")
        while not self._ended.is_set():
            try:
                self._listen()
            except Exception as exc:  # noqa: BLE001 - a worker must not go deaf
                if not self._ended.is_set():
                    logger.warning("remote control: %r; trying again in 1 s", exc)
                self._ended.wait(1.0)

    def _listen(self) -> None:
        app = self._supervisor.app
        channel = app.transport.broadcast()
        self._subscription = subscription = channel.subscribe([requests(app)], name=self._node)
        try:
            while not self._ended.is_set():
                for notice in subscription.receive(5.0):
                    self.answer(notice.message, channel)
        finally:
            self._subscription = None
            subscription.close()

    def answer(self, message: Message, channel: Broadcast) -> None:
        """Do what a request says, if we are meant, and answer if that is wanted."""
        import logging

        clock = self._supervisor.app.clock
        headers = message.headers
        try:
            request = msgspec.json.decode(message.body, type=dict[str, Any])
            if _is_late(headers):
                return
            if not self._is_meant(request):
                if headers.get(ABSTAIN):
                    self._reply(request, {}, channel, {ABSTAIN: True})
                return
            if type(headers.get("clock")) is int:
                clock.adjust(headers["clock"])
            answer = self._call(str(request.get("method")), dict(request.get("arguments") or {}))
        except (msgspec.MsgspecError, TypeError, ValueError) as exc:
            logging.getLogger("caraway.worker").warning("remote control: bad request: %s", exc)
            return
        self._reply(request, {self._node: answer}, channel, {})

    def _reply(
        self, request: dict[str, Any], answer: Any, channel: Broadcast, more: dict[str, Any]
    ) -> None:
        reply_to = request.get("reply_to")
        if isinstance(reply_to, dict):
            clock = self._supervisor.app.clock
            topic = Topic(str(reply_to.get("exchange")), str(reply_to.get("routing_key")), "direct")
            body = msgspec.json.encode(answer, enc_hook=repr)
            headers = {"ticket": request.get("ticket"), "clock": clock.forward(), **more}
            channel.publish([Notice(topic, Message(body, headers))])

    def _is_meant(self, request: dict[str, Any]) -> bool:
        """As Celery's mailbox: who is named; else who matches; else all."""
        destination = request.get("destination")
        if destination:
            return self._node in destination
        pattern, matcher = request.get("pattern"), request.get("matcher")
        if pattern and matcher:
            return matches(self._node, str(pattern), str(matcher))
        return True

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        command = COMMANDS.get(name)
        if command is None:
            return {"error": f"unknown command {name!r}"}
        try:
            return command.handler(self._state, **arguments)
        except Exception as exc:  # noqa: BLE001 - anybody may send anything
            return {"error": f"{type(exc).__name__}: {exc}"}


def _is_late(headers: dict[str, Any]) -> bool:
    """Nobody waits for an answer any more, and what was to be done may have been undone."""
    expires = headers.get("expires")
    return isinstance(expires, (int, float)) and 0 < expires < time.time()
