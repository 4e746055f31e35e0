"""What a lane that waited is given: one message, nearly always, and that is in its hands.

The full fetch looks at all lists, inboxes and delayed messages, which takes the server
longer than everything else that one message costs it.  The claim takes what the wait has
brought, counts it as the owner's, and says whether there is more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from caraway.message import Delivery
from caraway_redis.fetching import delivery
from caraway_redis.wires import Script

CLAIM = Script("claim")


class Claimed:
    """A message that is read while its claim is on its way.

    Args:
        queue: where it came from.
        payload: as it is stored.
    """

    __slots__ = ("_delivery", "_payload")

    def __init__(self, queue: str, payload: bytes) -> None:
        self._payload = payload
        self._delivery = delivery(0, queue, payload)

    def deliveries(self, tag: int, groups: Sequence[Any]) -> list[Delivery] | None:
        """Of an answer; None if it is about another message, or none."""
        if len(groups) != 1 or groups[0][1] != [self._payload]:
            return None
        return [replace(self._delivery, tag=tag)]
