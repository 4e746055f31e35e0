"""Results in Redis, in Celery's own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.interfaces.backend import Backend
from caraway.interfaces.context import Capability
from caraway.message import ChordPart, ChordStart, StoredResult
from caraway.states import READY_STATES
from caraway_redis import chords
from caraway_redis.connection import Link
from caraway_redis.faults import for_backend
from caraway_redis.keys import OURS
from caraway_redis.listening import Listener
from caraway_redis.options import for_results
from caraway_redis.results import GROUP_KEY, RESULT_KEY, milliseconds, prefix, record
from caraway_redis.wires import Script

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url

STORE = Script("results", "store")
_AT_ONCE = 1000


class RedisBackend(Backend):
    """Results in a Redis, as Celery keeps them.

    Args:
        url: as of `caraway_redis.transport.RedisTransport`.
        options: see `caraway_redis.options.Options`.
        context: its settings `broker_connection_timeout` and `broker_pool_limit` are
            read.

    Raises:
        ImproperlyConfigured: a URL or option that can't be.
    """

    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {
            Capability.PUSH,
            Capability.TTL,
            Capability.GROUPS,
            Capability.CHORDS,
            Capability.PERSISTENT,
            Capability.SHARED,
        }
    )

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        own, ssl = for_results(options)
        self.link = Link(url, own, context, ssl=ssl, fault=for_backend)
        self._prefix = prefix(self.link.options)
        self.result_key = self._prefix + RESULT_KEY
        self._group_key = self._prefix + GROUP_KEY
        self._listener = Listener(self.link, self.result_key)

    def store(self, results: Sequence[StoredResult]) -> None:
        for begin in range(0, len(results), _AT_ONCE):
            some = results[begin : begin + _AT_ONCE]
            arguments: list[Any] = []
            for result in some:
                arguments += (result.payload, milliseconds(result.ttl))
            self.link.run(STORE, [self.result_key + r.task_id for r in some], arguments)

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        out: dict[str, StoredResult] = {}
        for begin in range(0, len(task_ids), _AT_ONCE):
            some = task_ids[begin : begin + _AT_ONCE]
            values = self.link.call("MGET", *[self.result_key + each for each in some])
            for task_id, value in zip(some, values, strict=True):
                if value is not None:
                    out[task_id] = record(task_id, value)
        return out

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        if timeout <= 0:
            stored = self.get(task_ids)
            return {i: r for i, r in stored.items() if r.state in READY_STATES}
        found = self._listener.wait(list(dict.fromkeys(task_ids)), timeout)
        return {task_id: record(task_id, value) for task_id, value in found.items()}

    def forget(self, task_ids: Sequence[str]) -> int:
        if not task_ids:
            return 0
        return int(self.link.call("DEL", *[self.result_key + each for each in task_ids]))

    def ping(self) -> None:
        # A write, so that it fails where storing would; nothing of it stays.
        self.link.call("SET", f"{self._prefix}{OURS}ping", "", "PX", 1)

    def close(self) -> None:
        self._listener.close()
        self.link.close()

    # -- GROUPS ------------------------------------------------------------------------

    def save_group(self, group_id: str, payload: bytes, ttl: float) -> None:
        life = ("PX", milliseconds(ttl)) if ttl > 0 else ()
        self.link.call("SET", self._group_key + group_id, payload, *life)

    def restore_group(self, group_id: str) -> bytes | None:
        found: bytes | None = self.link.call("GET", self._group_key + group_id)
        return found

    def delete_group(self, group_id: str) -> None:
        self.link.call("DEL", self._group_key + group_id, self._joined(group_id))

    def join(self, group_id: str, member: str, size: int, ttl: float) -> bool:
        return bool(
            self.link.run(chords.JOIN, (self._joined(group_id),), (member, size, milliseconds(ttl)))
        )

    def _joined(self, group_id: str) -> str:
        return f"{self._prefix}{OURS}join:{group_id}"

    # -- CHORDS ------------------------------------------------------------------------

    def chord_start(self, starts: Sequence[ChordStart]) -> None:
        chords.start(self.link, self._group_key, starts)

    def chord_parts(self, parts: Sequence[ChordPart]) -> Sequence[Sequence[bytes] | None]:
        ordered = self.link.options.result_chord_ordered
        return chords.count(self.link, self._group_key, parts, ordered=ordered)

    def chord_sent(self, group_ids: Sequence[str]) -> None:
        chords.sent(self.link, self._group_key, group_ids)
