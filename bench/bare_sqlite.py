"""The bare loop: what SQLite and this Python can do, with nothing of a task queue.

Plain code over `sqlite3`: messages of protocol 2 with their results, in a write-ahead
log, every commit synced (``synchronous=FULL``; claims ``NORMAL``, as losing one loses no
work).  It has one queue and none of priorities, delays, leases, dead letters, waiting,
fencing, or a second process.  Caraway's figures are given as ratios to this one's.

``python bench/bare_sqlite.py [n]`` prints tasks (messages) per second of each step.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import msgspec

from caraway.protocol.ids import new_id

BATCH = 500
"""Messages a publish."""
FETCH = 256
"""Messages a claim."""

BODY = b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


def headers(task_id: str) -> dict[str, Any]:
    """The headers of a protocol 2 message."""
    return {
        "lang": "py",
        "task": "bench.noop",
        "id": task_id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": task_id,
        "parent_id": None,
        "origin": "gen1@localhost",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


def properties(task_id: str) -> dict[str, Any]:
    """The properties of a protocol 2 message."""
    return {"correlation_id": task_id, "reply_to": "", "delivery_mode": 2, "priority": 0}


def meta(task_id: str, result: object) -> dict[str, Any]:
    """A result as it is stored."""
    return {
        "status": "SUCCESS",
        "result": result,
        "traceback": None,
        "children": [],
        "date_done": "2026-01-01T00:00:00.000000+00:00",
        "task_id": task_id,
    }


def noop(*_: object) -> None:
    """What each task does."""


def connect(path: str) -> sqlite3.Connection:
    """A fresh file with the bare loop's tables."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-16384")
    connection.execute(
        "CREATE TABLE message(id INTEGER PRIMARY KEY, owner INTEGER, head BLOB, body BLOB)"
    )
    connection.execute("CREATE TABLE ready(id INTEGER PRIMARY KEY)")
    connection.execute("CREATE TABLE result(task_id TEXT PRIMARY KEY, payload BLOB)")
    return connection


def publish(connection: sqlite3.Connection, n: int, batch: int) -> float:
    """Messages per second, inserted ``batch`` at a time."""
    encode = msgspec.json.Encoder().encode
    ids = [new_id() for _ in range(n)]
    start = time.perf_counter()
    for first in range(0, n, batch):
        rows = [
            (encode((headers(task_id), properties(task_id))), BODY)
            for task_id in ids[first : first + batch]
        ]
        connection.execute("BEGIN IMMEDIATE")
        (newest,) = connection.execute("SELECT coalesce(max(id), 0) FROM message").fetchone()
        connection.executemany("INSERT INTO message(head, body) VALUES(?,?)", rows)
        connection.execute("INSERT INTO ready SELECT id FROM message WHERE id > ?", (newest,))
        connection.execute("COMMIT")
    return n / (time.perf_counter() - start)


def drain(connection: sqlite3.Connection, task: Callable[..., object], fetch: int = FETCH) -> float:
    """Tasks per second: claim, decode, call, store the result and settle."""
    decode = msgspec.json.Decoder().decode
    encode = msgspec.json.Encoder().encode
    execute = connection.execute
    done = 0
    start = time.perf_counter()
    while True:
        execute("PRAGMA synchronous=NORMAL")
        execute("BEGIN IMMEDIATE")
        rows = execute(
            "SELECT m.id, m.head, m.body FROM ready r JOIN message m ON m.id=r.id"
            " ORDER BY r.id LIMIT ?",
            (fetch,),
        ).fetchall()
        if rows:
            execute("DELETE FROM ready WHERE id <= ?", (rows[-1][0],))
            execute("CREATE TABLE IF NOT EXISTS held(id INTEGER PRIMARY KEY)")
            connection.executemany("INSERT INTO held VALUES(?)", [row[:1] for row in rows])
        execute("COMMIT")
        if not rows:
            break
        results = []
        for _, head, body in rows:
            task_headers, _ = decode(head)
            args, kwargs, _ = decode(body)
            task_id = task_headers["id"]
            results.append((task_id, encode(meta(task_id, task(*args, **kwargs)))))
        execute("PRAGMA synchronous=FULL")
        execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO result VALUES(?,?)", results)
        bounds = (rows[0][0], rows[-1][0])
        execute("DELETE FROM held WHERE id BETWEEN ? AND ?", bounds)
        execute("DELETE FROM message WHERE id BETWEEN ? AND ?", bounds)
        execute("COMMIT")
        done += len(rows)
    return done / (time.perf_counter() - start)


def run(n: int = 50_000) -> dict[str, float]:
    """Rates per second: ``publish`` (batched), ``publish_one`` (one a commit), ``drain``."""
    with tempfile.TemporaryDirectory(prefix="caraway-bench-") as folder:
        connection = connect(os.path.join(folder, "bare.db"))
        try:
            bulk = publish(connection, n, BATCH)
            rate = drain(connection, noop)
            connection.execute("PRAGMA synchronous=FULL")  # the last claim left NORMAL
            single = publish(connection, min(n, 2_000), 1)
        finally:
            connection.close()
    return {"publish": bulk, "publish_one": single, "drain": rate}


if __name__ == "__main__":
    for name, value in run(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000).items():
        print(f"{name:12} {value:12,.0f} /s")
