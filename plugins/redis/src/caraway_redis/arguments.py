"""What the scripts of one consumer are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from caraway_redis.keys import Keys

_SWEEP_EVERY = 1000
"""Milliseconds between two looks of a whole fleet for owners whose lease ended."""


class Place(NamedTuple):
    """A list that is served, and the inbox for what comes of it while its owner waits."""

    name: str
    inbox: str
    queue: str
    step: int


class Arguments:
    """Each begins with the number of its keys.

    Args:
        keys: their names.
        guard: keys that all scripts name beside their own.
        owner: the consumer's.
        queues: in the order of serving.
        steps: of priority, likewise.

    Attributes:
        places: all lists, in the order of serving.
        commit: the first of those of ``commit.lua``.
    """

    def __init__(
        self,
        keys: Keys,
        guard: Sequence[str],
        owner: str,
        queues: Sequence[str],
        steps: Sequence[int],
    ) -> None:
        self.places = [
            Place(keys.list(queue, step), f"{keys.inbox}{owner}:{step}:{queue}", queue, step)
            for queue in queues
            for step in steps
        ]
        held = keys.held + owner
        lists, inboxes = [each.name for each in self.places], [each.inbox for each in self.places]
        common = (keys.owners, held, keys.seq, keys.revoked)

        names = [*common, *lists, *inboxes, *guard]
        self._claim_head = (len(names), *names, owner, len(lists))

        names = [*common, keys.sweep, keys.timer]
        for number, queue in enumerate(queues):
            own = slice(number * len(steps), (number + 1) * len(steps))
            names += [keys.delayed + queue, *lists[own], *inboxes[own]]
        names += guard
        self._fetch_head = (len(names), *names, owner)
        self._fetch_tail = (_SWEEP_EVERY, *steps, *queues)
        self._counts = (len(queues), len(steps))

        self.commit: tuple[Any, ...] = (
            4 + len(guard), held, keys.seq, keys.dead_index, keys.queues, *guard,
            keys.prefix, keys.sep, keys.delayed, keys.dead, keys.dead_of,
        )  # fmt: skip

    def fetch(self, limit: int, first: int, known: int | str) -> tuple[Any, ...]:
        """Those of ``fetch.lua``.

        Args:
            limit: most messages.
            first: the queue to serve first; -1 for the given order.
            known: tag after which what is held is unknown here; "" if none is.
        """
        return (*self._fetch_head, limit, *self._counts, first, known, *self._fetch_tail)

    def claim(self, place: int) -> tuple[Any, ...]:
        """Those of ``claim.lua``.

        Args:
            place: position in ``places`` of the list of which something came.
        """
        came = self.places[place]
        index = place // self._counts[1]
        return (*self._claim_head, place + 1, f"{came.step}\n{came.queue}\n", index)
