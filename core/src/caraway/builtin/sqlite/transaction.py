"""One write transaction, from the lock to the disk."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

from caraway.builtin.sqlite.faults import busy, translate
from caraway.errors import StoreFull

if TYPE_CHECKING:
    from types import TracebackType

    from caraway.builtin.sqlite.store import Store


class Write:
    """A write transaction; see `Store.write`."""

    __slots__ = ("_connection", "_store", "_sync", "_timeout")

    def __init__(self, store: Store, sync: bool, timeout: float) -> None:  # noqa: FBT001
        self._store = store
        self._sync = sync
        self._timeout = timeout

    def __enter__(self) -> sqlite3.Connection:
        store = self._store
        if not store.write_lock.acquire(timeout=self._timeout):
            raise busy(store.path, self._timeout)
        try:
            self._connection = store.begin(self._timeout)
        except sqlite3.Error as exc:
            store.write_lock.release()
            raise translate(exc, store.path, self._timeout) from exc
        except BaseException:
            store.write_lock.release()
            raise
        return self._connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        store = self._store
        connection = self._connection
        log = None
        try:
            if exc is None:
                try:
                    connection.execute("COMMIT")
                    if self._sync:
                        log = store.log()
                    store.after_commit(connection)
                except sqlite3.Error as failure:
                    exc = failure
            if exc is not None:
                # SQLite has rolled back by itself after some errors (full disk, I/O).
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(exc, sqlite3.Error):
                    failed = translate(exc, store.path, self._timeout)
                    if isinstance(failed, StoreFull):
                        _make_room(connection)
                    raise failed from exc
        finally:
            store.write_lock.release()
        if log is not None:
            store.sync(log)


def _make_room(connection: sqlite3.Connection) -> None:
    """Bring the log home and cut it: on a full disk it may be what fills it."""
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
