"""A transport whose broker is a dict: replace the inside of `Box` by your store.

The contract is `caraway.interfaces.transport`; tests/test_conformance.py holds this to it.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from caraway.errors import PublishError, TransportError
from caraway.interfaces import Capability, Consumer, Context, Transport
from caraway.message import (
    Delivery,
    Message,
    Owner,
    Publication,
    Queue,
    QueueStats,
    Settlement,
    Tag,
)
from caraway.url import Url


class Item:
    """One message in the box; ``number`` is its age and its tag."""

    def __init__(self, number: int, publication: Publication) -> None:
        self.number = number
        self.message: Message = publication.message
        self.queue = publication.queue
        self.attempts = 0
        self.holder = ""


class Box:
    """The store.  A real one is a server; this one is shared by the whole process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()  # its lock guards everything below
        self.ready: dict[str, list[Item]] = {}
        self.held: dict[Tag, Item] = {}
        self.count = 0

    def put_back(self, item: Item, *, counted: bool = True) -> None:
        """To its old place in its queue: age decides, not the time of the return."""
        item.holder = ""
        item.attempts -= 0 if counted else 1
        bisect.insort(self.ready.setdefault(item.queue, []), item, key=lambda i: i.number)


_BOXES: dict[str, Box] = {}
_LOCK = threading.Lock()


class ShelfTransport(Transport):
    """``shelf://name``: all that use one name in one process share one box."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        with _LOCK:
            self._box = _BOXES.setdefault(f"{url.host}{url.path}", Box())
        self._capacity: int = options.get("capacity", 1_000_000)
        self._consumers: list[ShelfConsumer] = []
        self._closed = False

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        box = self._open()
        failed = []
        with box.changed:
            for position, publication in enumerate(publications):
                if sum(map(len, box.ready.values())) >= self._capacity:
                    failed.append(position)
                    continue
                box.count += 1
                box.put_back(Item(box.count, publication))
            box.changed.notify_all()
        if failed:
            raise PublishError("the box is full", failed=failed)

    def consume(self, queues: Sequence[Queue], owner: Owner) -> Consumer:
        self.declare(queues)
        consumer = ShelfConsumer(self._open(), [queue.name for queue in queues], owner)
        self._consumers.append(consumer)
        return consumer

    def declare(self, queues: Sequence[Queue]) -> None:
        box = self._open()
        with box.changed:
            for queue in queues:
                box.ready.setdefault(queue.name, [])

    def delete(self, queue: str) -> int:
        box = self._open()
        with box.changed:
            held = [number for number, item in box.held.items() if item.queue == queue]
            for number in held:
                del box.held[number]
            return len(box.ready.pop(queue, [])) + len(held)

    def purge(self, queue: str) -> int:
        box = self._open()
        with box.changed:
            items = box.ready.get(queue, [])
            count = len(items)
            items.clear()
            return count

    def stats(self, queues: Sequence[str] = ()) -> Sequence[QueueStats]:
        box = self._open()
        with box.changed:
            return [
                QueueStats(
                    name=name,
                    ready=len(box.ready.get(name, [])),
                    held=sum(item.queue == name for item in box.held.values()),
                )
                for name in sorted(queues or box.ready)
            ]

    def ping(self) -> None:
        self._open()

    def close(self) -> None:
        if not self._closed:
            for consumer in self._consumers:
                consumer.close()
        self._closed = True

    def _open(self) -> Box:
        if self._closed:
            raise TransportError("this transport was closed")
        return self._box


class ShelfConsumer(Consumer):
    """One owner's way to its deliveries."""

    def __init__(self, box: Box, queues: Sequence[str], owner: Owner) -> None:
        self.owner = owner
        self.queues = list(queues)
        self._order = list(queues)
        self._box = box
        self._woken = False
        self._closed = False

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        deadline = time.monotonic() + timeout
        with self._box.changed:
            while True:
                if self._closed:
                    raise TransportError("this consumer was closed")
                taken = self._take(limit)
                remaining = deadline - time.monotonic()
                if taken or remaining <= 0:
                    return taken
                if self._woken:
                    self._woken = False
                    return []
                self._box.changed.wait(remaining)

    def _take(self, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for name in self._order:
            items = self._box.ready.get(name, [])
            count = min(limit - len(taken), len(items))
            for item in items[:count]:
                item.attempts += 1
                item.holder = self.owner.id
                self._box.held[item.number] = item
                taken.append(
                    Delivery(item.message, item.number, item.queue, attempt=item.attempts)
                )
            del items[:count]
        # Fair: who was served first this time is served last the next.
        self._order.append(self._order.pop(0))
        return taken

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        fenced: list[Tag] = []
        with self._box.changed:
            for settlement in settlements:
                item = self._box.held.get(settlement.tag)
                if item is None or item.holder != self.owner.id:
                    fenced.append(settlement.tag)
                    continue
                del self._box.held[item.number]
                if settlement.action == "release":
                    self._box.put_back(item, counted=settlement.counted)
                # "reject": with Capability.DEAD_LETTERS, keep it with settlement.reason.
            self._box.changed.notify_all()
        return fenced

    def wake(self) -> None:
        with self._box.changed:
            self._woken = True
            self._box.changed.notify_all()

    def close(self) -> None:
        with self._box.changed:
            self._closed = True
            mine = [i for i in self._box.held.values() if i.holder == self.owner.id]
            for item in mine:
                del self._box.held[item.number]
                self._box.put_back(item, counted=False)
            self._box.changed.notify_all()
