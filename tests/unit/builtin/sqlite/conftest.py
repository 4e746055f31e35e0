"""Components on a file of their own, with clocks that the test moves."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway.builtin.sqlite import SqliteBackend, SqliteScheduleStore, SqliteTransport
from caraway.interfaces.context import Context
from caraway.message import Message, Owner, Publication, Queue, new_owner_id
from caraway.url import Url


class Bench:
    """One file, and what a test does to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.now = 1_700_000_000.0
        self.ticks = 1000.0
        self.context = Context(
            directory=str(directory), clock=lambda: self.now, monotonic=lambda: self.ticks
        )
        self.opened: list[Any] = []
        self.path = directory / "jobs.db"

    def transport(self, url: str = "sqlite:///jobs.db", **options: Any) -> SqliteTransport:
        made = SqliteTransport(Url.parse(url), options, self.context)
        self.opened.append(made)
        return made

    def backend(self, url: str = "sqlite:///jobs.db", **options: Any) -> SqliteBackend:
        made = SqliteBackend(Url.parse(url), options, self.context)
        self.opened.append(made)
        return made

    def schedule(self, url: str = "sqlite:///jobs.db") -> SqliteScheduleStore:
        made = SqliteScheduleStore(Url.parse(url), {}, self.context)
        self.opened.append(made)
        return made

    def message(self, name: str, **headers: Any) -> Message:
        return Message(b"[]", {"task": "t", "id": name, **headers})

    def publish(self, transport: SqliteTransport, *names: str, **fields: Any) -> None:
        fields.setdefault("queue", "q")
        transport.publish([Publication(self.message(name), **fields) for name in names])

    def consumer(self, transport: SqliteTransport, *queues: str, lease: float = 30.0) -> Any:
        owner = Owner(id=new_owner_id(), lease=lease)
        return transport.consume([Queue(name=name) for name in queues or ("q",)], owner)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement as another program would."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(statement, parameters).fetchall()
        finally:
            connection.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for component in reversed(made.opened):
        component.close()


@pytest.fixture
def ids() -> Callable[[Any], list[str]]:
    """Task ids of deliveries."""
    return lambda deliveries: [delivery.message.headers["id"] for delivery in deliveries]
