"""One open file: its connections, transactions and locks.

Two connections a process: one writes, under a lock, so that threads queue up here and
not in SQLite's busy handler; one reads, and never waits for a writer's fsync.  All
components of one file and one process share them.  None is used across a fork, nor even
open during one: see `stores`.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
import time
from typing import TYPE_CHECKING, Any, TypeVar

from caraway.builtin.sqlite import schema
from caraway.builtin.sqlite.doorbell import Doorbell, pause_before_retry
from caraway.builtin.sqlite.faults import is_busy, moved, translate
from caraway.builtin.sqlite.location import check_file_system, prepare_directory
from caraway.builtin.sqlite.options import Options
from caraway.builtin.sqlite.transaction import Write
from caraway.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


T = TypeVar("T")

_MIB = 1024 * 1024
_WAL_LIMIT = 64 * _MIB
"""A longer log is cut short by force, should readers have kept it from starting over."""
_COMMITS_BETWEEN_LOOKS = 512


class Store:
    """The shared access to one file in one process.  Made by `stores.open_store`.

    Attributes:
        path: absolute, with symbolic links resolved.
        options: see `Options`.
        queue_ids: ids of queues by name; a queue's row is never deleted.
        last_id: the newest message id made here.
        next_sweep, sweep_cursor: see `results.sweep_results`.
    """

    def __init__(self, path: str, options: Options) -> None:
        self.path = path
        self.options = options
        self.queue_ids: dict[str, int] = {}
        self.last_id = 0
        self.next_sweep = 0.0
        self.sweep_cursor = 0
        self.users = 0
        self.closed = False
        self.pid = os.getpid()
        self.write_lock = threading.Lock()
        self.read_lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._identity: tuple[int, int] = (0, 0)
        self._commits = 0
        self._bells: list[Doorbell] = []
        self._log: Log | None = None
        # SQLite's own FULL syncs the log while it holds the write lock: all other
        # processes wait for the disk.  With NORMAL, and a sync of the log of our own after
        # the lock is free, a transaction is as durable when its call returns, and syncs
        # of several processes overlap.  What may be lost in a power cut without harm
        # (claims, renewals, registrations) goes without: its loss brings back the state
        # before, in which the work isn't lost.
        self._syncs = options.synchronous == "full" and hasattr(os, "fdatasync")
        self._synchronous = "NORMAL" if self._syncs else options.synchronous.upper()

    # -- connections -------------------------------------------------------------------

    def open(self) -> None:
        """Open the file, and make its tables if it is new."""
        with self.write_lock:
            try:
                self._check_process()
                if self._writer is None:
                    self._open_writer()
            except sqlite3.Error as exc:
                raise translate(exc, self.path, self.options.busy_timeout) from exc

    def writer(self) -> sqlite3.Connection:
        """The writing connection; write lock held."""
        self._check_process()
        connection = self._writer
        if connection is None:
            return self._open_writer()
        if self._is_moved():
            self._disconnect()
            self.queue_ids = {}
            raise moved(self.path)
        return connection

    def _check_process(self) -> None:
        if self.closed or self.pid != os.getpid():
            raise TransportError(
                f"the connection to {self.path} is closed, or was opened before a fork",
                hint="Build a new transport or backend.",
            )

    def is_inherited(self) -> bool:
        """True in a child forked since this was opened: nothing here may be touched."""
        return self.pid != os.getpid()

    def _is_moved(self) -> bool:
        """True if another file, or none, is where ours was: what is written is lost."""
        try:
            found = os.stat(self.path)
        except OSError:
            return True
        return (found.st_dev, found.st_ino) != self._identity

    def _open_writer(self) -> sqlite3.Connection:
        prepare_directory(self.path)
        if self.options.network != "allow":
            check_file_system(self.path)
        connection = self._connect()
        try:
            schema.ensure(self, connection)
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
            if self.queue_ids:  # learned before the file was closed, for a fork
                here = dict(connection.execute("SELECT name, id FROM queue").fetchall())
                if not self.queue_ids.items() <= here.items():
                    self.queue_ids = {}
        except BaseException:
            connection.close()
            raise
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        self._writer = connection
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path,
            timeout=0,  # its busy handler sleeps up to 100 ms; ours, at most one
            isolation_level=None,
            check_same_thread=False,
            cached_statements=200,
        )
        options = self.options
        pragmas = (
            f"PRAGMA cache_size=-{options.cache_size * 1024}",
            f"PRAGMA mmap_size={options.mmap_size * _MIB}",
            f"PRAGMA journal_size_limit={_WAL_LIMIT // 4}",
            "PRAGMA temp_store=MEMORY",
            # 16 MiB of log between checkpoints: pages that change often go home once for
            # many changes, which is a fifth of the cost of keeping results.
            "PRAGMA wal_autocheckpoint=2000",
        )
        try:
            for pragma in pragmas:
                # Some look into the file, from which whoever makes it right now keeps
                # even readers out for a moment.
                self.retry(functools.partial(connection.execute, pragma))
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        """Close both connections; write lock held."""
        with self.read_lock:
            writer, self._writer = self._writer, None
            reader, self._reader = self._reader, None
            for connection in (reader, writer):
                if connection is not None:
                    connection.close()
            self._log = None  # closed once nobody syncs it

    # -- transactions ------------------------------------------------------------------

    def retry(self, action: Callable[[], T], timeout: float | None = None) -> T:
        """Do something that may find the file locked, again and again up to a deadline."""
        limit = self.options.busy_timeout if timeout is None else timeout
        deadline = 0.0
        attempt = 0
        while True:
            try:
                return action()
            except sqlite3.OperationalError as exc:
                if not is_busy(exc):
                    raise
                now = time.monotonic()
                deadline = deadline or now + limit
                if now >= deadline:
                    raise
                pause_before_retry(attempt, deadline - now)
                attempt += 1

    def write(self, *, durable: bool = True, timeout: float | None = None) -> Write:
        """A write transaction, as a context: committed at its end, rolled back on error.

        Args:
            durable: False for what may be lost in a power cut without harm.
            timeout: seconds to wait for other writers; default ``busy_timeout``.
        """
        limit = self.options.busy_timeout if timeout is None else timeout
        return Write(self, durable and self._syncs, limit)

    def begin(self, timeout: float) -> sqlite3.Connection:
        """Begin a write transaction; write lock held."""
        connection = self.writer()
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as exc:
            if not is_busy(exc):
                raise
            self.retry(lambda: connection.execute("BEGIN IMMEDIATE"), timeout)
        return connection

    def rest(self) -> bool:
        """Close both connections until somebody needs them, and keep the lock: for a fork.

        Returns:
            False if somebody doesn't give the locks away: nothing was done.
        """
        if not self.write_lock.acquire(timeout=self.options.busy_timeout):
            return False
        try:
            self._disconnect()
        except sqlite3.Error:
            self.write_lock.release()
            return False
        return True

    def log(self) -> Log:
        """The log, to be synced; write lock held.

        The file stays the same for as long as our connection is open.  SQLite takes no
        locks on it, so that closing it gives none away.
        """
        if self._log is None:
            self._log = Log(self.path + "-wal")
        return self._log

    def sync(self, log: Log) -> None:
        """Return when all that was written to the log is on the disk.

        Raises:
            TransportError: the disk failed; what was written may not be there for long.
        """
        try:
            os.fdatasync(log.descriptor)
        except OSError as exc:
            raise TransportError(
                f"{self.path}: the disk doesn't take what was written: {exc.strerror}",
                hint="Look at the system's log: a disk or file system is failing.",
            ) from exc

    def after_commit(self, connection: sqlite3.Connection) -> None:
        """Now and then see that the log doesn't grow without bound; write lock held."""
        self._commits += 1
        if self._commits < _COMMITS_BETWEEN_LOOKS:
            return
        self._commits = 0
        try:
            if os.stat(self.path + "-wal").st_size > _WAL_LIMIT:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except (OSError, sqlite3.Error):
            return  # in use at the moment: the next look will do

    def read(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one query, from a snapshot of its own."""
        while True:
            self._check_process()
            if self._writer is None:
                self.open()
            if self._is_moved():
                with self.write_lock:
                    self._disconnect()
                    self.queue_ids = {}
                raise moved(self.path)
            with self.read_lock:
                if self._writer is None:
                    continue  # closed since, for a fork
                try:
                    return self._read(sql, parameters)
                except sqlite3.Error as exc:
                    raise translate(exc, self.path, self.options.busy_timeout) from exc

    def _read(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        connection = self._reader or self._open_reader()
        try:
            return connection.execute(sql, parameters).fetchall()
        except sqlite3.OperationalError as exc:
            if not is_busy(exc):
                raise
            return self.retry(lambda: connection.execute(sql, parameters).fetchall())

    def _open_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only=1")
        self._reader = connection
        return connection

    # -- bells -------------------------------------------------------------------------

    def borrow_bell(self) -> Doorbell:
        """A bell for one waiting call; give it back with `return_bell`."""
        try:
            bell = self._bells.pop()
        except IndexError:
            return Doorbell()
        bell.drain()
        bell.take_wake()
        return bell

    def return_bell(self, bell: Doorbell) -> None:
        """Keep a bell for the next waiting call."""
        if len(self._bells) < 64 and self.users:
            self._bells.append(bell)
        else:
            bell.close()

    def shut(self) -> None:
        """Close everything.  The last process to close the file tidies its log away."""
        with self.write_lock:
            self.closed = True
            self._disconnect()
            while self._bells:
                self._bells.pop().close()


class Log:
    """A descriptor of the log, open for as long as somebody has this object."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # The log may have been made just now: its name must last as well as its content.
        # SQLite sees to that with its first sync of the log, which ours stand in for.
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
