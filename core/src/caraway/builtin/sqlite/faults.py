"""SQLite's errors as Caraway's, each with what repairs it."""

from __future__ import annotations

import os
import sqlite3

from caraway.errors import (
    StoreCorrupt,
    StoreFull,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)

# Primary result codes (SQLite, "Result and error codes").
_PERM, _BUSY, _LOCKED, _READONLY, _IOERR, _CORRUPT = 3, 5, 6, 8, 10, 11
_FULL, _CANTOPEN, _TOOBIG, _NOTADB = 13, 14, 18, 26

_NO_SPACE = 4 * 1024 * 1024
"""Less than this free, in bytes: an I/O error of a write is taken for a full disk."""


def is_busy(exc: sqlite3.Error) -> bool:
    """True if another connection is in the way, so that a retry may succeed."""
    return (getattr(exc, "sqlite_errorcode", 0) or 0) & 0xFF in (_BUSY, _LOCKED)


def busy(path: str, timeout: float) -> TransportUnavailable:
    """The error of a lock that wasn't to be had in time."""
    return TransportUnavailable(
        f"{path} was locked by another process for more than {timeout:g} s",
        hint="Look for a stopped process or an open transaction of another program "
        f"(fuser -v '{path}'), or raise the URL's option busy_timeout.",
    )


def translate(exc: sqlite3.Error, path: str, timeout: float) -> TransportError:
    """The error to raise for what SQLite raised; the operation was rolled back."""
    code = (getattr(exc, "sqlite_errorcode", 0) or 0) & 0xFF
    if code in (_BUSY, _LOCKED):
        return busy(path, timeout)
    if code == _FULL or (code in (_IOERR, _CANTOPEN) and _disk_is_full(path)):
        return StoreFull(
            f"no space is left for {path} ({exc}); nothing of the operation was kept",
            hint="Free space on that disk (or raise its quota); then it goes on by itself.",
        )
    if code in (_READONLY, _PERM):
        return StoreReadOnly(
            f"{path} can be read but not written ({exc})",
            hint="Give this process's user the right to write the file, its directory and the "
            "-wal and -shm files beside it, and see that the disk isn't mounted read-only.",
        )
    if code in (_CORRUPT, _NOTADB):
        return StoreCorrupt(
            f"{path} is damaged, or isn't a SQLite database ({exc})",
            hint="Stop all workers, keep a copy, and try `sqlite3 FILE .recover`; or name "
            "another file in broker_url.",
        )
    if code == _CANTOPEN:
        return TransportUnavailable(
            f"{path} can't be opened ({exc})",
            hint="See that its directory exists and this process's user may write it, and that "
            "the limit of open files (ulimit -n) isn't reached.",
        )
    if code == _IOERR:
        return TransportUnavailable(
            f"reading or writing {path} failed ({exc})",
            hint="Look at the disk and the system's log (dmesg).",
        )
    return TransportError(f"{path}: {exc}", hint="")


def moved(path: str) -> TransportUnavailable:
    """The error of a file that isn't where it was when it was opened."""
    return TransportUnavailable(
        f"{path} was removed or replaced while it was in use; nothing of the operation was kept",
        hint="The next attempt opens what is there now. To empty a queue, use "
        "`caraway queues purge` and don't remove the file under running processes.",
    )


def _disk_is_full(path: str) -> bool:
    try:
        room = os.statvfs(os.path.dirname(path))
    except (OSError, AttributeError):
        return False
    return room.f_bavail * room.f_frsize < _NO_SPACE
