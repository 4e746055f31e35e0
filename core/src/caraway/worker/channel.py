"""Messages between the processes of one worker: JSON lines over a socket pair.

Nobody ever waits for the other end: a lane whose task holds the GIL reads nothing for as
long as that takes, and must not hold up its supervisor.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import msgspec

_MOST_UNSENT = 16 * 1024 * 1024
"""Bytes that are kept for an end that doesn't read; what comes then is dropped."""
_DONT_WAIT = getattr(socket, "MSG_DONTWAIT", 0)
_AT_ONCE = 65536


class Channel:
    """One end.  `send` may be called from any thread, `receive` from one.

    Args:
        sock: connected stream socket; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self._unsent = bytearray()
        self._sending = threading.Lock()
        self.closed = False

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Two connected sockets."""
        return socket.socketpair()

    def fileno(self) -> int:
        return self.sock.fileno()

    @property
    def waiting(self) -> bool:
        """True if something is left that `flush` should try to send."""
        return bool(self._unsent)

    def send(self, **message: Any) -> bool:
        """Send one message, now or with the next `send` or `flush` for which the other end
        has room; False if that is gone, or has read nothing for far too long."""
        data = msgspec.json.encode(message) + b"\n"
        with self._sending:
            if len(self._unsent) + len(data) > _MOST_UNSENT:
                return False
            self._unsent += data
            return self._send_some()

    def flush(self) -> bool:
        """Send what is left, as far as there is room; False if the other end is gone."""
        if not self._unsent:
            return not self.closed
        with self._sending:
            return self._send_some()

    def _send_some(self) -> bool:
        while self._unsent:
            try:
                sent = self.sock.send(self._unsent, _DONT_WAIT)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                self.closed = True
                self._unsent.clear()
                return False
            del self._unsent[:sent]
        return True

    def receive(self) -> list[dict[str, Any]]:
        """What has arrived, without waiting; sets `closed` when the other end is gone.
        What can't be read is left out."""
        parts = [self._rest]
        while True:
            try:
                data = self.sock.recv(_AT_ONCE, _DONT_WAIT)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                data = b""
            if not data:
                self.closed = True
                break
            parts.append(data)
            if len(data) < _AT_ONCE:
                break
        *lines, self._rest = b"".join(parts).split(b"\n")
        messages = []
        for line in lines:
            try:
                message = msgspec.json.decode(line)
            except msgspec.MsgspecError:
                continue
            if isinstance(message, dict):
                messages.append(message)
        return messages

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self.sock.close()
