"""A process that speaks TLS for one connection, and sends its heartbeats.

The state of TLS can't be shared between two processes, as a plain socket can (see
`caraway_amqp.pacemaker`).  So the connection's owner speaks plain AMQP to this process, on
a pair of sockets, and this one speaks TLS to the broker.  Between the owner's frames it
writes heartbeats of its own.  It ends, and with it the connection, the moment its owner
does; what that had sent before still goes out.

Run by its path: it imports the standard library alone, which keeps it small.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import ssl
import sys
import time
from collections.abc import Mapping
from typing import Any

_BEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_GREETING = 8
"""Bytes before the first frame."""
_MOST = 256 * 1024
"""Bytes held for one direction; beyond, the sender has to wait, as with a plain socket."""
_CHUNK = 64 * 1024
_LAST = 1.0
"""Seconds for what is on its way to a side that may be gone as well."""
_PATIENCE = 10.0
"""Seconds for a broker to take what its client sent before it ended."""


def context_of(options: Mapping[str, Any]) -> ssl.SSLContext:
    """The context of a client.

    Args:
        options: see `caraway_amqp.options.Address.tls`.

    Raises:
        OSError: a file can't be read, or isn't what it should be.
        ValueError: an option can't be.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    mode = ssl.VerifyMode(options["cert_reqs"])
    context.check_hostname = mode != ssl.CERT_NONE
    context.verify_mode = mode
    for name in ("minimum_version", "maximum_version"):
        version = options.get(f"tls_{name}")
        if version is not None:
            setattr(context, name, ssl.TLSVersion(version))
    if options.get("ciphers"):
        context.set_ciphers(options["ciphers"])
    named = {name: options.get(name) for name in ("certfile", "keyfile", "ca_certs")}
    try:
        if named["certfile"]:
            # A password, so that nobody is asked for one at a terminal.
            context.load_cert_chain(named["certfile"], named["keyfile"], "")
        if named["ca_certs"]:
            context.load_verify_locations(named["ca_certs"])
        elif mode != ssl.CERT_NONE:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    except OSError as exc:
        shown = ", ".join(f"{name} {value!r}" for name, value in named.items() if value)
        raise OSError(f"{exc} (of {shown})") from exc
    return context


class _Frames:
    """Where in a stream of AMQP one frame ends and the next begins."""

    def __init__(self) -> None:
        self._missing = _GREETING
        self._head = b""

    @property
    def whole(self) -> bool:
        """All that came so far are whole frames."""
        return not self._missing and not self._head

    def follow(self, data: bytes) -> None:
        """This comes next."""
        at, end = 0, len(data)
        while at < end:
            if self._missing:
                step = min(self._missing, end - at)
                self._missing -= step
                at += step
                continue
            step = min(7 - len(self._head), end - at)
            self._head += data[at : at + step]
            at += step
            if len(self._head) == 7:
                self._missing = int.from_bytes(self._head[3:7], "big") + 1
                self._head = b""


