"""kombu's ZooKeeper transport, mended: with kombu 5.7 a connection is never closed, so that a
server soon takes no more of them, and a deleted queue can't be used again.

Nodes are kombu's: ``/VHOST/QUEUE/entry-PRIORITY-NUMBER``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from caraway.errors import TransportError

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.zookeeper")
dumps: Any = import_module("kombu.utils.json").dumps
NoNodeError: Any = import_module("kazoo.exceptions").NoNodeError

LARGEST = 1_000_000
"""Bytes of a message that ZooKeeper takes unless its ``jute.maxbuffer`` was set."""


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, which here ends its connection, and knows that a queue may be gone."""

    def _put(self, queue: str, message: Mapping[str, Any], **_: Any) -> None:
        most = int(self.connection.client.transport_options.get("max_message_size", LARGEST))
        size = len(dumps(message))
        if size > most:
            # The server would end the connection, which looks as if it were away.
            raise TransportError(
                f"a message of {size} bytes is too large for ZooKeeper, which takes {most}",
                hint="Keep large data elsewhere and send its place; or set jute.maxbuffer of"
                " server and max_message_size in broker_transport_options.",
            )
        super()._put(queue, message)

    def _size(self, queue: str) -> int:
        return int(super()._size(queue)) if self._has_queue(queue) else 0

    def _purge(self, queue: str) -> int:
        return int(super()._purge(queue)) if self._has_queue(queue) else 0

    def _delete(self, queue: str, *_args: Any, **_: Any) -> None:
        # It remembers that its node is there.
        self._queues.pop(queue, None)
        try:
            self.client.delete(self._get_path(queue), recursive=True)
        except NoNodeError:
            return

    def caraway_queues(self) -> Sequence[str]:
        """Names of all queues."""
        try:
            return list(self.client.get_children(self._vhost))
        except NoNodeError:
            return []

    def caraway_ping(self) -> None:
        """A call that changes nothing."""
        self.client.exists(self._vhost)

    def close(self) -> None:
        super().close()
        client: Any = self.__dict__.pop("_client", None)
        if client is not None:
            client.stop()
            client.close()


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the mended channel."""

    Channel = Channel
