"""A connection over TCP or a unix socket, connected and greeted here.

redis-py does the same, and much more: to import it takes a fifth of a second and a third
of an idle worker's memory.  So it is loaded where it is needed, for TLS, Sentinels,
clusters and credential providers, and plain connections do without.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any

import hiredis

from caraway_redis.faults import Closed, Garbled, Refused

if TYPE_CHECKING:
    from caraway_redis.addresses import Address
    from caraway_redis.options import Options


class PlainConnection:
    """Has of redis-py's connections what `caraway_redis.wires.Wire` uses.

    Args:
        address: without TLS.
        options: of the socket, and the client's name.
        protocol: 2 or 3, of Redis' protocol.

    Attributes:
        socket_connect_timeout: seconds for connecting and greeting together.
        socket_timeout: as redis-py has it; not used.
    """

    def __init__(self, address: Address, options: Options, protocol: int) -> None:
        self.socket_connect_timeout = self.socket_timeout = 4.0
        self._address = address
        self._options = options
        self._greeting = _greeting(address, options, protocol)
        self._sock: socket.socket | None = None
        self._pid = 0

    def connect(self) -> None:
        """Connect and greet.

        Raises:
            OSError: it can't.
            Refused: the server doesn't want us.
            Garbled: it is no Redis.
        """
        end = monotonic() + self.socket_connect_timeout
        made = self._connected(end)
        try:
            if self._greeting:
                _greet(made, self._greeting, end)
        except BaseException:
            made.close()
            raise
        self._sock = made
        self._pid = os.getpid()

    def _connected(self, end: float) -> socket.socket:
        path = self._address.path
        if path:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                made.settimeout(_left(end))
                made.connect(path)
            except BaseException:
                made.close()
                raise
            return made
        host, port = self._address.hosts[0]
        made = socket.create_connection((host, port), _left(end))
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._options.socket_keepalive:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in (self._options.socket_keepalive_options or {}).items():
                made.setsockopt(socket.IPPROTO_TCP, name, value)
        return made

    def disconnect(self) -> None:
        """Close.  Idempotent."""
        made, self._sock = self._sock, None
        if made is not None:
            if self._pid == os.getpid():  # a child's copy must not end its parent's
                with suppress(OSError):
                    # Another thread may be waiting for it, and closing tells it nothing.
                    made.shutdown(socket.SHUT_RDWR)
            made.close()


def _greeting(address: Address, options: Options, protocol: int) -> list[bytes]:
    """What is sent first, a command each."""
    pack = hiredis.pack_command
    user, password = address.username, address.password
    commands: list[tuple[Any, ...]] = []
    if protocol == 3:
        auth = ("AUTH", user or "default", password) if user or password else ()
        commands.append(("HELLO", 3, *auth))
    elif user:
        commands.append(("AUTH", user, password))
    elif password:
        commands.append(("AUTH", password))
    if options.client_name:
        commands.append(("CLIENT", "SETNAME", options.client_name))
    if address.db:
        commands.append(("SELECT", address.db))
    return [pack(command) for command in commands]


def _greet(made: socket.socket, greeting: list[bytes], end: float) -> None:
    made.settimeout(_left(end))
    made.sendall(b"".join(greeting))
    more: Any = object()
    reader = hiredis.Reader(notEnoughData=more)
    for _ in greeting:
        while True:
            try:
                answer = reader.gets()
            except hiredis.ProtocolError as exc:
                raise Garbled(str(exc)) from exc
            if answer is not more:
                break
            made.settimeout(_left(end))
            data = made.recv(65536)
            if not data:
                raise Closed("the server closed the connection")
            reader.feed(data)
        if isinstance(answer, Exception):
            raise Refused(str(answer))


def _left(end: float) -> float:
    return max(0.001, end - monotonic())
