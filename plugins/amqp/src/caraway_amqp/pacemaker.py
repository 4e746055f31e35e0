"""A process that sends the heartbeats of one connection, whatever its owner does.

RabbitMQ ends a connection that is silent for two heartbeats, and gives its messages to
others.  A task that holds the interpreter's lock, say a long regular expression, silences
every thread of its process.  So the socket is shared with a small process that runs no
tasks: it writes a heartbeat now and then, and ends, closing its end of the socket, the
moment its parent does.  A lock of the system's keeps a heartbeat from landing in the
middle of a frame.

The state of TLS can't be shared so.  There the process speaks TLS for its owner: see
`caraway_amqp.relay`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from caraway_amqp.options import unreadable

if sys.platform != "win32":
    import fcntl

_LAST_WORDS = 0.5
"""Seconds for a relay to say why it ends."""

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
            _reap(self._process)


class Relay:
    """The owner's side of `caraway_amqp.relay`.

    Args:
        sock: connected to the broker; the relay has it from here on.
        options: of TLS; see `caraway_amqp.options.Address.tls`.
        timeout: seconds for the handshake.

    Attributes:
        socket: for plain AMQP.

    Raises:
        OSError: no process can be started; or, as `ssl.SSLError`, no TLS is agreed on.
        ImproperlyConfigured: a file of the options can't be read.
    """

    def __init__(self, sock: socket.socket, options: Mapping[str, Any], timeout: float) -> None:
        self.socket, inner = socket.socketpair()
        self._control, control = socket.socketpair()
        self._heard = b""
        self._pid = os.getpid()
        numbers = (inner.fileno(), sock.fileno(), control.fileno())
        script = Path(__file__).with_name("relay.py")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very Python
                [
                    sys.executable, "-I", "-S", str(script),
                    *map(str, numbers), str(os.getpid()),
                ],
                pass_fds=numbers, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._control.close()
            self.socket.close()
            raise
        finally:
            for each in (inner, control, sock):
                each.close()
        try:
            self._control.settimeout(timeout + 1.0)
            order = {**options, "timeout": timeout}
            self._control.sendall(json.dumps(order).encode() + b"\n")
            error = self._told() or {"kind": "os", "text": "the process that speaks TLS died"}
            if error["kind"] == "files":
                raise unreadable(error["text"])
            if error["kind"]:
                raise _as_error(error)
        except BaseException:
            self.end()
            raise

    def begin(self, heartbeat: float) -> None:
        """Send heartbeats from now on; seconds, as agreed with the broker."""
        self._control.sendall(str(heartbeat / 3).encode())

    def failed(self) -> OSError | None:
        """What the connection broke of, as far as TLS knows."""
        self._control.settimeout(_LAST_WORDS)
        try:
            told = self._told()
        except OSError:
            return None
        return _as_error(told) if told else None

    def _told(self) -> dict[str, str]:
        while b"\n" not in self._heard:
            piece = self._control.recv(4096)
            if not piece:
                return {}
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        told: dict[str, str] = json.loads(line)
        return told

    def __del__(self) -> None:
        # A connection that nobody closed must not live on.
        if hasattr(self, "_process"):
            self.end()

    def end(self) -> None:
        """No more heartbeats, and no connection.  Idempotent."""
        if self._control.fileno() < 0:
            return
        self._control.close()
        self.socket.close()
        if self._pid == os.getpid():
            _reap(self._process)


def _as_error(told: Mapping[str, str]) -> OSError:
    from ssl import SSLError

    return SSLError(1, told["text"]) if told["kind"] == "tls" else OSError(told["text"])


def _reap(process: subprocess.Popen[bytes]) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(2.0)
        return
    process.kill()
    process.wait()


def possible() -> bool:
    """True if a connection can have one."""
    return sys.platform != "win32" and bool(sys.executable)
