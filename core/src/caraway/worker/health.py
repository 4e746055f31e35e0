"""Is the worker well?  Over HTTP and as a file, from one thread of the supervisor.

- ``GET /live``: 200 as long as the supervisor answers;
- ``GET /health``: 200 if every check is green, else 503; JSON with each check;
- ``GET /metrics``: Prometheus text, see `caraway.worker.metrics`;
- the file is rewritten while every check is green, so a stale or missing file is red.

Written on sockets rather than `http.server`, which takes 35 ms and 4 MB to import in
every worker.  It reads a request line and nothing more, answers, and closes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

import msgspec
from msgspec import Struct

from caraway.errors import ImproperlyConfigured
from caraway.worker import metrics
from caraway.worker.metrics import WorkerSnapshot

REQUEST_LIMIT: Final = 8 * 1024
"""Bytes that a request may have before it is answered with 431."""
REQUEST_SECONDS: Final = 5.0
"""How long a client may take to send its request and to read the answer."""
CONNECTIONS: Final = 64
"""How many clients are served at a time; more wait in the system's backlog."""
FILE_SECONDS: Final = 5.0
"""How often the health file is rewritten."""

Snapshot = Callable[[], WorkerSnapshot]


class Check(Struct, frozen=True):
    """One thing that must be well."""

    name: str
    ok: bool
    detail: str = ""


def checks(snapshot: WorkerSnapshot) -> list[Check]:
    """What makes a worker healthy.  One that was asked to stop, and does, is."""
    found = [Check("broker", not snapshot.broker_error, snapshot.broker_error)]
    up = any(lane.state in ("starting", "ready") for lane in snapshot.lanes)
    found.append(Check("lanes", up or snapshot.stopping, "" if up else "no lane is up"))
    for lane in snapshot.lanes:
        stuck = snapshot.is_stuck(lane)
        detail = ""
        if stuck:
            runs = ", ".join(
                f"{task.name or 'task'}[{task.task_id}] for {task.age:.0f} s"
                for task in lane.running
            )
            detail = (
                f"no sign of life for {lane.tick_age:.0f} s (pid {lane.pid})"
                f"; runs {runs or 'nothing'}"
            )
        found.append(Check(f"lane {lane.index}", not stuck, detail))
    return found


