"""Applies what came of runs, in the one order that loses nothing.

Where transport and backend share a store, a batch is one atomic commit.  Else the order
is: store results, publish follow-ups, settle.  Killed between two of these, a message is
either unacknowledged and runs again, or completely done.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caraway.message import Completion, Tag

if TYPE_CHECKING:
    from caraway.interfaces import Backend, Consumer, Transport


class Committer:
    """Applies completions for one consumer.

    Args:
        transport: publishes follow-ups.
        backend: stores results; None if results are disabled.
        consumer: settles.
    """

    def __init__(self, transport: Transport, backend: Backend | None, consumer: Consumer) -> None:
        self._transport = transport
        self._backend = backend
        self._consumer = consumer
        self.atomic = backend is None or transport.shares_store(backend)
        if backend is None:
            from caraway.interfaces import Capability

            self.atomic = Capability.ATOMIC_COMMIT in transport.capabilities

    def apply(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        """Apply a batch; return the tags that were no longer ours.

        May be called again with the same batch after an error: results, settlements
        and (with an atomic commit) publications repeat without effect.
        """
        if self.atomic:
            return self._consumer.commit(completions)
        if self._backend is not None:
            results = [c.result for c in completions if c.result is not None]
            if results:
                self._backend.store(results)
        follow_ups = [p for c in completions for p in c.publications]
        if follow_ups:
            self._transport.publish(follow_ups)
        return self._consumer.settle([c.settlement for c in completions])

    def apply_settled(self, completions: Sequence[Completion]) -> None:
        """Apply completions whose messages were acknowledged before they ran."""
        if self._backend is not None:
            results = [c.result for c in completions if c.result is not None]
            if results:
                self._backend.store(results)
        follow_ups = [p for c in completions for p in c.publications]
        if follow_ups:
            self._transport.publish(follow_ups)
