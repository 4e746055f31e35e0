"""Waking a process that waits, without polling: one datagram over loopback.

Who waits writes its port into the store, in the transaction in which it found nothing;
who publishes reads it there and, after the commit, sends a byte.  A datagram may get
lost, or come from anybody: it only says "look now", and everybody looks by themselves
every ``poll_interval`` seconds anyway.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterable

LOOPBACK = "127.0.0.1"
RING = b"r"
"""Something of interest was committed."""
WAKE = b"w"
"""The waiting call is to return early."""


class Doorbell:
    """A port that one thread at a time waits at.

    Attributes:
        port: UDP port on loopback; 0 if this system gives none (then a wait just sleeps
            in small steps).
    """

    def __init__(self) -> None:
        self.port = 0
        self._woken = False
        self._socket: socket.socket | None = None
        self._event = threading.Event()
        with contextlib.suppress(OSError):
            bell = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            try:
                bell.bind((LOOPBACK, 0))
            except OSError:
                bell.close()
                raise
            self._socket = bell
            self.port = bell.getsockname()[1]

    def wait(self, timeout: float) -> bool:
        """Wait until the bell rings or ``timeout`` seconds pass; True if woken by `wake`."""
        if self.take_wake():
            return True
        bell = self._socket
        if bell is None:
            self._event.wait(min(timeout, 0.05))
            self._event.clear()
        elif timeout > 0:
            with contextlib.suppress(OSError):
                bell.settimeout(timeout)
                bell.recv(16)
                self._drain(bell)
        return self.take_wake()

    def drain(self) -> None:
        """Forget rings that came for an earlier wait."""
        if self._socket is not None:
            self._drain(self._socket)

    @staticmethod
    def _drain(bell: socket.socket) -> None:
        with contextlib.suppress(OSError):
            bell.settimeout(0)
            for _ in range(1000):  # bounded: a stream of strangers' datagrams can't hold us
                bell.recv(16)

    def take_wake(self) -> bool:
        """True if `wake` was called since the last time this was asked."""
        woken, self._woken = self._woken, False
        return woken

    def wake(self) -> None:
        """Make the present or next wait return early.  Any thread, signal handlers too."""
        self._woken = True
        self._event.set()
        if self.port:
            ring((self.port,), WAKE)

    def close(self) -> None:
        """Give the port back.  Idempotent."""
        bell, self._socket, self.port = self._socket, None, 0
        if bell is not None:
            bell.close()


_sender: socket.socket | None = None
_sender_lock = threading.Lock()


def _make_sender() -> socket.socket:
    """The one unbound socket that the whole process sends with."""
    global _sender  # noqa: PLW0603 - made once
    with _sender_lock:
        if _sender is None:
            sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sender.settimeout(0)
            _sender = sender
        return _sender


def ring(ports: Iterable[int], what: bytes = RING) -> None:
    """Send one datagram to each port; never blocks, never fails."""
    with contextlib.suppress(OSError):
        sender = _sender or _make_sender()
        for port in ports:
            with contextlib.suppress(OSError):
                sender.sendto(what, (LOOPBACK, port))


def pause_before_retry(attempt: int, left: float) -> None:
    """Sleep shortly between two tries to get a lock: 0.1 ms at first, 1 ms at most."""
    time.sleep(max(0.0, min(0.0001 * (attempt + 1), 0.001, left)))
