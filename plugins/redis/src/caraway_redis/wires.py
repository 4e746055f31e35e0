"""One connection to a Redis, and what is sent through it.

Something else connects it (`caraway_redis.plain`, or redis-py); what is sent and when is
decided here, so that a batch costs one system call each way.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path
from time import monotonic
from typing import Any

import hiredis

from caraway.errors import OperationalError
from caraway.waking import readable
from caraway_redis.faults import Closed, Garbled, is_fault, translate

_MORE: Any = object()
"""What the parser says when an answer isn't complete yet."""
_SCRIPTS = Path(__file__).parent / "scripts"


class Script:
    """A Lua script of this package.

    Args:
        names: of files in ``scripts``, put together in this order.
    """

    def __init__(self, *names: str) -> None:
        self.source = "\n".join((_SCRIPTS / f"{name}.lua").read_text() for name in names).encode()
        # The server's own name of it.
        self.sha = sha1(self.source).hexdigest()  # noqa: S324 - Redis names scripts so


class Wire:
    """One connection, used by one thread at a time.

    Args:
        raw: `PlainConnection` or redis-py's, not connected yet.  It connects and
            authenticates; what follows is sent and parsed here.
        place: for errors.
    """

    __slots__ = ("_sock", "_timeout", "connect_timeout", "place", "raw", "reader", "used")

    def __init__(self, raw: Any, place: str, connect_timeout: float = 4.0) -> None:
        self.raw = raw
        self.place = place
        self.connect_timeout = connect_timeout
        self.used = monotonic()
        self.reader: Any = None
        self._sock: Any = None
        self._timeout = -1.0

    def connect(self, timeout: float) -> None:
        """Connect if need be.

        Raises:
            OperationalError: it can't.
        """
        if self._sock is not None:
            return
        raw = self.raw
        try:
            limit = max(0.001, min(self.connect_timeout, timeout))
            # Of the greetings, too: from then on `send` and `read` say how long they wait.
            raw.socket_connect_timeout = raw.socket_timeout = limit
            raw.connect()
        except Exception as exc:
            if not is_fault(exc):
                raise
            raise self.broken(exc) from exc
        self.reader = hiredis.Reader(notEnoughData=_MORE, encoding=None)
        self._sock = raw._sock
        self._timeout = -1.0

    def send(self, packed: bytes | Sequence[bytes], timeout: float) -> None:
        """Send commands packed by `pack`; connects if need be.

        Raises:
            OperationalError: it can't; the connection is closed.
        """
        if self._sock is None:
            self.connect(timeout)
        try:
            self._limit(timeout)
            self._sock.sendall(packed if isinstance(packed, bytes) else b"".join(packed))
        except OSError as exc:
            raise self.broken(exc) from exc

    def read(self, timeout: float) -> Any:
        """The next answer; an error the server answers with is returned, not raised.

        Raises:
            OperationalError: none came; the connection is closed.
        """
        reader = self.reader
        if reader is None:
            raise self.broken(Closed("the connection was closed"))
        try:
            answer = reader.gets()
            if answer is _MORE:
                self._limit(timeout)
                recv = self._sock.recv
                while answer is _MORE:
                    data = recv(65536)
                    if not data:
                        raise Closed("the server closed the connection")
                    reader.feed(data)
                    answer = reader.gets()
        except OSError as exc:
            raise self.broken(exc) from exc
        except AttributeError as exc:  # another thread has just closed it
            raise self.broken(Closed("the connection was closed")) from exc
        except Exception as exc:  # hiredis' ProtocolError is a plain Exception
            raise self.broken(Garbled(str(exc))) from exc
        return answer

    def _limit(self, timeout: float) -> None:
        if timeout != self._timeout:
            self._sock.settimeout(timeout if timeout > 0 else 0.001)
            self._timeout = timeout

    def fileno(self) -> int:
        """The socket's, for select; -1 if it isn't connected."""
        return int(self._sock.fileno()) if self._sock is not None else -1

    def buffered(self) -> bool:
        """True if there may be more to read than select would tell."""
        if self.reader is not None and self.reader.has_data():
            return True
        pending = getattr(self._sock, "pending", None)
        return bool(pending is not None and pending())

    def is_stale(self) -> bool:
        """True if the other side has closed it, or sent what nobody asked for."""
        return self._sock is None or bool(readable((self.fileno(),), 0.0))

    def broken(self, exc: BaseException) -> OperationalError:
        """Close after an error; return it in our words."""
        self.close()
        return translate(exc, self.place)

    def close(self) -> None:
        """Close.  Idempotent."""
        self._sock = None
        self.reader = None
        self.raw.disconnect()


def pack(*command: Any) -> bytes:
    """A command as it is sent."""
    packed: bytes = hiredis.pack_command(command)
    return packed


def is_unknown_script(answer: object) -> bool:
    """True for the server's word that it has forgotten a script."""
    return isinstance(answer, Exception) and str(answer).startswith("NOSCRIPT")
