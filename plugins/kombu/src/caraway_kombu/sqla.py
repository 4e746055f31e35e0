"""kombu's SQLAlchemy transport, mended: connections are given back, and a ping makes no row.

Tables are kombu's: ``kombu_queue``, ``kombu_message``.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.sqlalchemy")
sqlalchemy: Any = import_module("sqlalchemy")


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, which ends its transactions."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        with warnings.catch_warnings():
            # SQLAlchemy 2.1 warns of what kombu's tables are mapped with; it's not the user's.
            warnings.filterwarnings("ignore", message="The ``noload`` loader strategy")
            assert sqlalchemy.inspect(self.queue_cls).relationships is not None

    def caraway_queues(self) -> Sequence[str]:
        """Names of all queues."""
        found = [name for (name,) in self.session.query(self.queue_cls.name)]
        self.session.rollback()
        return found

    def caraway_ping(self) -> None:
        """A statement that changes nothing."""
        self.session.execute(sqlalchemy.text("SELECT 1"))
        self.session.rollback()

    def _size(self, queue: str) -> int:
        found = int(super()._size(queue))
        self.session.rollback()
        return found

    def close(self) -> None:
        session: Any = self.__dict__.pop("_session", None)
        if session is not None:
            session.close()
        super().close()


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the mended channel."""

    Channel = Channel