class _Relay:
    """Both directions.

    Args:
        inner: the owner's end.
        outer: the broker's, after the handshake.
        control: orders of the owner's, and what it is told.
        parent: id of the owner's process.
    """

    def __init__(
        self, inner: socket.socket, outer: ssl.SSLSocket, control: socket.socket, parent: int
    ) -> None:
        self._inner, self._outer, self._control = inner, outer, control
        self._parent = parent
        self._up, self._down = bytearray(), bytearray()
        self._frames = _Frames()
        self._pause = 0.0
        self._said = time.monotonic()
        self._more = False
        """There may be bytes that TLS has taken off the socket: it won't become readable."""
        self._send_waits, self._read_waits = select.POLLOUT, select.POLLIN
        for each in (inner, outer, control):
            each.setblocking(False)  # noqa: FBT003 - the standard library's

    def run(self) -> None:
        """Until one side is gone."""
        try:
            while self._turn():
                pass
        finally:
            self._finish()

    def _turn(self) -> bool:
        now = time.monotonic()
        if self._pause and now - self._said >= self._pause and self._frames.whole and not self._up:
            self._up += _BEAT
        ready = self._wait(now)
        if os.getppid() != self._parent:
            return False
        if self._control.fileno() in ready:
            self._obey()
        inner = ready.get(self._inner.fileno(), 0)
        if inner & ~select.POLLOUT and len(self._up) < _MOST and not self._take():
            return False
        if self._up:
            self._send()
        alive = True
        if (self._more or self._outer.fileno() in ready) and len(self._down) < _MOST:
            alive = self._read()
        if self._down:
            try:
                del self._down[: self._inner.send(self._down)]
            except BlockingIOError:
                pass
            except OSError:
                # It is closed; what was sent before is still to be read.
                self._down.clear()
        return alive

    def _take(self) -> bool:
        """Read from the owner; False at the end."""
        try:
            data = self._inner.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._frames.follow(data)
        self._up += data
        return bool(data)

    def _wait(self, now: float) -> dict[int, int]:
        inner = outer = 0
        if len(self._up) < _MOST:
            inner |= select.POLLIN
        if self._down:
            inner |= select.POLLOUT
        if len(self._down) < _MOST:
            outer |= self._read_waits
        if self._up:
            outer |= self._send_waits
        poll = select.poll()
        poll.register(self._inner, inner)
        poll.register(self._outer, outer)
        if self._control.fileno() >= 0:
            poll.register(self._control, select.POLLIN)
        left = 1.0
        if self._pause:
            left = max(0.0, min(left, self._said + self._pause - now))
            if self._up or not self._frames.whole:
                left = 1.0
        if self._more and len(self._down) < _MOST:
            left = 0.0
        return dict(poll.poll(left * 1000.0))

    def _obey(self) -> None:
        try:
            line = self._control.recv(1024)
        except OSError:
            line = b""
        if not line:
            # Its owner is about to end: so says the other socket, too.
            self._control.close()
            return
        self._pause = float(line)

    def _send(self) -> None:
        try:
            sent = self._outer.send(bytes(self._up[:_CHUNK]))
        except ssl.SSLWantReadError:
            self._send_waits = select.POLLIN
            return
        except ssl.SSLWantWriteError:
            self._send_waits = select.POLLOUT
            return
        except OSError:
            # Why the broker hung up, if it did, is to be read.
            self._outer.settimeout(_LAST)
            self._outer.recv(1)
            raise
        self._send_waits = select.POLLOUT
        self._said = time.monotonic()
        del self._up[:sent]

    def _read(self) -> bool:
        self._more = False
        while len(self._down) < _MOST:
            try:
                data = self._outer.recv(_CHUNK)
            except ssl.SSLWantReadError:
                self._read_waits = select.POLLIN
                return True
            except ssl.SSLWantWriteError:
                self._read_waits = select.POLLOUT
                return True
            if not data:
                return False
            self._down += data
        self._more = True
        return True

    def _finish(self) -> None:
        """What either side sent before it went is passed on."""
        size = -1
        while len(self._up) != size:
            size = len(self._up)
            self._take()
        self._outer.settimeout(_PATIENCE)
        self._inner.settimeout(_LAST)
        for end, data in ((self._inner, self._down), (self._outer, self._up)):
            try:
                if data:
                    end.sendall(data)
            except OSError:
                pass
        try:
            self._outer.setblocking(False)  # noqa: FBT003 - the standard library's
            self._outer.unwrap()
        except (OSError, ValueError):
            pass


def _report(control: socket.socket, exc: Exception) -> None:
    kind = "files" if isinstance(exc, _Files) else "tls" if isinstance(exc, ssl.SSLError) else "os"
    passing = isinstance(exc, ssl.SSLEOFError | ssl.SSLZeroReturnError)
    text = {"kind": "os" if passing else kind, "text": str(exc) or type(exc).__name__}
    try:
        control.setblocking(True)  # noqa: FBT003 - the standard library's
        control.sendall(json.dumps(text).encode() + b"\n")
    except OSError:
        pass


class _Files(Exception):
    """Of the options of TLS."""


def main() -> None:
    """Arguments: descriptors of the pair's end, the broker's socket and the control socket,
    and the id of the owner's process.  The options come through the control socket."""
    # Terminals and service managers signal whole groups: it ends with its parent, not before.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    inner, outer, control = (socket.socket(fileno=int(each)) for each in sys.argv[1:4])
    try:
        with control.makefile("rb") as lines:
            options = json.loads(lines.readline())
        try:
            context = context_of(options)
        except (OSError, ValueError) as exc:
            raise _Files(str(exc)) from exc
        outer.settimeout(options["timeout"])
        secure = context.wrap_socket(outer, server_hostname=options["server_hostname"])
        control.sendall(b'{"kind": ""}\n')
        _Relay(inner, secure, control, int(sys.argv[4])).run()
    except Exception as exc:  # noqa: BLE001 - the owner says it
        _report(control, exc)


if __name__ == "__main__":
    main()
