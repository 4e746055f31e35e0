"""What is done for some tasks before they run: STARTED is stored, messages are acknowledged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caraway import states
from caraway.errors import CarawayError
from caraway.message import Settlement, StoredResult
from caraway.worker.board import mark_of

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend, Consumer
    from caraway.message import Owner
    from caraway.worker.job import TaskJob


def store_started(app: Caraway, backend: Backend, owner: Owner, jobs: Sequence[TaskJob]) -> None:
    """Say that these begin; an error is logged, no more."""
    from caraway.protocol.result import encode_meta

    serializer = app.registry.serializer(app.conf.result_serializer)
    meta = {"pid": owner.pid, "hostname": owner.worker}
    records = []
    for job in jobs:
        task_id = job.delivery.message.headers["id"]
        payload = encode_meta(serializer, task_id, states.STARTED, meta)
        reply_to = str(job.delivery.message.properties.get("reply_to") or "")
        records.append(StoredResult(task_id, states.STARTED, payload, job.plan.ttl, reply_to))
    try:
        backend.store(records)
    except CarawayError as exc:
        # STARTED is for people who watch; a task runs without it all the same.
        import logging

        logging.getLogger("caraway.worker").warning("STARTED not stored: %s", exc)


def acknowledged(consumer: Consumer, jobs: list[TaskJob]) -> list[TaskJob]:
    """Acknowledge those that want it before they run; return what is still to run."""
    early = [job for job in jobs if not job.plan.acks_late]
    if not early:
        return jobs
    lost = set(consumer.settle([Settlement(job.delivery.tag) for job in early]))
    for job in early:
        job.settled = True
        job.mark = mark_of(job.delivery.tag, job.delivery.message.headers["id"], early=True)
    return [job for job in jobs if not (job.settled and job.delivery.tag in lost)]
