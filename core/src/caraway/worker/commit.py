"""Applies what came of runs, in the one order that loses nothing.

Where transport and backend share a store, a batch is one atomic commit.  Else the order
is: store results, publish follow-ups, settle.  Killed between two of these, a message is
either unacknowledged and runs again, or completely done.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from caraway.errors import (
    CarawayError,
    OwnerLost,
    StoreFull,
    StoreReadOnly,
    TransportUnavailable,
)
from caraway.interfaces import Capability, Consumer
from caraway.message import Completion, Publication, Tag
from caraway.worker.chords import settle
from caraway.worker.lane_config import LONGEST_PAUSE

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend, Transport

workflow_of = attrgetter("workflow")
_FIRST_WAIT = 0.05
"""Seconds before a commit that the store can't take is tried again; then twice that, and
so on."""


def _give_up(seconds: float) -> bool:  # noqa: ARG001 - the shape of a wait
    return False


def _keep(completion: Completion, exc: CarawayError) -> Completion:  # noqa: ARG001 - as above
    return completion


class Committer:
    """Applies completions for one consumer.

    Args:
        transport: publishes follow-ups.
        backend: stores results; None if results are disabled.
        consumer: settles.
        wait: called with seconds between two tries of `persist`; False gives up.
        substitute: makes, of a completion that can't be stored, one that can.
        app: builds what follows from workflows, and tells of it where its setting
            ``task_send_sent_event`` is on; None if nothing follows.

    Attributes:
        apply: applies a batch none of which has a workflow, and returns the tags that were
            no longer ours; `apply_any` applies any.  It may be called again with the same
            batch after an error: results, settlements and (with an atomic commit)
            publications repeat without effect.
        exchange: `Consumer.exchange`, where it saves a round trip and does what `apply`
            does; else None.
        gave_up: `persist` left completions uncommitted.
    """

    def __init__(
        self,
        transport: Transport,
        backend: Backend | None,
        consumer: Consumer,
        wait: Callable[[float], bool] = _give_up,
        substitute: Callable[[Completion, CarawayError], Completion] = _keep,
        app: Caraway | None = None,
    ) -> None:
        self._transport = transport
        self._backend = backend
        self._consumer = consumer
        self._wait = wait
        self._substitute = substitute
        self.gave_up = False
        if backend is None:
            self.atomic = Capability.ATOMIC_COMMIT in transport.capabilities
        else:
            self.atomic = transport.shares_store(backend)
        self._announce: Callable[[Sequence[Publication]], None] | None = None
        if app is not None and app.conf.task_send_sent_event:
            from caraway.events.sent import announce

            self._announce = partial(announce, app)
        self.apply: Callable[[Sequence[Completion]], Sequence[Tag]] = (
            self.apply_in_steps
            if not self.atomic
            else consumer.commit
            if self._announce is None
            else self._commit_and_announce
        )
        saves = type(consumer).exchange is not Consumer.exchange
        self.exchange = consumer.exchange if saves and self.apply == consumer.commit else None
        self._app = app if backend is not None else None

    def apply_any(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        """Apply a batch; see `apply`."""
        if self._app is None or not any(map(workflow_of, completions)):
            return self.apply(completions)
        assert self._backend is not None
        made, done = settle(self._app, self._backend, completions)
        fenced = self.apply(made)
        if done:
            self._backend.chord_sent(done)
        return fenced

    def apply_in_steps(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        """Store, publish, settle: see the module's text."""
        self._store_and_publish(completions)
        return self._consumer.settle([c.settlement for c in completions])

    def _commit_and_announce(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        """One atomic commit, after which monitors are told what follows."""
        lost = self._consumer.commit(completions)
        follow_ups = [
            p for c in completions for p in c.publications if c.settlement.tag not in lost
        ]
        if follow_ups and self._announce is not None:
            self._announce(follow_ups)
        return lost

    def apply_settled(self, completions: Sequence[Completion]) -> None:
        """Apply completions whose messages were acknowledged before they ran."""
        if self._app is None or not any(map(workflow_of, completions)):
            self._store_and_publish(completions)
            return
        assert self._backend is not None
        completions, done = settle(self._app, self._backend, completions)
        self._store_and_publish(completions)
        if done:
            self._backend.chord_sent(done)

    def _store_and_publish(self, completions: Sequence[Completion]) -> None:
        if self._backend is not None:
            results = [c.result for c in completions if c.result is not None]
            if results:
                self._backend.store(results)
        follow_ups = [p for c in completions for p in c.publications]
        if follow_ups:
            self._transport.publish(follow_ups)
            if self._announce is not None:
                self._announce(follow_ups)

    def persist(
        self, normal: list[Completion], settled: list[Completion], failure: CarawayError
    ) -> int:
        """Apply what could not be applied, trying again for as long as the store can't.

        Args:
            normal: completions with messages to settle.
            settled: completions whose messages are acknowledged already.
            failure: why the first try failed.

        Returns:
            How many were fenced off.
        """
        wait = _FIRST_WAIT
        fenced = 0
        while True:
            if isinstance(failure, OwnerLost):
                # Whatever is left of this owner's is somebody else's by now.
                return fenced + len(normal)
            if not may_pass(failure):
                normal, settled = self._one_by_one(normal, settled)
                if not normal and not settled:
                    return fenced
            _log().warning("commit: %s; trying again in %.2f s", failure, wait)
            if not self._wait(wait):
                _log().error("outcomes are left uncommitted: %s", failure)
                self.gave_up = True
                return fenced
            wait = min(wait * 2, LONGEST_PAUSE)
            try:
                if normal:
                    fenced += len(self.apply_any(normal))
                    normal = []
                if settled:
                    self.apply_settled(settled)
            except CarawayError as exc:
                failure = exc
            else:
                return fenced

    def _one_by_one(
        self, normal: list[Completion], settled: list[Completion]
    ) -> tuple[list[Completion], list[Completion]]:
        """One completion that can't be stored must not hold up the others: each alone,
        and the bad one without what can't be stored.  Returns what is left."""
        left: list[Completion] = []
        for completion in normal:
            try:
                self.apply_any([completion])
            except CarawayError as exc:
                if not may_pass(exc):
                    _log().error("an outcome can't be stored: %s", exc)
                    left.append(self._substitute(completion, exc))
                else:
                    left.append(completion)
        left_settled: list[Completion] = []
        for completion in settled:
            try:
                self.apply_settled([completion])
            except CarawayError as exc:
                if may_pass(exc):
                    left_settled.append(completion)
                else:
                    _log().error("an outcome can't be stored: %s", exc)
        return left, left_settled


def may_pass(exc: CarawayError) -> bool:
    """True if the same batch may pass later: the fault is the store's, not a message's."""
    return isinstance(exc, (TransportUnavailable, StoreFull, StoreReadOnly))


def _log() -> Any:
    import logging

    return logging.getLogger("caraway.worker")
