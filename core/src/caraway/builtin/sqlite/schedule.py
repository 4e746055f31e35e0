"""Schedule records in a SQLite file, and the election of one scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.sqlite.store import Store
from caraway.builtin.sqlite.stores import close_store, open_store
from caraway.errors import TransportError
from caraway.interfaces.context import Capability
from caraway.interfaces.schedule import ScheduleRecord, ScheduleStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.interfaces.context import Context
    from caraway.url import Url


class SqliteScheduleStore(ScheduleStore):
    """A connection to the schedule records in one file.

    Args:
        url: as for `SqliteTransport`.
        options: see `caraway.builtin.sqlite.options.Options`.
        context: its ``monotonic`` clock ends leaderships.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.LEADER, Capability.PERSISTENT, Capability.SHARED}
    )

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        self._closed = True
        self.file: Store = open_store(url, options, context)
        self._closed = False
        self._monotonic = context.monotonic

    def _open(self) -> Store:
        if self._closed:
            raise TransportError("this schedule store is closed", hint="Build another one.")
        return self.file

    def load(self) -> Mapping[str, ScheduleRecord]:
        rows = self._open().read(
            "SELECT name, last_run_at, total_run_count, definition FROM schedule ORDER BY name"
        )
        return {row[0]: ScheduleRecord(*row) for row in rows}

    def save(self, records: Sequence[ScheduleRecord], *, fence: int = 0) -> bool:
        with self._open().write() as connection:
            (newest,) = connection.execute("SELECT fence FROM leader").fetchone()
            if fence < newest:
                return False
            connection.executemany(
                "INSERT OR REPLACE INTO schedule(name, last_run_at, total_run_count, definition)"
                " VALUES(?,?,?,?)",
                [(r.name, r.last_run_at, r.total_run_count, r.definition) for r in records],
            )
        return True

    def remove(self, names: Sequence[str]) -> None:
        with self._open().write() as connection:
            connection.executemany("DELETE FROM schedule WHERE name=?", [(n,) for n in names])

    def lead(self, candidate: str, ttl: float) -> int:
        now = self._monotonic()
        # Durable where the fence grows: two leaders must never be given the same one.
        with self._open().write() as connection:
            leader, until, granted, fence = connection.execute(
                "SELECT candidate, until, ttl, fence FROM leader"
            ).fetchone()
            # The clock starts afresh at boot: a time later than any granted is from before.
            leads = bool(leader) and now < until <= now + granted + 1
            if leads and leader != candidate:
                return 0
            if not leads:
                # Also for the one whose own time ran out: somebody may have led since.
                fence += 1
            connection.execute(
                "UPDATE leader SET candidate=?, until=?, ttl=?, fence=?",
                (candidate, now + ttl, ttl, fence),
            )
        return int(fence)

    def resign(self, candidate: str) -> None:
        with self._open().write() as connection:
            connection.execute("UPDATE leader SET candidate='' WHERE candidate=?", (candidate,))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            close_store(self.file)
