"""Results in memory."""

from __future__ import annotations

import time
from math import inf
from operator import itemgetter
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.builtin.memory.consumer import keep
from caraway.builtin.memory.space import Chord, Join, Pause, find_space
from caraway.errors import BackendError
from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability
from caraway.states import READY_STATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.builtin.memory.space import Space
    from caraway.interfaces.context import Context
    from caraway.message import ChordPart, ChordStart, StoredResult
    from caraway.url import Url

_REMEMBER = 600.0
"""Seconds for which a chord whose body was sent is known to be done."""
_index_of = itemgetter(0)


class MemoryBackend(Backend):
    """A connection to the results of one space.

    Args:
        url: ``memory://name``.
        options: none are known.
        context: its clocks are used, so a test's clock moves expiry.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.PUSH, Capability.TTL, Capability.GROUPS, Capability.CHORDS}
    )

    def __init__(
        self,
        url: Url,
        options: Mapping[str, Any],  # noqa: ARG002 - every factory is given them
        context: Context,
    ) -> None:
        self.space: Space = find_space(url)
        self._clock = context.clock
        self._pause = Pause(context, self.space)
        self._closed = False

    def _check_open(self) -> None:
        if self._closed:
            raise BackendError("this memory backend is closed", hint="build another one")

    def store(self, results: Sequence[StoredResult]) -> None:
        self._check_open()
        with self.space.lock:
            keep(self.space, results, self._clock())

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        self._check_open()
        with self.space.lock:
            return self._look(task_ids, self._clock())

    def _look(self, task_ids: Sequence[str], now: float) -> dict[str, StoredResult]:
        kept = self.space.results
        found = {}
        for task_id in task_ids:
            known = kept.get(task_id)
            if known is not None and known[1] > now:
                found[task_id] = known[0]
        return found

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        self._check_open()
        space = self.space
        pause = self._pause
        deadline = time.monotonic() + timeout
        moved_deadline = pause.monotonic() + timeout
        with space.lock:
            while True:
                found = self._look(task_ids, self._clock())
                final = {i: result for i, result in found.items() if result.state in READY_STATES}
                left = deadline - time.monotonic()
                if final or left <= 0 or self._closed or pause.monotonic() >= moved_deadline:
                    return final
                space.result_waiting += 1
                try:
                    space.stored.wait(pause.length(left, inf, inf))
                finally:
                    space.result_waiting -= 1

    def forget(self, task_ids: Sequence[str]) -> int:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            found = self._look(task_ids, now)
            for task_id in task_ids:
                self.space.results.pop(task_id, None)
            return len(found)

    def ping(self) -> None:
        self._check_open()

    def close(self) -> None:
        with self.space.lock:
            self._closed = True
            self.space.stored.notify_all()

    def cleanup(self) -> int:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            for groups in (self.space.groups, self.space.joins):
                for group_id in [i for i in groups if self._group_ended(i, now)]:
                    groups.pop(group_id, None)
            chords = self.space.chords
            for group_id in [i for i, chord in chords.items() if chord.until <= now]:
                del chords[group_id]
            return self.space.drop_expired(now)

    # -- GROUPS ------------------------------------------------------------------------

    def _group_ended(self, group_id: str, now: float) -> bool:
        group = self.space.groups.get(group_id)
        join = self.space.joins.get(group_id)
        return (group is None or group[1] <= now) and (join is None or join.until <= now)

    def save_group(self, group_id: str, payload: bytes, ttl: float) -> None:
        self._check_open()
        with self.space.lock:
            until = self._clock() + ttl if ttl > 0 else inf
            self.space.groups[group_id] = (payload, until)

    def restore_group(self, group_id: str) -> bytes | None:
        self._check_open()
        with self.space.lock:
            group = self.space.groups.get(group_id)
            return group[0] if group is not None and group[1] > self._clock() else None

    def delete_group(self, group_id: str) -> None:
        self._check_open()
        with self.space.lock:
            self.space.groups.pop(group_id, None)
            self.space.joins.pop(group_id, None)

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            until = now + ttl if ttl > 0 else inf
            join = self.space.joins.get(group_id)
            if join is None or join.until <= now:
                join = self.space.joins[group_id] = Join(until)
            if join.winner is None:
                join.members.add(member)
                join.until = until
                if len(join.members) >= size:
                    join.winner = member
            return join.winner == member

    # -- CHORDS ------------------------------------------------------------------------

    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            for start in starts:
                chord = self._chord(start.group_id, start.ttl, now)
                if chord is not None:
                    chord.size = start.size

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Sequence[bytes] | None]:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            return [self._count(part, now) for part in parts]

    def chord_sent(self, group_ids: Sequence[str]) -> None:
        self._check_open()
        with self.space.lock:
            now = self._clock()
            sent = self.space.chords_sent
            for group_id in group_ids:
                self.space.chords.pop(group_id, None)
                sent.pop(group_id, None)  # so that the order is that of the times
                sent[group_id] = now + _REMEMBER
            while sent and next(iter(sent.values())) <= now:
                del sent[next(iter(sent))]

    def _chord(self, group_id: str, ttl: float, now: float) -> Chord | None:
        """The chord, begun if it is new; None if its body was sent.  Lock held."""
        if self.space.chords_sent.get(group_id, 0.0) > now:
            return None
        chord = self.space.chords.get(group_id)
        if chord is None or chord.until <= now:
            chord = self.space.chords[group_id] = Chord()
        if ttl > 0:
            chord.until = now + ttl
        return chord

    def _count(self, part: ChordPart, now: float) -> Sequence[bytes] | None:
        chord = self._chord(part.group_id, part.ttl, now)
        if chord is None:
            return None
        if chord.winner is None:
            index = part.index if part.index >= 0 else inf
            chord.ends.setdefault(part.task_id, (index, part.payload))
            if 0 < (chord.size or part.size) <= len(chord.ends):
                chord.winner = part.task_id
        if chord.winner != part.task_id:
            return None
        return [payload for _, payload in sorted(chord.ends.values(), key=_index_of)]
