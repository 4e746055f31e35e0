"""Connections to one Redis: made, pooled, checked, and named for people.

redis-py makes them (TLS, users, sockets, Sentinels) and its parser reads them; what is
sent and when is decided here, so that a batch costs one system call each way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha1
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import hiredis
from redis import exceptions as driver

from caraway.errors import ImproperlyConfigured, OperationalError, TransportError
from caraway_redis.addresses import Address, connector
from caraway_redis.faults import translate
from caraway_redis.options import Options, read_options

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url

OLDEST = (6, 2)
"""The oldest server with all commands that are used (``LMOVE``, counts of ``RPOP``)."""
_STALE = 1.0
"""Seconds after which an idle connection is looked at before it is used."""
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
        raw: redis-py's, not connected yet.  It connects and authenticates; what follows
            is sent and parsed here.
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
            raw.socket_connect_timeout = max(0.001, min(self.connect_timeout, timeout))
            raw.connect()
        except (driver.RedisError, OSError) as exc:
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
        try:
            answer = reader.gets()
            if answer is _MORE:
                self._limit(timeout)
                recv = self._sock.recv
                while answer is _MORE:
                    data = recv(65536)
                    if not data:
                        raise driver.ConnectionError("the server closed the connection")
                    reader.feed(data)
                    answer = reader.gets()
        except (driver.RedisError, OSError, AttributeError) as exc:
            raise self.broken(exc) from exc
        except Exception as exc:  # hiredis' ProtocolError is a plain Exception
            raise self.broken(driver.ConnectionError(f"not Redis' protocol: {exc}")) from exc
        return answer

    def _limit(self, timeout: float) -> None:
        if timeout != self._timeout:
            self._sock.settimeout(timeout if timeout > 0 else 0.001)
            self._timeout = timeout

    def call(self, *command: Any, timeout: float) -> Any:
        """One command and its answer.

        Raises:
            OperationalError: it failed.
        """
        self.send(pack(*command), timeout)
        answer = self.read(timeout)
        if isinstance(answer, Exception):
            raise translate(answer, self.place) from answer
        return answer

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
        import select

        if self._sock is None:
            return True
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        return bool(poll.poll(0))

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


class Link:
    """What one component of one process has of a server.  Thread-safe.

    Args:
        url: of the server.
        options: see `caraway_redis.options.Options`.
        context: of the component.
        ssl: the setting for TLS (`broker_use_ssl`, `redis_backend_use_ssl`).
        fault: makes of an error what the component raises.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
    """

    def __init__(
        self,
        url: Url,
        options: Mapping[str, Any],
        context: Context,
        *,
        ssl: Any = None,
        fault: Callable[[OperationalError], OperationalError] | None = None,
    ) -> None:
        extra = dict(ssl) if isinstance(ssl, Mapping) else {}
        self.options: Options = read_options(url, options, extra)
        self.address = Address.read(url, self.options, tls=bool(ssl))
        timeout = self.options.socket_connect_timeout or float(
            context.settings.get("broker_connection_timeout") or 4.0
        )
        self._connect = connector(self.address, self.options, timeout)
        self._timeout = self.options.socket_timeout
        self._connect_timeout = timeout
        self._fault = fault
        self._idle: list[Wire] = []
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._checked = False
        self._open = 0
        self._room = threading.Condition(self._lock)
        self.closed = False

    @property
    def place(self) -> str:
        """The server, for people."""
        return self.address.shown

    @property
    def prefix(self) -> str:
        """Before each key."""
        return self.options.global_keyprefix

    @property
    def db(self) -> int:
        """Number of the database."""
        return self.address.db

    # -- connections -------------------------------------------------------------------

    def wire(self, protocol: int = 2) -> Wire:
        """A connection of the caller's own, not pooled; not connected yet."""
        return Wire(self._connect(protocol), self.place, self._connect_timeout)

    def _take(self, timeout: float) -> Wire:
        if self._pid != os.getpid():
            # What was inherited through a fork belongs to the parent.
            self._idle, self._open, self._pid = [], 0, os.getpid()
            self._lock = threading.Lock()
            self._room = threading.Condition(self._lock)
        if self.closed:
            raise TransportError(f"this connection to {self.place} is closed")
        while self._idle:
            try:
                wire = self._idle.pop()
            except IndexError:
                break
            if monotonic() - wire.used < _STALE or not wire.is_stale():
                return wire
            self._drop(wire)
        most = self.options.max_connections
        with self._room:
            if most and self._open >= most:
                self._room.wait_for(lambda: bool(self._idle) or self._open < most, timeout)
                if self._idle:
                    return self._idle.pop()
            self._open += 1
        try:
            wire = self.wire()
            wire.connect(timeout)
            if not self._checked:
                self._check(wire, timeout)
        except BaseException:
            with self._room:
                self._open -= 1
                self._room.notify()
            raise
        return wire

    def check(self) -> None:
        """See that the server can do what is needed, once.

        Raises:
            OperationalError, ImproperlyConfigured: it can't.
        """
        if not self._checked:
            self.call("PING")

    def _give(self, wire: Wire) -> None:
        wire.used = monotonic()
        if self.closed:
            wire.close()
            return
        self._idle.append(wire)
        if self.options.max_connections:
            with self._room:
                self._room.notify()

    def _drop(self, wire: Wire) -> None:
        wire.close()
        with self._room:
            self._open -= 1
            self._room.notify()

    def _check(self, wire: Wire, timeout: float) -> None:
        """See once that the server can do what is needed."""
        wire.send(pack("HELLO"), timeout)
        answer = wire.read(timeout)
        if isinstance(answer, Exception):
            if str(answer).startswith(("ERR unknown command", "ERR wrong number")):
                raise _too_old(self.place, "before 6")
            error = translate(answer, self.place)
            if "NOPERM" not in str(answer):
                raise error from answer
            self._checked = True
            return
        told = dict(zip(answer[::2], answer[1::2], strict=False))
        version = told.get(b"version", b"").decode()
        if _numbers(version) < OLDEST:
            raise _too_old(self.place, version)
        if told.get(b"mode") == b"cluster" and not self.options.hash_tag:
            raise ImproperlyConfigured(
                f"{self.place} is a cluster, where Celery's key names can't work: the keys of "
                "one operation would lie on several nodes",
                hint="Add hash_tag=caraway to the URL's options (then only Caraway can share "
                "these queues), or use one server, with Sentinels for failover.",
            )
        self._checked = True

    # -- commands ----------------------------------------------------------------------

    def call(self, *command: Any, timeout: float = 0.0) -> Any:
        """One command.

        Raises:
            OperationalError: it failed.
        """
        return self.exchange(pack(*command), 1, timeout)[0]

    def exchange(
        self, packed: bytes | Sequence[bytes], answers: int, timeout: float = 0.0
    ) -> list[Any]:
        """Send packed commands in one go; return their answers.

        Args:
            packed: see `pack`.
            answers: how many commands they are.
            timeout: seconds; 0 is the option `socket_timeout`.

        Raises:
            OperationalError: the first error among the answers, or no answer came.
        """
        got = self.answers(packed, answers, timeout)
        for answer in got:
            if isinstance(answer, Exception):
                raise self.fault(answer) from answer
        return got

    def answers(
        self, packed: bytes | Sequence[bytes], answers: int, timeout: float = 0.0
    ) -> list[Any]:
        """As `exchange`, but errors among the answers are returned.

        Raises:
            OperationalError: no answer came.
        """
        limit = timeout or self._timeout
        try:
            end = monotonic() + limit
            wire = self._take(limit)
            try:
                if wire.used > end - limit:  # it is new, and connecting took its time
                    limit = max(0.001, end - monotonic())
                wire.send(packed, limit)
                got = [wire.read(limit) for _ in range(answers)]
            except BaseException:
                self._drop(wire)
                raise
            self._give(wire)
        except OperationalError as exc:
            if self._fault is None:
                raise
            raise self._fault(exc) from exc.__cause__
        return got

    def fault(self, answer: Exception) -> OperationalError:
        """The error to raise for one that the server answered with."""
        text = str(answer)
        if text.startswith("READONLY") or self.address.moved(text):
            # After a failover connections may lead to what is a replica now.
            self.disconnect()
        error = translate(answer, self.place)
        error.__cause__ = answer
        return error if self._fault is None else self._fault(error)

    def run(
        self, script: Script, keys: Sequence[Any], args: Sequence[Any], timeout: float = 0.0
    ) -> Any:
        """Run a script, by its hash where the server knows it.

        Raises:
            OperationalError: it failed.
        """
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args, timeout=timeout)
        except OperationalError as exc:
            if not is_unknown_script(exc.__cause__):
                raise
        return self.call("EVAL", script.source, len(keys), *keys, *args, timeout=timeout)

    def disconnect(self) -> None:
        """Close idle connections; the next command makes new ones."""
        while self._idle:
            try:
                self._drop(self._idle.pop())
            except IndexError:
                return

    def close(self) -> None:
        """Close for good.  Idempotent."""
        self.closed = True
        if self._pid == os.getpid():
            self.disconnect()


def is_unknown_script(answer: object) -> bool:
    """True for the server's word that it has forgotten a script."""
    return isinstance(answer, Exception) and str(answer).startswith("NOSCRIPT")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")[:2]
    return tuple(int(part) if part.isdigit() else 0 for part in parts)


def _too_old(place: str, version: str) -> TransportError:
    return TransportError(
        f"{place} is Redis {version}; 6.2 is the oldest that can be used",
        hint="Update the server; any Valkey will do, too.",
    )
