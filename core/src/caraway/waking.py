"""Waiting for sockets, and being woken while one waits: for authors of components that own
connections.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable


def readable(numbers: Iterable[int], timeout: float) -> set[int]:
    """Those of these sockets, by number, that have something to read or have ended; waits
    for the first up to ``timeout`` seconds."""
    seconds = max(0.0, timeout)
    if not hasattr(select, "poll"):  # on Windows; elsewhere select has no large numbers
        return set(select.select(list(numbers), (), (), seconds)[0])
    poll = select.poll()
    for number in numbers:
        poll.register(number, select.POLLIN)
    return {number for number, _ in poll.poll(seconds * 1000)}


class Waker:
    """Ends somebody's wait: a socket that is readable from a `wake` to the next `drain`.

    Sockets rather than a pipe: select waits for them on Windows, too, and who wakes what was
    closed meanwhile writes to nobody, not to a file that got its number.
    """

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._reader.settimeout(0.0)
        self._writer.settimeout(0.0)

    def fileno(self) -> int:
        """What to wait for besides; -1 once it is closed."""
        return self._reader.fileno()

    def wake(self) -> None:
        """End a wait, or the next one.  Any thread or signal handler may call this; once it
        is closed, it does nothing."""
        try:
            self._writer.send(b"x")
        except OSError:
            pass  # it is full, and so read soon; or closed

    def drain(self) -> bool:
        """Forget that it was woken; True if it was."""
        woken = False
        try:
            while self._reader.recv(4096):
                woken = True
        except OSError:
            pass  # it is empty; or closed
        return woken

    def close(self) -> None:
        """Free it.  Idempotent."""
        self._reader.close()
        self._writer.close()
