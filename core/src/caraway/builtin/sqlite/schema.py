"""The tables, and how a file comes to have them.

A message is written once and never changed; small tables say where it is, so that moving
it (ready, delayed, held) moves some twenty bytes instead of rewriting it.  Their keys are
in the order in which they are read, so each step of a queue works at the end of one tree:

- ``ready`` by (queue, rank, id), rank = 9 - priority: a claim takes a prefix;
- ``delayed`` by (due, id): what is due is a prefix;
- ``held`` by (owner, id): owners are never used twice, so (owner, id) fences.

``message.id`` is the microsecond of publishing, or one more than the newest: the order of
age, the time of publishing, and never used twice.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from caraway.errors import SchemaMismatch, StoreCorrupt

if TYPE_CHECKING:
    from caraway.builtin.sqlite.store import Store

APPLICATION_ID = 0x43525759
"""``CRWY``: marks a file as Caraway's (the header's application id)."""
VERSION = 1
OLDEST_SQLITE = (3, 35, 0)
"""The first with ``RETURNING``."""

TABLES = """
CREATE TABLE queue(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, hidden INTEGER NOT NULL);
CREATE TABLE message(
    id INTEGER PRIMARY KEY, expires REAL, due REAL, head BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE ready(
    queue INTEGER NOT NULL, rank INTEGER NOT NULL, id INTEGER NOT NULL,
    attempts INTEGER NOT NULL, PRIMARY KEY(queue, rank, id)) WITHOUT ROWID;
CREATE TABLE delayed(
    due REAL NOT NULL, id INTEGER NOT NULL, queue INTEGER NOT NULL, rank INTEGER NOT NULL,
    attempts INTEGER NOT NULL, PRIMARY KEY(due, id)) WITHOUT ROWID;
CREATE TABLE held(
    owner INTEGER NOT NULL, id INTEGER NOT NULL, queue INTEGER NOT NULL,
    rank INTEGER NOT NULL, attempts INTEGER NOT NULL, PRIMARY KEY(owner, id)) WITHOUT ROWID;
CREATE TABLE owner(
    key INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, expires REAL NOT NULL,
    lease REAL NOT NULL, queues TEXT NOT NULL, info BLOB NOT NULL);
CREATE TABLE dead(
    id INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, kind TEXT NOT NULL,
    at REAL NOT NULL, reason TEXT NOT NULL, attempts INTEGER NOT NULL, rank INTEGER NOT NULL,
    expires REAL, head BLOB NOT NULL, body BLOB NOT NULL);
CREATE TABLE revoked(task_id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE waiter(
    queue INTEGER NOT NULL, port INTEGER NOT NULL, owner INTEGER NOT NULL,
    look REAL NOT NULL, PRIMARY KEY(queue, port)) WITHOUT ROWID;
CREATE TABLE watcher(
    task_id TEXT NOT NULL, port INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY(task_id, port)) WITHOUT ROWID;
CREATE TABLE subscriber(port INTEGER PRIMARY KEY, topics TEXT NOT NULL, until REAL NOT NULL);
CREATE TABLE broadcast(
    id INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, topic TEXT NOT NULL,
    payload BLOB NOT NULL);
CREATE TABLE result(
    id INTEGER PRIMARY KEY, task_id TEXT NOT NULL UNIQUE, final INTEGER NOT NULL,
    expires REAL, state TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE task_group(
    id TEXT PRIMARY KEY, payload BLOB NOT NULL, expires REAL) WITHOUT ROWID;
CREATE TABLE joining(
    id TEXT PRIMARY KEY, count INTEGER NOT NULL, winner TEXT, expires REAL) WITHOUT ROWID;
CREATE TABLE join_member(
    id TEXT NOT NULL, member TEXT NOT NULL, PRIMARY KEY(id, member)) WITHOUT ROWID;
CREATE TABLE schedule(
    name TEXT PRIMARY KEY, last_run_at REAL NOT NULL, total_run_count INTEGER NOT NULL,
    definition TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE leader(
    id INTEGER PRIMARY KEY CHECK(id = 1), candidate TEXT NOT NULL, until REAL NOT NULL,
    ttl REAL NOT NULL, fence INTEGER NOT NULL);
INSERT INTO leader VALUES(1, '', 0, 0, 0);
"""


def check_library() -> None:
    """Refuse a SQLite library that lacks what the statements use.

    Raises:
        SchemaMismatch: older than `OLDEST_SQLITE`.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise SchemaMismatch(
            f"this Python has SQLite {sqlite3.sqlite_version}; Caraway needs {wanted} or newer",
            hint="Use a newer Python or system, or a broker with a server (redis://, amqp://).",
        )


def ensure(store: Store, connection: sqlite3.Connection) -> None:
    """Make sure that the file has our tables; make them if it is new.

    Whoever comes first makes them, in one transaction; a process that dies meanwhile
    leaves an empty file, which the next one fills.

    Raises:
        StoreCorrupt: not a database, or somebody else's.
        SchemaMismatch: made by a newer Caraway.
    """
    # Retried: whoever makes the file right now keeps even readers out for a moment.
    if store.retry(lambda: _is_ours(connection, store.path)):
        return
    # Measured: a tenth faster than 4 KiB, as a page holds a dozen messages whole.  To be
    # said before the first write.
    connection.execute("PRAGMA page_size=8192")
    store.retry(lambda: connection.execute("PRAGMA journal_mode=WAL"))
    store.retry(lambda: connection.execute("BEGIN IMMEDIATE"))
    try:
        if not _is_ours(connection, store.path):
            for statement in TABLES.split(";"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _is_ours(connection: sqlite3.Connection, path: str) -> bool:
    """True if the tables are there, False if the file is empty; raises for all else."""
    (mark,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if mark == APPLICATION_ID:
        if version != VERSION:
            raise SchemaMismatch(
                f"{path} has schema {version}, this Caraway knows {VERSION}",
                hint="Upgrade Caraway here to the version of the others that use this file."
                if version > VERSION
                else "Drain the file with the Caraway that wrote it, then start with a new one.",
            )
        return True
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if mark or version or tables:
        raise StoreCorrupt(
            f"{path} is a SQLite database of another program, not a Caraway store",
            hint="Name another file in broker_url or result_backend; this one was not touched.",
        )
    return False
