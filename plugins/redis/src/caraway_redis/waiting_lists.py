"""Waiting for messages without polling and without popping.

Of each list a connection waits with ``BLMOVE list inbox``.  The inbox is in the owner's
books, so that what is moved there is never lost, and the server gives one message to one
who waits.  When one of them was answered, the others are called off before the lane runs
anything: they would take messages that must then wait behind a task.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING

from caraway.errors import OperationalError
from caraway_redis.connection import Wire, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link

_SERVER_WAIT = 60.0
"""Seconds for which one ``BLMOVE`` waits before it is sent anew."""
MOST = 32
"""Lists that are waited for; with more, a lane looks again and again instead."""
_LOOK_EVERY = 0.1


class _Line:
    """One list, and the connection that waits for it."""

    __slots__ = ("armed", "asked", "box", "client", "name", "wire")
    # box: empty for a bell, whose value means nothing.

    def __init__(self, name: str, box: str) -> None:
        self.name = name
        self.box = box
        self.wire: Wire | None = None
        self.client = 0
        self.armed = False
        self.asked = 0.0


class ListWait:
    """The waiting of one consumer.

    Args:
        link: makes connections.
        lists: (list, inbox) in the order of serving.
        bells: lists that are rung when there is something to look for.
    """

    def __init__(
        self, link: Link, lists: Sequence[tuple[str, str]], bells: Sequence[str] = ()
    ) -> None:
        self._link = link
        lines = [_Line(name, box) for name, box in lists] + [_Line(bell, "") for bell in bells]
        self._lines = lines if len(lines) <= MOST else []
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._peek = False
        self.armed = False

    def wait(self, timeout: float) -> tuple[bool, bool]:
        """Wait for a message or a wake.

        Returns:
            Whether there may be a message, and whether `wake` was called.

        Raises:
            OperationalError: a connection failed.
        """
        self._arm()
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        by_number = {}
        for line in self._lines:
            if line.wire is not None:
                number = line.wire.fileno()
                by_number[number] = line
                poll.register(number, select.POLLIN)
        if not self._lines:
            timeout = min(timeout, _LOOK_EVERY)
        ready = poll.poll(max(0.0, timeout) * 1000)
        came = woken = False
        for number, _ in ready:
            if number == self._reader:
                woken = True
                self._drain()
            else:
                came = self._answered(by_number[number]) or came
        if came:
            self.disarm(give_back=False)
        return came or not self._lines, woken

    def _arm(self) -> None:
        now = monotonic()
        for line in self._lines:
            if line.armed:
                # The server's answer to a wait that ran out must be on its way.
                if now - line.asked > _SERVER_WAIT + 5.0:
                    self._drop(line)
                else:
                    continue
            wire = line.wire
            if wire is None:
                self._link.check()
                wire = line.wire = self._link.wire()
                self._learn(line, wire)
            line.asked = now
            try:
                wire.send(self._command(line), 5.0)
            except OperationalError:
                self._drop(line)
                raise
            line.armed = True
            self.armed = True

    def _command(self, line: _Line) -> bytes:
        if not line.box:
            return pack("BLPOP", line.name, _SERVER_WAIT)
        if self._peek:
            return pack("BLMOVE", line.name, line.name, "RIGHT", "RIGHT", _SERVER_WAIT)
        return pack("BLMOVE", line.name, line.box, "RIGHT", "LEFT", _SERVER_WAIT)

    def _learn(self, line: _Line, wire: Wire) -> None:
        """The connection's number, by which another can call it off."""
        wire.send(pack("CLIENT", "ID"), 5.0)
        answer = wire.read(5.0)
        if isinstance(answer, int) and not self._peek:
            line.client = answer
            if self._may_unblock(wire):
                return
        # Not allowed to: then wait without taking, though all who wait are woken.
        self._peek = True

    def _may_unblock(self, wire: Wire) -> bool:
        wire.send(pack("CLIENT", "UNBLOCK", 0), 5.0)
        return not isinstance(wire.read(5.0), Exception)

    def _answered(self, line: _Line) -> bool:
        """Read a line's answer; True if it was a message."""
        wire = line.wire
        if wire is None:
            return False
        try:
            answer = wire.read(5.0)
        except OperationalError:
            self._drop(line)
            raise
        line.armed = False
        if isinstance(answer, Exception):
            error = wire.broken(answer)
            self._drop(line)
            raise error from answer
        return answer is not None

    def disarm(self, *, give_back: bool = True) -> None:
        """Call off what is still waited for.

        Args:
            give_back: return what came meanwhile to its list; else it stays in the
                inboxes, for the next fetch.
        """
        if self._peek or not self.armed:
            return
        waiting = [line for line in self._lines if line.armed]
        self.armed = False
        if not waiting:
            return
        commands = [pack("CLIENT", "UNBLOCK", line.client) for line in waiting]
        try:
            self._link.exchange(b"".join(commands), len(commands))
        except OperationalError:
            for line in waiting:
                self._drop(line)
            raise
        late = [line for line in waiting if self._answered(line) and line.box]
        if late and give_back:
            moves = [pack("LMOVE", line.box, line.name, "LEFT", "RIGHT") for line in late]
            self._link.exchange(b"".join(moves), len(moves))

    def abandon(self) -> None:
        """Wait no more; return to the lists whatever came."""
        if self._peek or not self._lines:
            return
        self.disarm(give_back=False)
        moves = [
            pack("LMOVE", line.box, line.name, "LEFT", "RIGHT") for line in self._lines if line.box
        ]
        self._link.exchange(b"".join(moves), len(moves))

    def _drop(self, line: _Line) -> None:
        line.armed = False
        if line.wire is not None:
            line.wire.close()
            line.wire = None

    def _drain(self) -> None:
        try:
            while os.read(self._reader, 4096):
                pass
        except BlockingIOError:
            pass

    def wake(self) -> None:
        """End a wait; any thread or signal handler may call this."""
        try:
            os.write(self._writer, b"x")
        except (BlockingIOError, OSError):
            pass  # it is full, and so read soon; or closed

    def close(self) -> None:
        """Close the connections.  Idempotent."""
        for line in self._lines:
            self._drop(line)
        self._lines = []
        if self._reader >= 0:
            reader, writer = self._reader, self._writer
            self._reader = self._writer = -1
            os.close(reader)
            os.close(writer)
