"""What the tests of result backends share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from caraway import states
from caraway.message import StoredResult
from caraway.testing.conformance.suite import Suite

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend


def meta(state: str, value: str = "") -> bytes:
    """A meta record as workers write it, with this result."""
    return msgspec.json.encode({"status": state, "result": value, "traceback": None})


def end_of(task_id: str, state: str = states.SUCCESS, value: object = None) -> bytes:
    """The end of a chord's member as workers write it."""
    return msgspec.json.encode([1, task_id, state, value])


class BackendCase(Suite):
    """Base of the backends' tests."""

    kind = "backend"

    @property
    def backend(self) -> Backend:
        """The test's first connection."""
        found: Backend = self.subject
        return found

    def id(self, label: object = "task") -> str:
        """An id that only this test uses."""
        return f"{self.unique}-{label}"

    def store(
        self, label: object = "task", state: str = states.SUCCESS, value: str = "",
        ttl: float = 0.0, backend: Backend | None = None,
    ) -> None:  # fmt: skip
        """Store one state."""
        chosen = self.backend if backend is None else backend
        chosen.store([StoredResult(self.id(label), state, meta(state, value), ttl)])

    def state(self, label: object = "task", backend: Backend | None = None) -> str:
        """The stored state, PENDING if there is none."""
        chosen = self.backend if backend is None else backend
        found = chosen.get([self.id(label)]).get(self.id(label))
        return states.PENDING if found is None else found.state
