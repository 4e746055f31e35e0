"""What kombu and the drivers under it raise, in Caraway's words."""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING, Any

from caraway.errors import (
    CarawayError,
    ComponentUnusable,
    StoreFull,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caraway_kombu.facts import Facts

NOT_FOUND, MISMATCH = 404, 406
REFUSED = ("501", "502", "541")
"""What RabbitMQ says of headers that are too long or that it can't read."""
_OURS = (
    *(TypeError, ValueError, KeyError, AttributeError, IndexError, NotImplementedError),
    struct.error,
)
"""Errors of a program rather than of a broker: trying again won't help."""


Passing = tuple[type[BaseException], ...]


def translate(exc: BaseException, shown: str, passing: Passing) -> Exception:
    """The error to raise for one of kombu's or a driver's.

    Args:
        exc: what was raised.
        shown: the URL, without its password.
        passing: what the kombu transport calls errors of its connection.
    """
    if isinstance(exc, CarawayError):
        return exc
    said = f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
    for each in _causes(exc):
        name = type(each).__name__
        if isinstance(each, OSError) and each.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreFull(f"{shown}: {each}", hint="Free some space there.")
        if isinstance(each, OSError) and each.errno == errno.EROFS:
            return StoreReadOnly(f"{shown}: {each}", hint="Mount it for writing.")
        if isinstance(each, PermissionError):
            return TransportError(
                f"{shown}: {each}", hint="Give the user of this process the rights to it."
            )
        if "Auth" in name or name in ("AccessRefused", "NotAllowed", "NoPermissionError"):
            return TransportError(
                f"{shown} refused the login: {said}",
                hint="Check user, password and rights; the broker_url names them.",
            )
    if isinstance(exc, ImportError):
        return ComponentUnusable(
            f"{shown}: {said}", hint="Install the driver of this kombu transport."
        )
    code = str(getattr(exc, "reply_code", ""))
    if code in REFUSED or (code == str(MISMATCH) and "Basic.publish" in said):
        return TransportError(
            f"{shown} refused the message: {said}",
            hint="AMQP wants headers that fit into one frame, of 128 KiB unless said otherwise.",
        )
    if isinstance(exc, (*passing, OSError)):
        return TransportUnavailable(
            f"{shown} can't be reached: {said}", hint="Is the broker running there?"
        )
    if isinstance(exc, _OURS):
        return TransportError(
            f"kombu's transport failed: {said}",
            hint="See the cause above this error; the transport's options may be wrong.",
        )
    # Drivers have errors that kombu doesn't list: better tried again than given up.
    return TransportUnavailable(f"{shown}: {said}", hint="The log of the broker may say more.")


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    for _ in range(10):
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__


def not_found(exc: BaseException) -> bool:
    """True if the broker says that there is no such queue."""
    code = getattr(exc, "reply_code", None) or getattr(exc, "code", None)
    return str(code) == str(NOT_FOUND) or "NOT_FOUND" in str(exc)


def mismatch(exc: BaseException | None) -> bool:
    """True if what was declared is there, declared otherwise."""
    code = getattr(exc, "reply_code", None) or getattr(exc, "code", None)
    return str(code) == str(MISMATCH) or type(exc).__name__ == "NotEquivalentError"


def missing_driver(facts: Facts, scheme: str, exc: BaseException | None) -> ComponentUnusable:
    """A kombu transport whose library isn't installed."""
    wanted = facts.install
    hint = f"pip install {wanted}" if wanted else "Install the library that it is built on."
    why = f": {exc}" if exc is not None else ""
    return ComponentUnusable(f"kombu's transport {scheme!r} lacks its library{why}", hint=hint)


def error_types(transport: Any) -> Passing:
    """What a kombu transport calls errors of its connection."""
    found: list[type[BaseException]] = []
    for name in ("recoverable_connection_errors", "connection_errors"):
        found += getattr(transport, name, ()) or ()
    return tuple(found)
