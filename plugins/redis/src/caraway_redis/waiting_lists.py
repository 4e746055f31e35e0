"""Waiting for messages without polling and without popping.

Of each list a connection waits with ``BLMOVE list inbox``.  The inbox is in the owner's
books, so that what is moved there is never lost, and the server gives one message to one
who waits.  When one of them was answered, the others are called off before the lane runs
anything: they would take messages that must then wait behind a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import OperationalError, StoreFull
from caraway.waking import Waker, readable
from caraway_redis.faults import translate
from caraway_redis.wires import Wire, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link

_SERVER_WAIT = 60.0
"""Seconds for which one ``BLMOVE`` waits before it is sent anew."""
MOST = 64
"""Lists that are waited for, each with a connection; with more, a lane looks again and
again instead."""
_LOOK_EVERY = 0.1
_REFUSED = 2.0
"""Seconds for which nobody waits where the server has no memory left."""
_BELL = 10
"""Seconds after which a bell that nobody hears is gone."""
_PATIENCE = 5.0
"""Seconds for an answer that must be on its way."""


def ring(bell: str) -> list[bytes]:
    """Commands that wake one of those who wait."""
    return [pack("LPUSH", bell, "1"), pack("LTRIM", bell, 0, 0), pack("EXPIRE", bell, _BELL)]


class _Line:
    """A connection, and what it waits for: a list, or all bells."""

    __slots__ = ("armed", "asked", "box", "client", "names", "owed", "place", "wire")
    # place: of its list in the order of serving.
    # box: empty for bells, whose values mean nothing.
    # owed: it was called off, and the empty answer to that is still to be read.

    def __init__(self, names: Sequence[str], place: int = -1, box: str = "") -> None:
        self.names = names
        self.place = place
        self.box = box
        self.wire: Wire | None = None
        self.client = 0
        self.armed = self.owed = False
        self.asked = 0.0


class ListWait:
    """The waiting of one consumer.

    Args:
        link: makes connections.
        lists: (list, inbox) in the order of serving.
        bells: lists that are rung when there is something to look for.

    Attributes:
        brought: if the last wait ended with one message, moved to its inbox, and nothing
            else: the place of its list, and the message.
    """

    def __init__(
        self, link: Link, lists: Sequence[tuple[str, str]], bells: Sequence[str] = ()
    ) -> None:
        self._link = link
        self._boxes = [(name, box) for name, box in lists]
        lines = [_Line((name,), place, box) for place, (name, box) in enumerate(lists)]
        lines.append(_Line(bells))
        self._lines = lines if len(lines) <= MOST + 1 else []
        self._waker = Waker()
        self._peek = False
        self._doubtful = 0.0
        self._refused = 0.0
        self.armed = False
        self.brought: tuple[int, bytes] | None = None

    def wait(self, timeout: float) -> tuple[bool, bool]:
        """Wait for a message or a wake.

        Returns:
            Whether there may be a message, and whether `wake` was called.

        Raises:
            OperationalError: a connection failed.
        """
        looking = not self._lines or monotonic() < self._refused
        if looking:
            timeout = min(timeout, _LOOK_EVERY)
        else:
            self._arm()
        lines = {line.wire.fileno(): line for line in self._lines if line.wire is not None}
        wakes = self._waker.fileno()
        woken = False
        came: list[tuple[_Line, Any]] = []
        self.brought = None
        for number in readable((wakes, *lines), timeout):
            if number == wakes:
                woken = True
                self._waker.drain()
            else:
                answer = self._answered(lines[number])
                if answer is not None:
                    came.append((lines[number], answer))
        if len(came) == 1 and came[0][0].box and not self._peek:
            self.brought = came[0][0].place, came[0][1]
        return bool(came) or looking, woken

    def _arm(self) -> None:
        now = monotonic()
        new = []
        for line in self._lines:
            if line.owed:
                try:
                    self._answered(line)
                except OperationalError:
                    pass  # it ended meanwhile, and is connected anew
            # The server's answer to a wait that ran out must be on its way.
            if line.armed and now - line.asked > _SERVER_WAIT + _PATIENCE:
                self._drop(line)
            if line.wire is None:
                self._link.check()
                line.wire = self._link.wire()
                new.append(line)
        if new:
            self._learn(new)
        for line in self._lines:
            if line.armed or line.wire is None:
                continue
            line.asked = now
            try:
                line.wire.send(self._command(line), _PATIENCE)
            except OperationalError:
                self._drop(line)
                raise
            line.armed = self.armed = True

    def _command(self, line: _Line) -> bytes:
        if not line.box:
            return pack("BLPOP", *line.names, _SERVER_WAIT)
        name = line.names[0]
        if self._peek:
            return pack("BLMOVE", name, name, "RIGHT", "RIGHT", _SERVER_WAIT)
        return pack("BLMOVE", name, line.box, "RIGHT", "LEFT", _SERVER_WAIT)

    def _learn(self, lines: Sequence[_Line]) -> None:
        """The connections' numbers, by which another can call them off."""
        asking = pack("CLIENT", "ID") + pack("CLIENT", "UNBLOCK", 0)
        try:
            for line in lines:
                if line.wire is not None:
                    line.wire.send(asking, _PATIENCE)
            for line in lines:
                if line.wire is not None:
                    number = line.wire.read(_PATIENCE)
                    unblocks = not isinstance(line.wire.read(_PATIENCE), Exception)
                    line.client = number if isinstance(number, int) else 0
                    if not line.client or not unblocks:
                        # Not allowed to: then wait without taking, though all who wait
                        # are woken.
                        self._peek = True
        except OperationalError:
            for line in lines:
                self._drop(line)
            raise

    def _answered(self, line: _Line) -> Any:
        """Read a line's answer: a message, or None.

        Raises:
            OperationalError: it was an error, or none came.
        """
        wire = line.wire
        if wire is None:
            return None
        try:
            answer = wire.read(_PATIENCE)
        except OperationalError:
            self._drop(line)
            raise
        line.armed = line.owed = False
        if isinstance(answer, Exception):
            self._drop(line)
            error = translate(answer, self._link.place)
            if isinstance(error, StoreFull):
                # Moving is refused, though not what a fetch does: so look by ourselves.
                self._refused = monotonic() + _REFUSED
                return None
            raise error from answer
        return answer

    # -- calling off -------------------------------------------------------------------

    def calls_off(self) -> list[bytes]:
        """Commands that call off what is waited for, to be sent before a fetch; then
        `called_off`."""
        if self._peek:
            return []
        return [pack("CLIENT", "UNBLOCK", line.client) for line in self._lines if line.armed]

    def called_off(self, answers: Sequence[Any]) -> list[_Line]:
        """What the server said to `calls_off`.  Returns the lines that were answered before:
        something is in their inboxes, or a bell was rung."""
        self.armed = False
        late = []
        waiting = [line for line in self._lines if line.armed]
        for line, answer in zip(waiting, answers, strict=True):
            try:
                if answer == 1:
                    # Its empty answer is on its way: read when it is to wait again, and
                    # not while there is something to run.
                    line.armed, line.owed = False, True
                elif self._caught(line):
                    late.append(line)
            except OperationalError:
                # What it may have moved lies in the inbox, for the next fetch.
                self._drop(line)
        return late

    def _caught(self, line: _Line) -> bool:
        """Read a line that couldn't be called off, since it was answered; or call it off
        again: what is sent through two connections may arrive in another order, and then
        the server didn't know yet that it waits."""
        wire = line.wire
        end = monotonic() + _PATIENCE
        while wire is not None and monotonic() < end:
            if wire.buffered() or readable((wire.fileno(),), 0.0):
                break
            if self._link.call("CLIENT", "UNBLOCK", line.client) == 1:
                line.armed, line.owed = False, True
                return False
        return self._answered(line) is not None

    def disarm(self) -> bool:
        """Call off what is still waited for, and return to the lists what came meanwhile;
        what fails leaves it in the inboxes, for the next fetch.

        Returns:
            True if nothing can come to the inboxes any more.
        """
        if not self._peek and self.armed:
            commands = self.calls_off()
            try:
                answers = self._link.answers(commands, len(commands)) if commands else ()
                late = self.called_off(answers)
                self._return(
                    [(line.names[0], line.box) for line in late if line.box],
                    # Heard here, by somebody who has something else to do.
                    [bell for line in late if not line.box for bell in line.names],
                )
            except OperationalError:
                self.fail()
        return monotonic() > self._doubtful

    def fail(self) -> None:
        """Drop all connections: the server then ends their waiting."""
        self.armed = False
        for line in self._lines:
            self._drop(line)

    def abandon(self) -> None:
        """Wait no more, for an owner that is lost; return to the lists whatever came.

        Raises:
            OperationalError: it can't be returned now; a sweep does it.
        """
        self.disarm()
        if not self._peek and self._lines:
            self._return(self._boxes)

    def _return(self, boxes: Sequence[tuple[str, str]], bells: Sequence[str] = ()) -> None:
        commands = [pack("LMOVE", box, name, "LEFT", "RIGHT") for name, box in boxes]
        for bell in bells:
            commands += ring(bell)
        if commands:
            self._link.exchange(commands, len(commands))

    def _drop(self, line: _Line) -> None:
        if line.armed:
            # The server may notice much later, and answer to nobody until then.
            self._doubtful = monotonic() + _SERVER_WAIT
        line.armed = line.owed = False
        if line.wire is not None:
            line.wire.close()
            line.wire = None

    def wake(self) -> None:
        """End a wait; any thread or signal handler may call this."""
        self._waker.wake()

    def close(self) -> None:
        """Close the connections.  Idempotent."""
        for line in self._lines:
            self._drop(line)
        self._lines = []
        self._waker.close()