class HealthServer:
    """Serves health and metrics until stopped.

    Args:
        address: ``host:port``; the host may be left out (loopback) and the port be 0
            (any free one); empty for no HTTP.
        snapshot: called in the server's thread for each request, and for the file.
        file: path of the health file; empty for none.

    Raises:
        ImproperlyConfigured: the address can't be read (here), or can't be served
            (`start`).
    """

    def __init__(self, address: str, snapshot: Snapshot, *, file: str = "") -> None:
        self._wanted = parse_address(address) if address else None
        self._snapshot = snapshot
        self._file = file
        self._selector: selectors.BaseSelector | None = None
        self._listener: socket.socket | None = None
        self._wake: tuple[socket.socket, socket.socket] | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._next_file = 0.0

    @property
    def address(self) -> tuple[str, int] | None:
        """Where it listens, with the real port; None if it doesn't."""
        if self._listener is None:
            return None
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    def start(self) -> None:
        """Listen, and serve in a thread."""
        if self._wanted is not None:
            self._listener = _listen(*self._wanted)
        self._selector = selectors.DefaultSelector()
        self._wake = socket.socketpair()
        self._wake[0].settimeout(0.0)
        self._selector.register(self._wake[0], selectors.EVENT_READ)
        if self._listener is not None:
            self._selector.register(self._listener, selectors.EVENT_READ)
        self._stopped = False
        self._thread = threading.Thread(target=self._serve, name="caraway-health", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop serving and remove the file.  Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._stopped = True
        if self._wake is not None:
            with contextlib.suppress(OSError):
                self._wake[1].send(b"x")
        thread.join(timeout=5.0)
        if self._file:
            with contextlib.suppress(OSError):
                os.unlink(self._file)

    # -- the thread --------------------------------------------------------------------

    def _serve(self) -> None:
        assert self._selector is not None
        clients: dict[int, _Client] = {}
        try:
            while not self._stopped:
                for key, _ in self._selector.select(self._timeout(clients)):
                    if key.fileobj is self._listener:
                        self._accept(clients)
                    elif key.data is not None:
                        self._advance(key.data, clients)
                now = monotonic()
                for client in [c for c in clients.values() if c.deadline <= now]:
                    self._drop(client, clients)
                if self._file and now >= self._next_file:
                    self._next_file = now + FILE_SECONDS
                    self._write_file()
        finally:
            for client in list(clients.values()):
                self._drop(client, clients)
            self._selector.close()
            for open_socket in (self._listener, *(self._wake or ())):
                if open_socket is not None:
                    open_socket.close()
            self._listener = self._wake = None

    def _timeout(self, clients: dict[int, _Client]) -> float | None:
        times = [client.deadline for client in clients.values()]
        if self._file:
            times.append(self._next_file)
        return max(min(times) - monotonic(), 0.0) if times else None

    def _accept(self, clients: dict[int, _Client]) -> None:
        assert self._selector is not None
        assert self._listener is not None
        if len(clients) >= CONNECTIONS:
            # The oldest makes room: else 64 silent clients would hide a sick worker.
            self._drop(min(clients.values(), key=lambda client: client.deadline), clients)
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        connection.settimeout(0.0)
        client = _Client(connection, monotonic() + REQUEST_SECONDS)
        clients[connection.fileno()] = client
        self._selector.register(connection, selectors.EVENT_READ, client)

    def _advance(self, client: _Client, clients: dict[int, _Client]) -> None:
        assert self._selector is not None
        try:
            if client.answer is None:
                if not client.read():
                    return
                client.answer = memoryview(self._respond(bytes(client.request)))
            if client.write():
                self._drop(client, clients)
            else:
                self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
        except (BlockingIOError, InterruptedError):
            if client.answer is not None:
                self._selector.modify(client.socket, selectors.EVENT_WRITE, client)
        except OSError:
            self._drop(client, clients)

    def _drop(self, client: _Client, clients: dict[int, _Client]) -> None:
        assert self._selector is not None
        if clients.pop(client.socket.fileno(), None) is not None:
            self._selector.unregister(client.socket)
        client.close()

    # -- answers -----------------------------------------------------------------------

    def _respond(self, request: bytes) -> bytes:
        if len(request) > REQUEST_LIMIT:
            return _response("431 Request Header Fields Too Large", b"too large\n")
        words = request.split(b"\n", 1)[0].split()
        if len(words) != 3 or not words[2].startswith(b"HTTP/"):
            return _response("400 Bad Request", b"not an HTTP request\n")
        method, target, _ = words
        head = method == b"HEAD"
        if method not in (b"GET", b"HEAD"):
            return _response("405 Method Not Allowed", b"only GET\n", extra="Allow: GET, HEAD\r\n")
        path = target.split(b"?", 1)[0].rstrip(b"/")
        if path == b"/live":
            return _response("200 OK", b"live\n", head=head)
        if path not in (b"/health", b"/metrics"):
            return _response("404 Not Found", b"try /health, /live or /metrics\n", head=head)
        try:
            snapshot = self._snapshot()
            if path == b"/metrics":
                text = metrics.render(snapshot).encode()
                return _response("200 OK", text, kind=metrics.CONTENT_TYPE, head=head)
            healthy, body = report(snapshot)
        except Exception as exc:  # noqa: BLE001 - a health page that fails must say so
            error = {"status": "error", "error": f"{type(exc).__name__}: {exc}"}
            healthy, body = False, msgspec.json.encode(error)
        status = "200 OK" if healthy else "503 Service Unavailable"
        return _response(status, body + b"\n", kind="application/json", head=head)

    def _write_file(self) -> None:
        try:
            healthy, body = report(self._snapshot())
            if not healthy:
                return
            # A reader sees the old file or the new one, never a half.
            part = f"{self._file}.{os.getpid()}.part"
            with open(part, "wb") as file:
                file.write(body + b"\n")
            os.replace(part, self._file)
        except Exception:
            import logging

            logging.getLogger("caraway.worker").exception("health file %s", self._file)


def report(snapshot: WorkerSnapshot) -> tuple[bool, bytes]:
    """Whether the worker is healthy, and the JSON that says why."""
    found = checks(snapshot)
    healthy = all(check.ok for check in found)
    body: dict[str, Any] = {
        "status": "ok" if healthy else "unhealthy",
        "node": snapshot.node,
        "pid": snapshot.pid,
        "uptime": round(snapshot.uptime, 3),
        "stopping": snapshot.stopping,
        "checks": {check.name: {"ok": check.ok, "detail": check.detail} for check in found},
    }
    return healthy, msgspec.json.encode(body)


def parse_address(text: str) -> tuple[str, int]:
    """Read ``host:port``, ``:port``, ``port`` or ``[ipv6]:port``.

    Raises:
        ImproperlyConfigured: it is none of these.
    """
    host, _, port = text.strip().rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > 65535:
        raise ImproperlyConfigured(
            f"worker_health_address is {text!r}",
            hint="write host:port, e.g. 127.0.0.1:9808, or 0.0.0.0:9808 inside a container",
        )
    # Metrics show task names and ids: nobody else is let in unless that was asked for.
    return host or "127.0.0.1", int(port)


class _Client:
    """One connection: what it sent, and what is still to be sent to it."""

    __slots__ = ("answer", "deadline", "request", "socket")

    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self.socket = connection
        self.deadline = deadline
        self.request = bytearray()
        self.answer: memoryview | None = None

    def read(self) -> bool:
        """Read on; True if the request is whole, or too large."""
        data = self.socket.recv(4096)
        if not data:
            raise ConnectionResetError
        self.request += data
        # The headers are read to their end: closing with unread bytes would reset the
        # connection, and the client might lose the answer.
        return (
            b"\r\n\r\n" in self.request
            or b"\n\n" in self.request
            or len(self.request) > REQUEST_LIMIT
        )

    def write(self) -> bool:
        """Send on; True if all was sent."""
        assert self.answer is not None
        self.answer = self.answer[self.socket.send(self.answer) :]
        return not self.answer

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        self.socket.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            if os.name == "posix":  # on Windows this would let two programs share the port
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen(128)
            listener.settimeout(0.0)
        except BaseException:
            listener.close()
            raise
    except OSError as exc:
        raise ImproperlyConfigured(
            f"can't serve health at {host}:{port}: {exc}",
            hint="choose another worker_health_address; port 0 takes any free one",
        ) from exc
    return listener


def _response(
    status: str,
    body: bytes,
    *,
    kind: str = "text/plain; charset=utf-8",
    extra: str = "",
    head: bool = False,
) -> bytes:
    start = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"Cache-Control: no-store\r\n{extra}Connection: close\r\n\r\n"
    )
    return start.encode("latin-1") + (b"" if head else body)
