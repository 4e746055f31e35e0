"""Running what waits in the queues, here and now: a worker's lane without its loop."""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from caraway import states
from caraway.message import Delivery, Owner, Settlement, new_owner_id

if TYPE_CHECKING:
    from caraway.app import Caraway

LIMIT = 10_000
"""Runs after which `drain` takes it that the tasks call each other for ever."""


class Ran(Struct, frozen=True):
    """One run, or a message that was settled without.

    Attributes:
        task: name.
        task_id: of the task.
        state: ``SUCCESS``, ``FAILURE``, ``RETRY`` ...; ``PARKED`` for a message that
            can't be read or whose task isn't registered; ``REVOKED`` also for one that
            expired; empty for one that was put back (rate limit).
        queue: where it came from.
        attempt: which delivery this was, from 1.
    """

    task: str
    task_id: str
    state: str
    queue: str
    attempt: int


def drain(
    app: Caraway,
    queues: Iterable[str] | None = None,
    *,
    throw: bool = False,
    limit: int = LIMIT,
) -> list[Ran]:
    """Run all that is due, in this thread, until the queues are empty.

    What the tasks send meanwhile runs too, retries and callbacks included, unless it is
    delayed: move the clock and drain again.  The code is the worker's own, except that
    time limits aren't enforced and rate limits only put back.

    Args:
        app: with any broker and backend; for tests see `caraway.testing.isolate`.
        queues: names; None: all that the broker knows and the app declares.
        throw: raise the exception of the first run that failed, at the end.
        limit: runs after which an error says that this doesn't end.

    Returns:
        What ran, in order.

    Raises:
        AssertionError: more than ``limit`` runs.
    """
    app.finalize(auto=True)
    ran: list[Ran] = []
    while True:
        names = _names(app, queues)
        before = len(ran)
        _drain_once(app, names, ran, limit)
        # A task may have sent something to a queue that is new.
        if len(ran) == before:
            break
    if throw:
        throw_first(app, ran)
    return ran


def _names(app: Caraway, queues: Iterable[str] | None) -> list[str]:
    if queues is not None:
        return list(dict.fromkeys([queues] if isinstance(queues, str) else queues))
    known = [stats.name for stats in app.transport.stats()]
    return list(dict.fromkeys([*(queue.name for queue in app.queues()), *known]))


def _drain_once(app: Caraway, names: Sequence[str], ran: list[Ran], limit: int) -> None:
    # The worker's half is imported where it is used: tests that only look don't pay.
    from caraway.worker.board import Board
    from caraway.worker.commit import Committer
    from caraway.worker.intake import Intake
    from caraway.worker.lane import completed
    from caraway.worker.lane_config import LaneConfig

    owner = Owner(id=new_owner_id(), worker=app.node, lease=3600.0)
    config = LaneConfig(
        index=0,
        owner=owner,
        queues=tuple(app.queues(list(names))),
        max_deliveries=app.conf.task_max_deliveries,
    )
    consumer = app.transport.consume(config.queues, owner)
    backend = app.backend if app.backend_enabled else None
    try:
        committer = Committer(app.transport, backend, consumer, app=app)
        intake = Intake(app, Board(1, 1).lane(0), config, consumer, backend)
        with _Loop() as loop:
            # One at a time: a task may revoke, purge, or call others before its turn.
            while deliveries := consumer.fetch(1, 0):
                jobs, completions = intake.admit(deliveries)
                settled = {completion.settlement.tag: completion for completion in completions}
                for delivery in deliveries:
                    if delivery.tag in settled:
                        completion = settled[delivery.tag]
                        result = completion.result
                        state = result.state if result else _state(completion.settlement)
                        ran.append(_record(delivery, state))
                if completions:
                    committer.apply_any(completions)
                for job in jobs:
                    outcome = loop.run(job.arun()) if job.is_async else job.run()
                    completion = outcome or completed(job, time() - monotonic())
                    ran.append(_record(job.delivery, job.state))
                    if job.settled:
                        committer.apply_settled([completion])
                    else:
                        committer.apply_any([completion])
                if len(ran) > limit:
                    raise AssertionError(
                        f"still not empty after {limit} runs, the last of {ran[-1].task!r}: "
                        "do the tasks call each other for ever?"
                    )
    finally:
        consumer.close()


def _state(settlement: Settlement) -> str:
    if settlement.action == "reject":
        return "PARKED" if settlement.parked else states.REJECTED
    return "" if settlement.action == "release" else states.REVOKED


def _record(delivery: Delivery, state: str) -> Ran:
    headers = delivery.message.headers
    return Ran(
        task=str(headers.get("task", "")),
        task_id=str(headers.get("id", "")),
        state=state,
        queue=delivery.queue,
        attempt=delivery.attempt,
    )


def throw_first(app: Caraway, ran: Iterable[Ran]) -> None:
    """Raise the exception of the first run that failed, if one did."""
    for run in ran:
        if run.state == states.FAILURE:
            result = app.AsyncResult(run.task_id)
            error = result.result
            if isinstance(error, BaseException):
                error.add_note(f"in task {run.task}[{run.task_id}]:\n{result.traceback or ''}")
                raise error


class _Loop:
    """An event loop for async tasks, made when the first one comes.

    It runs in a thread, so that a test which is itself a coroutine can drain too.
    """

    def __init__(self) -> None:
        self._loop: Any = None
        self._thread: Any = None

    def __enter__(self) -> Self:
        return self

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        import asyncio
        import threading

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="drain")
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def __exit__(self, *_: object) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
