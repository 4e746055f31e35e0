"""Small things that kombu's channels and transports do each in their own way."""

from __future__ import annotations

from typing import Any


def ask(channel: Any) -> None:
    """A round trip, where there is one."""
    ping = getattr(channel, "caraway_ping", None)
    if ping is not None:
        ping()
        return
    client = getattr(channel, "client", None)
    if client is not None and hasattr(client, "ping"):
        client.ping()
    elif not hasattr(channel, "_size"):
        channel.exchange_declare(exchange="amq.direct", type="direct", passive=True)
    else:
        channel._size("caraway.ping")


def collect(transport: Any, raw: Any) -> None:
    """End a connection that can't be ended in peace."""
    own = getattr(transport, "_collect", None)
    if own is not None:
        try:
            own(raw)
        except Exception:  # noqa: BLE001, S110 - nothing is left to be done
            pass
