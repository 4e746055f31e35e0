"""A result backend that is a dict: replace the inside of `Box` by your store.

The contract is `caraway.interfaces.backend`; tests/test_conformance.py holds this to it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from caraway.errors import BackendError
from caraway.interfaces import Backend, Capability, Context
from caraway.message import StoredResult
from caraway.states import READY_STATES
from caraway.url import Url


class Box:
    """The store.  A real one is a server; this one is shared by the whole process."""

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())  # its lock guards everything below
        self.results: dict[str, tuple[StoredResult, float]] = {}


_BOXES: dict[str, Box] = {}
_LOCK = threading.Lock()


class ShelfBackend(Backend):
    """``shelf://name``: all that use one name in one process share one box."""

    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.PUSH})

    def __init__(self, url: Url, options: Mapping[str, Any], context: Context) -> None:
        with _LOCK:
            self._box = _BOXES.setdefault(f"{url.host}{url.path}", Box())
        self._prefix: str = options.get("prefix", "")
        self._clock = context.clock
        self._closed = False

    def store(self, results: Sequence[StoredResult]) -> None:
        box = self._open()
        with box.changed:
            now = self._clock()
            for result in results:
                stored = self._live(result.task_id, now)
                if stored is None or stored.state not in READY_STATES:
                    expires = now + result.ttl if result.ttl else float("inf")
                    box.results[self._prefix + result.task_id] = (result, expires)
            box.changed.notify_all()

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        box = self._open()
        with box.changed:
            now = self._clock()
            found = {task_id: self._live(task_id, now) for task_id in task_ids}
            return {task_id: result for task_id, result in found.items() if result is not None}

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        box = self._open()
        deadline = time.monotonic() + timeout
        with box.changed:  # held from looking to waiting, so that nothing is missed
            while True:
                found = self.get(task_ids)
                final = {key: r for key, r in found.items() if r.state in READY_STATES}
                remaining = deadline - time.monotonic()
                if final or remaining <= 0:
                    return final
                box.changed.wait(remaining)

    def forget(self, task_ids: Sequence[str]) -> int:
        box = self._open()
        with box.changed:
            now = self._clock()
            known = [task_id for task_id in set(task_ids) if self._live(task_id, now)]
            for task_id in known:
                del box.results[self._prefix + task_id]
            return len(known)

    def cleanup(self) -> int:
        box = self._open()
        with box.changed:
            now = self._clock()
            over = [key for key, (_, expires) in box.results.items() if expires <= now]
            for key in over:
                del box.results[key]
            return len(over)

    def ping(self) -> None:
        self._open()

    def close(self) -> None:
        self._closed = True

    def _live(self, task_id: str, now: float) -> StoredResult | None:
        result, expires = self._box.results.get(self._prefix + task_id, (None, 0.0))
        return result if expires > now else None

    def _open(self) -> Box:
        if self._closed:
            raise BackendError("this backend was closed")
        return self._box
