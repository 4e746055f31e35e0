"""Broker, result store and schedule store in one SQLite file: the default.

``sqlite://`` is ``.caraway/caraway.db`` in the project's directory, ``sqlite:///jobs.db``
a file relative to it, ``sqlite:////var/lib/shop/jobs.db`` an absolute one.  Any number
of processes of one machine may share a file; what one of them was told is kept survives
them all, and with ``synchronous=full`` (the default) a power cut too.

Rooms: `location` (which file), `schema` (tables), `store` (connections, transactions,
errors), `doorbell` (waiting without polling), `queues` (what publishing and taking is in
SQL), `transport` and `consumer` (the contract over it), `inspection`, `dead_letters`,
`broadcast`, `results` and `backend`, `schedule`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from caraway.builtin.sqlite.backend import SqliteBackend
    from caraway.builtin.sqlite.schedule import SqliteScheduleStore
    from caraway.builtin.sqlite.transport import SqliteTransport

__all__ = ["SqliteBackend", "SqliteScheduleStore", "SqliteTransport"]

_HOMES = {
    "SqliteBackend": "caraway.builtin.sqlite.backend",
    "SqliteScheduleStore": "caraway.builtin.sqlite.schedule",
    "SqliteTransport": "caraway.builtin.sqlite.transport",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
