"""Remote control and events over the file.

Who subscribes is written down, so nothing is stored while nobody listens; what is stored
is dropped again after a minute.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from caraway.builtin.sqlite.doorbell import Doorbell, ring
from caraway.errors import TransportError
from caraway.interfaces.transport import Broadcast, Subscription
from caraway.message import Message, Notice, Topic
from caraway.routing import listens

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence

    from caraway.builtin.sqlite.store import Store

KEEP = 60.0
"""Seconds for which a broadcast can be read."""
KEEP_ROWS = 100_000
"""No more than this many are kept for a subscriber that doesn't read."""
_PRESENCE = 60.0
"""Seconds after which a subscriber that didn't say it is there is forgotten."""
_TRIM_EVERY = 256


class SqliteBroadcast(Broadcast):
    """The channel of one file."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._published = _TRIM_EVERY

    def publish(self, notices: Sequence[Notice]) -> None:
        store = self._store
        listeners = store.read("SELECT port, topics FROM subscriber")
        if not listeners or not notices:
            return
        now = self._clock()
        wanted = []
        for port, topics in listeners:
            patterns = _patterns(topics)
            if any(_wanted(notice.topic, patterns) for notice in notices):
                wanted.append(port)
        if not wanted:
            return
        self._published += len(notices)
        with store.write(durable=False) as connection:
            connection.executemany(
                "INSERT INTO broadcast(at, topic, payload) VALUES(?,?,?)",
                [(now, *_row(notice)) for notice in notices],
            )
            if self._published >= _TRIM_EVERY:
                self._published = 0
                connection.execute("DELETE FROM broadcast WHERE at < ?", (now - KEEP,))
                connection.execute(
                    "DELETE FROM broadcast WHERE id <= (SELECT max(id) FROM broadcast) - ?",
                    (KEEP_ROWS,),
                )
                connection.execute("DELETE FROM subscriber WHERE until < ?", (now,))
        ring(port for port in wanted if port < 1 << 16)

    def subscribe(
        self,
        topics: Iterable[Topic],
        *,
        name: str = "",  # noqa: ARG002 - nothing here has a name
    ) -> SqliteSubscription:
        return SqliteSubscription(self._store, self._clock, tuple(topics))


class SqliteSubscription(Subscription):
    """Reads what was stored since it began."""

    def __init__(self, store: Store, clock: Callable[[], float], topics: tuple[Topic, ...]) -> None:
        self._store = store
        self._clock = clock
        self._topics = topics
        self._bell = Doorbell()
        self._closed = False
        self._announced = time.monotonic()
        # Without a port there is still a row: it says that somebody listens.
        self._key = self._bell.port or int.from_bytes(os.urandom(6), "big") + (1 << 16)
        with store.write(durable=False) as connection:
            self._announce(connection)
            # The counter and not the rows, which may all have been trimmed.
            row = connection.execute(
                "SELECT seq FROM sqlite_sequence WHERE name='broadcast'"
            ).fetchone()
            self._last = row[0] if row is not None else 0

    def _announce(self, connection: sqlite3.Connection) -> None:
        connection.execute(
            "INSERT OR REPLACE INTO subscriber(port, topics, until) VALUES(?,?,?)",
            (self._key, msgspec.json.encode(self._topics).decode(), self._clock() + _PRESENCE),
        )

    def receive(self, timeout: float) -> Sequence[Notice]:
        deadline = time.monotonic() + timeout
        poll = self._store.options.poll_interval
        while True:
            if self._closed:
                raise TransportError("this subscription is closed", hint="Subscribe again.")
            if time.monotonic() - self._announced > _PRESENCE / 3:
                with self._store.write(durable=False) as connection:
                    self._announce(connection)
                self._announced = time.monotonic()
            found = self._read()
            left = deadline - time.monotonic()
            if found or left <= 0:
                return found
            if self._bell.wait(min(left, poll)) or self._closed:
                return ()

    def _read(self) -> list[Notice]:
        rows = self._store.read(
            "SELECT id, topic, payload FROM broadcast WHERE id > ? ORDER BY id LIMIT 1000",
            (self._last,),
        )
        if rows:
            self._last = rows[-1][0]
        notices = [_notice(topic, payload) for _, topic, payload in rows]
        return [notice for notice in notices if _wanted(notice.topic, self._topics)]

    def wake(self) -> None:
        self._bell.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._bell.wake()
        try:
            with self._store.write(durable=False) as connection:
                connection.execute("DELETE FROM subscriber WHERE port=?", (self._key,))
        finally:
            self._bell.close()


def _patterns(topics: str) -> tuple[Topic, ...]:
    return msgspec.json.decode(topics, type=tuple[Topic, ...])


def _wanted(topic: Topic, patterns: Iterable[Topic]) -> bool:
    return any(listens(pattern, topic) for pattern in patterns)


def _row(notice: Notice) -> tuple[str, bytes]:
    return msgspec.json.encode(notice.topic).decode(), msgspec.msgpack.encode(notice.message)


def _notice(topic: str, payload: bytes) -> Notice:
    return Notice(
        msgspec.json.decode(topic, type=Topic), msgspec.msgpack.decode(payload, type=Message)
    )
