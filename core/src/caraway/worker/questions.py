"""Questions to lanes: asked by the control thread, sent and heard by the supervisor's loop.

A lane whose task holds the GIL answers late or never; nobody waits for it longer than a
moment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.worker.supervisor import Supervisor

PATIENCE = 0.3
"""Seconds that lanes have for an answer."""


class Questions:
    """The questions of one supervisor that aren't answered yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[int, _Question] = {}
        self._count = 0

    def ask(self, supervisor: Supervisor, **question: Any) -> dict[int, Any]:
        """Ask every lane; return what was answered in time, by the lane's index.

        Not for the supervisor's loop, which carries question and answers.
        """
        with self._lock:
            self._count += 1
            ticket = self._count
            asked = self._open[ticket] = _Question()
        try:
            supervisor.post(lambda: asked.send(supervisor, ticket, question))
            asked.done.wait(PATIENCE)
        finally:
            with self._lock:
                del self._open[ticket]
        return dict(asked.answers)

    def heard(self, index: int, message: dict[str, Any]) -> None:
        """Take a lane's answer."""
        with self._lock:
            asked = self._open.get(message["ticket"])
        if asked is not None:
            asked.answers[index] = message["answer"]
            if asked.awaited <= asked.answers.keys():
                asked.done.set()


class _Question:
    def __init__(self) -> None:
        self.answers: dict[int, Any] = {}
        self.awaited: set[int] = set()
        self.done = threading.Event()

    def send(self, supervisor: Supervisor, ticket: int, question: dict[str, Any]) -> None:
        lanes = [lane for lane in supervisor.lanes.values() if lane.ready and not lane.dead]
        self.awaited = {lane.index for lane in lanes if not lane.suspended}
        for lane in lanes:
            lane.channel.send(do="ask", ticket=ticket, **question)
        if not self.awaited:
            self.done.set()
