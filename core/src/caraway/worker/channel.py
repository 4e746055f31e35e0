"""Messages between the processes of one worker: JSON lines over a socket pair."""

from __future__ import annotations

import socket
from typing import Any

import msgspec


class Channel:
    """One end.  `send` may be called from any thread, `receive` from one.

    Args:
        sock: connected stream socket; owned from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self.closed = False

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        """Two connected sockets."""
        return socket.socketpair()

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, **message: Any) -> bool:
        """Send one message; False if the other end is gone."""
        try:
            self.sock.sendall(msgspec.json.encode(message) + b"\n")
        except OSError:
            self.closed = True
            return False
        return True

    def receive(self) -> list[dict[str, Any]]:
        """What has arrived, without waiting if the socket is readable; sets `closed`
        when the other end is gone."""
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self.closed = True
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [msgspec.json.decode(line) for line in lines if line]

    def close(self) -> None:
        """Close this end."""
        self.closed = True
        self.sock.close()
