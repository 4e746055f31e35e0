"""What waits in a lane for its commit: pairs of a run and its completion.

The run is None for a completion that nothing ran for: a message judged, or given back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from caraway.errors import BackendStoreError, CarawayError, Terminated
from caraway.message import Completion, Delivery, Publication, Settlement, Tag
from caraway.worker.job import TaskJob

if TYPE_CHECKING:
    from caraway.worker.lane import Lane

Entry = tuple[TaskJob | None, Completion | None]
"""Without a completion: a plain success, see `caraway.worker.lane.completed`."""
Settled = tuple[TaskJob | None, Completion]

RETURNED: Final = "RETURNED"
"""State of a job that was acknowledged, and is sent again without having begun."""


def released(tags: Iterable[Tag]) -> list[Entry]:
    """Entries that give messages back as if they had never been delivered."""
    return [(None, Completion(Settlement(tag, "release", counted=False))) for tag in tags]


def sent_again(jobs: Iterable[TaskJob]) -> list[Entry]:
    """Entries that give back what was acknowledged before it ran, and has not begun."""
    entries: list[Entry] = []
    for job in jobs:
        job.state = RETURNED
        delivery = job.delivery
        publication = Publication(
            delivery.message, delivery.queue, priority=delivery.priority, expires=delivery.expires
        )
        entries.append((job, Completion(Settlement(delivery.tag), None, (publication,))))
    return entries


def interrupted(job: TaskJob, result: Any) -> Completion:
    """An interrupt (soft limit, termination) that landed after the task's own code, in
    ours: the job reported an exception instead of a completion."""
    exc = result if isinstance(result, BaseException) else RuntimeError(f"no outcome: {result!r}")
    job.seconds = job.seconds or 1e-9
    job.state = "FAILURE"
    try:
        if isinstance(exc, Terminated) and job.signum:
            job.state = "REVOKED"
            return job.plan.revoke(job.delivery, "terminated", job.signum)
        return job.plan.fail(job.delivery, exc)
    except BaseException as again:  # noqa: BLE001 - a task must not end its lane
        reason = f"its outcome can't be told: {type(exc).__name__}, then {type(again).__name__}"
        return Completion(Settlement(job.delivery.tag, "reject", reason=reason))


def unstorable(job: TaskJob | None, completion: Completion, exc: CarawayError) -> Completion:
    """For a completion that can't be stored: one that says so."""
    what = exc.args[0] if exc.args else exc
    error = BackendStoreError(f"the outcome can't be stored: {what}")
    if job is not None and completion.result is not None:
        return job.plan.fail(job.delivery, error)
    return Completion(Settlement(completion.settlement.tag, "reject", reason=str(error)[:500]))


def without_second_thoughts(batch: list[Settled]) -> list[Settled]:
    """A run that ended while it was given back has two entries: the outcome stands."""
    ended = {completion.settlement.tag for job, completion in batch if job is not None}
    return [
        (job, completion)
        for job, completion in batch
        if job is not None or completion.settlement.tag not in ended
    ]


def parted(batch: list[Settled]) -> tuple[list[Settled], list[Settled]]:
    """Those with messages to settle, and those whose messages are acknowledged already."""
    late = [entry for entry in batch if entry[0] is None or not entry[0].settled]
    return late, [entry for entry in batch if entry[0] is not None and entry[0].settled]


def admitted_alone(
    lane: Lane, deliveries: Sequence[Delivery], failure: Exception
) -> tuple[list[TaskJob], list[Completion]]:
    """`Intake.admit` each by itself, after it failed for all: what can't be judged is
    parked.

    Raises:
        CarawayError: the failure, if it is one: it says nothing of the messages, which
            are given back.
    """
    if isinstance(failure, CarawayError):
        # Fetched and not admitted: held by nobody, unless it is given back.
        lane.done.extend(released(d.tag for d in deliveries))
        raise failure
    lane.log().error("a batch can't be judged; its messages are taken one by one", exc_info=failure)
    intake = lane.intake
    jobs: list[TaskJob] = []
    judged: list[Completion] = []
    for delivery in deliveries:
        try:
            admitted, settled = intake.admit([delivery])
        except CarawayError:
            judged.append(Completion(Settlement(delivery.tag, "release", counted=False)))
        except Exception as exc:  # noqa: BLE001 - whatever hostile bytes may cause
            reason = f"can't be judged: {type(exc).__name__}: {exc}"[:500]
            settlement = Settlement(delivery.tag, "reject", reason=reason, parked=True)
            judged.append(Completion(settlement))
        else:
            jobs += admitted
            judged += settled
    return jobs, judged
