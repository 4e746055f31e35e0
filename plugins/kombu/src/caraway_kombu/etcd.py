"""kombu's etcd transport, mended: with kombu 5.7 the newest message is taken first, a queue
that isn't there is an error, and two threads of one process may take the same message.

Keys and values are kombu's: ``/kombu/QUEUE/NUMBER``.  etcd numbers them, and deletes one only
if it is as it was read, so nothing here takes a lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from queue import Empty
from typing import Any

# Not typed, all of it.
kombus: Any = import_module("kombu.transport.etcd")
etcd: Any = import_module("etcd")
dumps: Any = import_module("kombu.utils.json").dumps
loads: Any = import_module("kombu.utils.json").loads


class Channel(kombus.Channel):  # type: ignore[misc]
    """kombu's channel, first in first out."""

    def _new_queue(self, queue: str, **_: Any) -> None:
        try:
            self.client.write(self._key_prefix(queue), None, dir=True, prevExist=False)
        except etcd.EtcdAlreadyExist:
            return

    def _entries(self, queue: str) -> list[Any]:
        """Those of a queue, the oldest first."""
        try:
            found = self.client.read(self._key_prefix(queue), sorted=True)
        except etcd.EtcdKeyNotFound:
            return []
        return [each for each in found.children if each.key and not each.dir]

    def _put(self, queue: str, payload: Mapping[str, Any], **_: Any) -> None:
        self.client.write(self._key_prefix(queue), dumps(payload), append=True)

    def _get(self, queue: str, timeout: float | None = None) -> Any:  # noqa: ARG002 - kombu's
        for entry in self._entries(queue):
            if self._remove(entry):
                return loads(entry.value)
        raise Empty

    def _remove(self, entry: Any) -> bool:
        """False if somebody else was first."""
        try:
            self.client.delete(entry.key, prevIndex=entry.modifiedIndex)
        except (etcd.EtcdKeyNotFound, etcd.EtcdCompareFailed):
            return False
        return True

    def _purge(self, queue: str) -> int:
        return sum(map(self._remove, self._entries(queue)))

    def _delete(self, queue: str, *_args: Any, **_: Any) -> None:
        try:
            self.client.delete(self._key_prefix(queue), recursive=True, dir=True)
        except etcd.EtcdKeyNotFound:
            return

    def _size(self, queue: str) -> int:
        return len(self._entries(queue))

    def caraway_queues(self) -> Sequence[str]:
        """Names of all queues."""
        try:
            found = self.client.read(self.prefix)
        except etcd.EtcdKeyNotFound:
            return []
        return [each.key.rpartition("/")[2] for each in found.children if each.dir]

    def caraway_ping(self) -> None:
        """A call that changes nothing."""
        self._size("caraway.ping")


class Transport(kombus.Transport):  # type: ignore[misc]
    """kombu's transport with the mended channel."""

    Channel = Channel
