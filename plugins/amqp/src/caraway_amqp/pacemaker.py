"""A process that sends the heartbeats of one connection, whatever its owner does.

RabbitMQ ends a connection that is silent for two heartbeats, and gives its messages to
others.  A task that holds the interpreter's lock, say a long regular expression, silences
every thread of its process.  So the socket is shared with a small process that runs no
tasks: it writes a heartbeat now and then, and ends, closing its end of the socket, the
moment its parent does.  A lock of the system's keeps a heartbeat from landing in the
middle of a frame.

Not for TLS, whose state can't be shared.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket

if sys.platform != "win32":
    import fcntl

_BEAT = r"""
# Modules in C only: `signal` and `socket` would double its memory.
import _signal, fcntl, os, select, sys
number, lock, pipe, parent = map(int, sys.argv[1:5])
pause = float(sys.argv[5])
# Terminals and service managers signal whole groups: it ends with its parent, not before.
for each in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
    _signal.signal(each, _signal.SIG_IGN)
while os.getppid() == parent and not select.select([pipe], [], [], pause)[0]:
    fcntl.lockf(lock, fcntl.LOCK_EX)
    try:
        frame = b"\x08\x00\x00\x00\x00\x00\x00\xce"
        while frame:
            try:
                frame = frame[os.write(number, frame):]
            except BlockingIOError:
                if len(frame) == 8:
                    break
                if select.select([pipe], [number], [], pause)[0]:
                    sys.exit()
    except OSError:
        break
    finally:
        fcntl.lockf(lock, fcntl.LOCK_UN)
"""


class Pacemaker:
    """See the module's text.

    Args:
        sock: of the connection.
        heartbeat: seconds, as agreed with the broker.

    Raises:
        OSError: no process can be started.
    """

    def __init__(self, sock: socket.socket, heartbeat: float) -> None:
        self._lock = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as this is
        self._pid = os.getpid()
        ears, self._mouth = os.pipe()
        try:
            numbers = (sock.fileno(), self._lock.fileno(), ears)
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [
                    sys.executable, "-I", "-S", "-c", _BEAT,
                    *map(str, numbers), str(os.getpid()), str(heartbeat / 3),
                ],
                pass_fds=numbers, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            os.close(self._mouth)
            self._lock.close()
            raise
        finally:
            os.close(ears)

    def __enter__(self) -> None:
        """From here on the socket is this process's alone."""
        fcntl.lockf(self._lock, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        if not self._lock.closed:
            fcntl.lockf(self._lock, fcntl.LOCK_UN)

    def __del__(self) -> None:
        # A connection that nobody closed must not live on.
        if hasattr(self, "_process"):
            self.end()

    def end(self) -> None:
        """No more heartbeats.  Idempotent."""
        if self._lock.closed:
            return
        os.close(self._mouth)
        self._lock.close()
        if self._pid == os.getpid():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(2.0)


def possible(*, tls: bool) -> bool:
    """True if a connection can have one."""
    return sys.platform != "win32" and not tls and bool(sys.executable)
