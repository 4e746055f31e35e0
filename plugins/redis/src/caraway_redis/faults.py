"""The driver's errors as Caraway's, each with what repairs it."""

from __future__ import annotations

import re

from caraway.errors import (
    BackendError,
    BackendUnavailable,
    OperationalError,
    StoreFull,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)


class Closed(ConnectionError):
    """The connection has ended."""


class Refused(Exception):
    """The server answered a greeting with an error: its text."""


class Garbled(Exception):
    """What came isn't Redis' protocol."""


_IN_SCRIPT = re.compile(
    r"ERR Error running script \(call to \w+\): @user_script: ?\d+: (?:@user_script: ?\d+: )?-?"
)
"""What Redis 6.2 puts before the error of a command that a script called."""
GONE = ("READONLY", "MOVED")
"""Answers after which connections are made anew: they may lead elsewhere then."""
MOVING = ("ASK ", "TRYAGAIN")
"""Answers of a node of a cluster whose slot is on its way to another one."""
PASSING = (
    "BUSY ", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOREPLICAS", "UNBLOCKED", *MOVING,
)  # fmt: skip
"""Answers of a server that will do better in a moment."""


def said(exc: BaseException) -> str:
    """The server's words, as newer ones put them, without what an object of redis-py's is."""
    # Of Sentinels that don't know the master, redis-py tells all it knows of its objects.
    text = str(exc).partition(" : <redis.")[0] or type(exc).__name__
    return _IN_SCRIPT.sub("", text, count=1)


def translate(exc: BaseException, place: str) -> OperationalError:
    """The error to raise for what a connection, or redis-py, raised.

    Args:
        exc: as raised.
        place: the server, for people.
    """
    text = said(exc)
    if _is(exc, "AuthenticationError") or text.startswith(
        ("NOAUTH", "WRONGPASS", "ERR AUTH", "ERR Client sent AUTH")
    ):
        return TransportError(
            f"{place} refused our user or password: {text}",
            hint="Look at the URL's user and password, or at the server's ACL (ACL LIST).",
        )
    if (
        text.startswith("NOPERM")
        or "The user executing the script can't" in text
        or _is(exc, "NoPermissionError")
    ):
        return TransportError(
            f"{place} forbids a command that is needed: {text}",
            hint="Give the user +@all on its keys and channels, without @admin and @dangerous "
            "if you like: docs/how-to/redis.md lists the commands.",
        )
    if _is(exc, "ReadOnlyError") or text.startswith("READONLY"):
        return StoreReadOnly(
            f"{place} is a replica and takes no writes: {text}",
            hint="Name the master in the URL, or use sentinel:// to follow a failover.",
        )
    if _is(exc, "OutOfMemoryError") or "OOM command not allowed" in text:
        return StoreFull(
            f"{place} has no memory left; nothing of the operation was kept ({text})",
            hint="Raise maxmemory or free keys; then it goes on by itself. Use the policy "
            "noeviction: others throw queues away.",
        )
    if text.startswith("MISCONF"):
        return StoreFull(
            f"{place} can't write its snapshot and takes no writes: {text}",
            hint="Look at the server's log and its disk.",
        )
    if "WRONGTYPE" in text:
        return TransportError(
            f"{place} has a key of another type under a name that is needed: {text}",
            hint="Another program uses it: set global_keyprefix, or another db in the URL.",
        )
    if text.startswith("MOVED"):
        return TransportUnavailable(
            f"{place} is a cluster, and our keys are on another of its nodes now: {text}",
            hint="Without the option hash_tag a cluster can't be used; with it, this passes.",
        )
    if text.startswith("CROSSSLOT") or "non local key" in text:
        return TransportError(
            f"{place} is a cluster, where Celery's key names can't work: {text}",
            hint="Set the option hash_tag (only Caraway shares such queues), or use one server.",
        )
    if isinstance(exc, Garbled) or _is(exc, "InvalidResponse"):
        return TransportError(
            f"{place} doesn't speak Redis' protocol: {text}",
            hint="See that host and port are a Redis', and whether it wants TLS (rediss://).",
        )
    if "SELECT is not allowed" in text or "DB index is out of range" in text:
        return TransportError(
            f"{place} doesn't have the database of the URL: {text}",
            hint="A cluster has only number 0, other servers as many as its setting `databases`.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return TransportError(
            f"{place} isn't trusted: {text}",
            hint="Name the file of its authority's certificate: ssl_ca_certs=/path/to/ca.pem.",
        )
    if "max number of clients" in text:
        return TransportUnavailable(
            f"{place} takes no more connections: {text}", hint="Raise its setting maxclients."
        )
    if text.startswith(MOVING):
        return TransportUnavailable(
            f"{place} is handing our keys over to another node of its cluster: {text}",
            hint="This passes as soon as the whole slot has moved. If it doesn't, end the move: "
            "redis-cli --cluster fix HOST:PORT, or CLUSTER SETSLOT.",
        )
    if text.startswith(PASSING) or _is(exc, "BusyLoadingError"):
        return TransportUnavailable(f"{place} isn't ready: {text}")
    if isinstance(exc, TimeoutError) or _is(exc, "TimeoutError"):
        return TransportUnavailable(
            f"{place} didn't answer in time: {text}",
            hint="See whether the server runs and isn't swapping or blocked by a slow command "
            "(SLOWLOG GET).",
        )
    if isinstance(exc, OSError) or _is(exc, "ConnectionError"):
        return TransportUnavailable(
            f"{place} can't be reached: {text}",
            hint="See that the server runs, and that host, port and TLS of the URL are right.",
        )
    return TransportError(f"{place}: {text}")


def is_fault(exc: BaseException) -> bool:
    """True for what a connection may raise: the system's errors, ours, and redis-py's."""
    return isinstance(exc, (OSError, Refused, Garbled)) or _is(exc, "RedisError")


def _is(exc: BaseException, name: str) -> bool:
    """True for an error of redis-py's of this kind, without importing redis-py: what it
    has raised shows that it is there."""
    return any(
        kind.__name__ == name and kind.__module__ == "redis.exceptions"
        for kind in type(exc).__mro__
    )


def for_backend(error: OperationalError) -> OperationalError:
    """The same error, as a result backend raises it."""
    if isinstance(error, (StoreFull, StoreReadOnly, BackendError)):
        return error
    kind = BackendUnavailable if isinstance(error, TransportUnavailable) else BackendError
    made = kind(*error.args, hint=error.hint)
    made.__cause__ = error.__cause__
    return made
