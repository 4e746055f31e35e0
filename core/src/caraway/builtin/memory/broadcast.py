"""Publish and subscribe within one process."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from caraway.interfaces.transport import Broadcast, Subscription
from caraway.routing import listens

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from caraway.builtin.memory.space import Space
    from caraway.message import Notice, Topic

BACKLOG = 100_000
"""Notices that a subscriber may leave unread before the oldest are dropped."""


class MemoryBroadcast(Broadcast):
    """The channel of one space."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def publish(self, notices: Sequence[Notice]) -> int:
        space = self._space
        with space.lock:
            subscriptions = tuple(space.subscriptions)
        return sum(subscription.offer(notices) for subscription in subscriptions)

    def subscribe(
        self,
        topics: Iterable[Topic],
        *,
        name: str = "",  # noqa: ARG002 - nothing here has a name
    ) -> MemorySubscription:
        return MemorySubscription(self._space, tuple(topics))


class MemorySubscription(Subscription):
    """An open subscription with its unread notices."""

    def __init__(self, space: Space, topics: tuple[Topic, ...]) -> None:
        self._space = space
        self._topics = topics
        self._arrived = threading.Condition()
        self._unread: deque[Notice] = deque(maxlen=BACKLOG)
        self._woken = False
        self._closed = False
        with space.lock:
            space.subscriptions.append(self)

    def offer(self, notices: Sequence[Notice]) -> int:
        """Keep those that are for us; return how many."""
        ours = [
            notice
            for notice in notices
            if any(listens(topic, notice.topic) for topic in self._topics)
        ]
        if ours:
            with self._arrived:
                self._unread.extend(ours)
                self._arrived.notify()
        return len(ours)

    def receive(self, timeout: float) -> Sequence[Notice]:
        deadline = time.monotonic() + timeout
        with self._arrived:
            while not self._unread and not self._woken and not self._closed:
                left = deadline - time.monotonic()
                if left <= 0 or not self._arrived.wait(left):
                    break
            self._woken = False
            received = list(self._unread)
            self._unread.clear()
            return received

    def wake(self) -> None:
        with self._arrived:
            self._woken = True
            self._arrived.notify()

    def close(self) -> None:
        with self._space.lock:
            if self in self._space.subscriptions:
                self._space.subscriptions.remove(self)
        with self._arrived:
            self._closed = True
            self._unread.clear()
            self._arrived.notify()
