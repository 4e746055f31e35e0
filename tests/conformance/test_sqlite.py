"""The SQLite components keep every contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.testing.conformance import BackendSuite, ScheduleSuite, TransportSuite

if TYPE_CHECKING:
    from pathlib import Path


class TestSqliteTransport(TransportSuite):
    factory = "caraway.builtin.sqlite:SqliteTransport"
    backend_factory = "caraway.builtin.sqlite:SqliteBackend"
    unreachable = "sqlite:////no/such/directory/store.db"

    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"


class TestSqliteBackend(BackendSuite):
    factory = "caraway.builtin.sqlite:SqliteBackend"
    unreachable = "sqlite:////no/such/directory/store.db"

    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"


class TestSqliteScheduleStore(ScheduleSuite):
    factory = "caraway.builtin.sqlite:SqliteScheduleStore"

    def url(self, tmp_path: Path) -> str:
        return f"sqlite:///{tmp_path}/store.db"
