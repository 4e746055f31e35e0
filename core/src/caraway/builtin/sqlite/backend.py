"""The result store in a SQLite file."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.sqlite import results
from caraway.builtin.sqlite.doorbell import ring
from caraway.builtin.sqlite.queues import encode_json
from caraway.builtin.sqlite.store import Store
from caraway.builtin.sqlite.stores import close_store, open_store
from caraway.errors import BackendError, BackendGetMetaError, BackendStoreError, TransportError
from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability
from caraway.message import StoredResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.interfaces.context import Context
    from caraway.url import Url

_ONE_BY_ONE = 16
"""Waiting for more tasks than this asks for a ring at any result."""
_WATCH = 600.0
"""Seconds after which a wait is written down anew."""


class SqliteBackend(Backend):
    """A connection to the results in one file.

    Args:
        url: as for `SqliteTransport`; of the same file, results are stored in the
            transaction that settles.
        options: see `caraway.builtin.sqlite.options.Options`.
        context: its ``clock`` is used for expiry.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.PUSH,
            Capability.TTL,
            Capability.GROUPS,
            Capability.PERSISTENT,
            Capability.SHARED,
        }
    )

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        self._closed = True
        with _as_backend_errors(BackendError):
            self.file: Store = open_store(url, options, context)
        self._closed = False
        self._clock = context.clock
        self._monotonic = context.monotonic

    def _open(self) -> Store:
        if self._closed:
            raise BackendError("this sqlite backend is closed", hint="Build another one.")
        return self.file

    def store(self, results_: Sequence[StoredResult]) -> None:
        store = self._open()
        now = self._clock()
        with _as_backend_errors(BackendStoreError):
            with store.write() as connection:
                ports = results.keep(connection, results_, now)
                results.sweep_results(store, connection, now)
            if ports:
                ring(ports)

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        return self._look(task_ids, final_only=False)

    def _look(self, task_ids: Sequence[str], *, final_only: bool) -> dict[str, StoredResult]:
        store = self._open()
        now = self._clock()
        found = {}
        with _as_backend_errors(BackendGetMetaError):
            if len(task_ids) == 1:
                rows = store.read(
                    "SELECT task_id, state, payload, expires, final FROM result WHERE task_id=?",
                    (task_ids[0],),
                )
            else:
                rows = store.read(
                    "SELECT task_id, state, payload, expires, final FROM result"
                    " WHERE task_id IN (SELECT value FROM json_each(?))",
                    (encode_json(list(task_ids)).decode(),),
                )
        for task_id, state, payload, expires, final in rows:
            if (expires is None or expires > now) and (final or not final_only):
                ttl = 0.0 if expires is None else expires - now
                found[task_id] = StoredResult(task_id, state, payload, ttl)
        return found

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        found = self._look(task_ids, final_only=True)
        if found or timeout <= 0 or not task_ids:
            return found
        store = self._open()
        deadline = time.monotonic() + timeout
        end = self._monotonic() + timeout
        bell = store.borrow_bell()
        watched = False
        renewal = 0.0
        try:
            while True:
                left = min(deadline - time.monotonic(), end - self._monotonic())
                if left <= 0:
                    return {}
                if bell.port and time.monotonic() >= renewal:
                    self._watch(task_ids, bell.port)
                    watched = True
                    renewal = time.monotonic() + _WATCH
                    # What was stored before this was written down rang nobody.
                else:
                    bell.wait(min(left, store.options.poll_interval))
                if self._closed:
                    return {}
                found = self._look(task_ids, final_only=True)
                if found:
                    return found
        finally:
            # The one who stored the only result took us off the list.
            try:
                if watched and not (len(task_ids) == 1 and found) and not store.closed:
                    with contextlib.suppress(TransportError):
                        self._unwatch(bell.port)
            finally:  # a signal's exception may come here, too
                store.return_bell(bell)

    def _watch(self, task_ids: Sequence[str], port: int) -> None:
        until = self._clock() + _WATCH + 60.0
        watched = task_ids if len(task_ids) <= _ONE_BY_ONE else ("",)
        with (
            _as_backend_errors(BackendGetMetaError),
            self.file.write(durable=False) as connection,
        ):
            connection.execute("DELETE FROM watcher WHERE until < ?", (self._clock(),))
            connection.executemany(
                "INSERT OR REPLACE INTO watcher(task_id, port, until) VALUES(?,?,?)",
                [(task_id, port, until) for task_id in watched],
            )

    def _unwatch(self, port: int) -> None:
        with self.file.write(durable=False) as connection:
            connection.execute("DELETE FROM watcher WHERE port=?", (port,))

    def forget(self, task_ids: Sequence[str]) -> int:
        known = len(self._look(task_ids, final_only=False))
        with _as_backend_errors(BackendStoreError), self._open().write() as connection:
            connection.execute(
                "DELETE FROM result WHERE task_id IN (SELECT value FROM json_each(?))",
                (encode_json(list(task_ids)).decode(),),
            )
        return known

    def ping(self) -> None:
        with (
            _as_backend_errors(BackendError),
            self._open().write(durable=False) as connection,
        ):
            # A write, so that it fails where storing would.
            connection.execute("UPDATE leader SET id=1 WHERE id=1")

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        close_store(self.file)

    def cleanup(self) -> int:
        now = self._clock()
        count = 0
        with _as_backend_errors(BackendStoreError):
            while True:
                # In steps, so that nobody waits long for the lock.
                with self._open().write() as connection:
                    step = connection.execute(
                        "DELETE FROM result WHERE id IN"
                        " (SELECT id FROM result WHERE expires <= ? LIMIT 10000)",
                        (now,),
                    ).rowcount
                count += step
                if step < 10000:
                    break
            with self._open().write() as connection:
                connection.execute("DELETE FROM task_group WHERE expires <= ?", (now,))
                connection.execute(
                    "DELETE FROM join_member WHERE id IN"
                    " (SELECT id FROM joining WHERE expires <= ?)",
                    (now,),
                )
                connection.execute("DELETE FROM joining WHERE expires <= ?", (now,))
        return count

    # -- GROUPS ------------------------------------------------------------------------

    def save_group(self, group_id: str, payload: bytes, ttl: float) -> None:
        until = self._clock() + ttl if ttl > 0 else None
        with _as_backend_errors(BackendStoreError), self._open().write() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO task_group(id, payload, expires) VALUES(?,?,?)",
                (group_id, payload, until),
            )

    def restore_group(self, group_id: str) -> bytes | None:
        with _as_backend_errors(BackendGetMetaError):
            rows = self._open().read(
                "SELECT payload FROM task_group WHERE id=? AND (expires IS NULL OR expires > ?)",
                (group_id, self._clock()),
            )
        return rows[0][0] if rows else None

    def delete_group(self, group_id: str) -> None:
        with _as_backend_errors(BackendStoreError), self._open().write() as connection:
            connection.execute("DELETE FROM task_group WHERE id=?", (group_id,))
            connection.execute("DELETE FROM joining WHERE id=?", (group_id,))
            connection.execute("DELETE FROM join_member WHERE id=?", (group_id,))

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        now = self._clock()
        until = now + ttl if ttl > 0 else None
        with _as_backend_errors(BackendStoreError), self._open().write() as connection:
            row = connection.execute(
                "SELECT count, winner, expires FROM joining WHERE id=?", (group_id,)
            ).fetchone()
            if row is not None and row[2] is not None and row[2] <= now:
                connection.execute("DELETE FROM join_member WHERE id=?", (group_id,))
                row = None
            count, winner = row[:2] if row is not None else (0, None)
            if winner is not None:
                return bool(winner == member)
            count += connection.execute(
                "INSERT OR IGNORE INTO join_member(id, member) VALUES(?,?)", (group_id, member)
            ).rowcount
            winner = member if count >= size else None
            connection.execute(
                "INSERT OR REPLACE INTO joining(id, count, winner, expires) VALUES(?,?,?,?)",
                (group_id, count, winner, until),
            )
            return winner is not None


class _as_backend_errors:  # noqa: N801 - a verb, used as a context
    """The store's errors, which are a transport's, as a backend's."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type[BackendError]) -> None:
        self._kind = kind

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, TransportError):
            raise self._kind(*exc.args, hint=exc.hint) from exc
