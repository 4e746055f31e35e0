"""kombu's Pyro transport, mended: with kombu 5.7 an empty queue is an error on Python's own
`queue`, nothing can be purged, and the URL's port isn't heeded.

The broker is kombu's own, ``python -m kombu.transport.pyro``; messages are its.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from queue import Empty
from typing import Any

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.pyro")
errors: Any = import_module("Pyro4.errors")
serializers: Any = import_module("Pyro4.util").SerializerBase

# As CPython calls it since 3.7.
serializers.register_dict_to_class("_queue.Empty", lambda _name, _data: Empty())


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, which here knows that a queue may be empty or not there."""

    def _size(self, queue: str) -> int:
        return int(super()._size(queue)) if self._has_queue(queue) else 0

    def _purge(self, queue: str) -> int:
        count = 0
        while self._has_queue(queue):
            try:
                self._get(queue)
            except Empty:
                break
            count += 1
        return count

    def _delete(self, queue: str, *args: Any, **_: Any) -> None:
        if self._has_queue(queue):
            super()._delete(queue, *args)

    def caraway_queues(self) -> Sequence[str]:
        """Names of all queues."""
        return list(self.queues())

    def caraway_ping(self) -> None:
        """A call that changes nothing."""
        self._has_queue("")


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the mended channel."""

    Channel = Channel
    connection_errors = (
        *kombus.Transport.connection_errors,
        errors.CommunicationError,
        errors.NamingError,
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        # Where kombu looks for the name server.
        self.default_port = client.port or kombus.DEFAULT_PORT
