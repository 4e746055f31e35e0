"""How a connection to RabbitMQ begins: py-amqp connects and logs in.

It also speaks TLS, except for a connection whose heartbeats a task mustn't starve: that one
has a `caraway_amqp.relay` for both.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable, Mapping
from typing import Any

from amqp import Connection
from amqp.exceptions import AMQPError
from amqp.transport import SSLTransport, TCPTransport
from msgspec import Struct

from caraway_amqp.faults import connecting
from caraway_amqp.options import Address, unreadable
from caraway_amqp.pacemaker import Relay, possible
from caraway_amqp.relay import context_of

LONGEST_SILENCE = 30.0
"""Seconds after which the system gives a silent peer up, without heartbeats."""
_LAST_WORDS = 0.5
"""Seconds for a broker to say why it hangs up."""


class Line(Struct):
    """An open connection, logged in.

    Attributes:
        socket: it; non-blocking.
        tls: its socket speaks TLS.
        relay: what speaks TLS for it.
        heartbeat: seconds, as agreed; 0 for none.
        frame_max: bytes of the largest frame allowed.
        able: names of what the broker says that it can do.
        rest: bytes that were read and not yet looked at.
    """

    socket: socket.socket
    tls: bool
    relay: Relay | None
    heartbeat: int
    frame_max: int
    able: frozenset[str]
    rest: bytes


class _Tls(SSLTransport):  # type: ignore[misc]
    def _wrap_socket(self, sock: socket.socket, **options: Any) -> socket.socket:
        try:
            context = context_of(options)
        except (OSError, ValueError) as exc:
            raise unreadable(str(exc)) from exc
        return context.wrap_socket(
            sock, do_handshake_on_connect=False, server_hostname=options["server_hostname"]
        )

    def _write(self, data: bytes) -> None:
        try:
            super()._write(data)
        except OSError:
            # Why the broker hung up, if it did, is to be read.
            self.sock.settimeout(_LAST_WORDS)
            self.sock.recv(1)
            raise

    def _shutdown_transport(self) -> None:
        """It is closed where it didn't come about: there is nobody to say good-bye to."""


class _Relayed(TCPTransport):  # type: ignore[misc]
    relay: Relay | None = None
    sock: socket.socket

    def __init__(self, host: str, ssl: Mapping[str, Any], **kwargs: Any) -> None:
        self._options = ssl
        super().__init__(host, **kwargs)

    def _setup_transport(self) -> None:
        timeout = self.connect_timeout
        self.relay = Relay(self.sock, self._options, timeout)
        self.sock = self.relay.socket
        self.sock.settimeout(timeout)
        super()._setup_transport()


class _Connection(Connection):  # type: ignore[misc]
    """py-amqp's, over a transport of ours."""

    kind: Callable[..., Any] = TCPTransport
    made: Any = None

    def Transport(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - py-amqp's name
        names = ("host", "connect_timeout", "ssl", "read_timeout", "write_timeout")
        self.made = self.kind(**dict(zip(names, args, strict=False)), **kwargs)
        return self.made


def dial(address: Address, name: str, timeout: float, *, paced: bool) -> Line:
    """Connect and log in.

    Args:
        address: where.
        name: shown by the broker's management pages.
        timeout: seconds.
        paced: over TLS, through a relay.

    Raises:
        TransportUnavailable: the broker isn't there.
        TransportError: it refuses login, virtual host or TLS.
        ImproperlyConfigured: a file of the options of TLS can't be read.
    """
    login: dict[str, Any] = {"login_method": address.login or None}
    if not address.login and not address.tls:
        login["login_method"] = "PLAIN"
    host = f"[{address.host}]" if ":" in address.host else address.host
    connection = None
    try:
        connection = _Connection(
            f"{host}:{address.port}", address.username, address.password,
            virtual_host=address.vhost, ssl=address.tls or False,
            connect_timeout=timeout, read_timeout=timeout, write_timeout=timeout,
            heartbeat=math.ceil(address.heartbeat), socket_settings=_sockets(address.heartbeat),
            client_properties=_properties(address, name), **login,
        )  # fmt: skip
        if address.tls is not None:
            connection.kind = _Relayed if paced and possible() else _Tls
        connection.connect()
    except (OSError, AMQPError, ValueError) as exc:
        why = _why(connection, exc)
        _collect(connection)
        raise connecting(why, address.shown, address.vhost) from exc
    except BaseException:
        _collect(connection)
        raise
    return _taken(connection, tls=address.tls is not None)


def _properties(address: Address, name: str) -> dict[str, Any]:
    return {
        "product": "Caraway",
        "connection_name": name,
        "capabilities": {
            "basic.nack": True,
            "connection.blocked": True,
            "consumer_cancel_notify": True,
            "exchange_exchange_bindings": True,
            "per_consumer_qos": True,
            "publisher_confirms": True,
            "authentication_failure_close": True,
        },
        **address.properties,
    }


def _sockets(heartbeat: float) -> dict[int, int]:
    """Options of the socket that have the system notice a dead peer, no earlier than
    heartbeats would: py-amqp's own second without an answer is a hiccup of a network, and
    costs all deliveries; so does a broker that reads nothing for a second."""
    silence = 2 * heartbeat or LONGEST_SILENCE
    idle = max(1, int(heartbeat or silence / 3))
    wanted = {
        "TCP_USER_TIMEOUT": int(silence * 1000),
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPINTVL": max(1, idle // 2),
        "TCP_KEEPCNT": 4,
    }
    return {getattr(socket, key): value for key, value in wanted.items() if hasattr(socket, key)}


def _collect(connection: _Connection | None) -> None:
    """Close what there is of a connection that didn't come about."""
    made = getattr(connection, "made", None)
    if made is None:
        return
    if made.sock is not None:
        made.sock.close()
    relay = getattr(made, "relay", None)
    if relay is not None:
        relay.end()


def _why(connection: _Connection | None, exc: Exception) -> Exception:
    """What a relay knows better: here, its end of the connection was only closed."""
    relay = getattr(getattr(connection, "made", None), "relay", None)
    if relay is not None and isinstance(exc, OSError):
        return relay.failed() or exc
    return exc


def _taken(connection: _Connection, *, tls: bool) -> Line:
    transport = connection.made
    relay: Relay | None = getattr(transport, "relay", None)
    able = connection.server_properties.get("capabilities") or {}
    line = Line(
        socket=transport.sock,
        tls=tls and relay is None,
        relay=relay,
        heartbeat=connection.heartbeat,
        frame_max=connection.frame_max,
        able=frozenset(name for name, value in able.items() if value),
        rest=bytes(getattr(transport, "_read_buffer", b"")),
    )
    # py-amqp's object goes; its finalizer must not take the socket along.
    transport.sock = None
    transport.connected = False
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        line.socket.setsockopt(socket.SOL_SOCKET, option, bytes(16))
    line.socket.settimeout(0.0)
    if relay is not None and line.heartbeat:
        relay.begin(line.heartbeat)
    return line
