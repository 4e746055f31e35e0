"""How often messages were delivered, as far as this process knows.

A classic queue only says that a message was delivered before, not how often, nor whether
anybody began to run it.  What this process itself gave back, it remembers here; for what
others left, see `caraway_amqp.consumer`.
"""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from caraway.message import Message

_MOST = 20_000


class Attempts:
    """Counts by queue and message; bounded, the oldest go first.  Thread-safe."""

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = Lock()

    def note(self, queue: str, message: Message, count: int) -> None:
        """This message is about to be delivered again, after ``count`` that counted."""
        with self._lock:
            self._counts[_key(queue, message)] = count
            while len(self._counts) > _MOST:
                self._counts.popitem(last=False)

    def take(self, queue: str, message: Message) -> int | None:
        """What was noted, once; None if nothing was."""
        with self._lock:
            return self._counts.pop(_key(queue, message), None)


def _key(queue: str, message: Message) -> tuple[str, int]:
    headers = message.headers
    task_id, retries = headers.get("id"), headers.get("retries")
    return queue, hash((str(task_id), str(retries), message.body))


_by_place: dict[tuple[str, int, str], Attempts] = {}


def attempts_of(place: tuple[str, int, str]) -> Attempts:
    """Those of one broker, shared by all connections of this process."""
    found = _by_place.get(place)
    if found is None:
        found = _by_place.setdefault(place, Attempts())
    return found
