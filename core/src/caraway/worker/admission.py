"""Which of the fetched messages run: verdicts as pure functions over values.

No clock, no store: the caller passes the time and acts on the verdict.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal

from msgspec import Struct

from caraway.message import Delivery

Kind = Literal[
    "run",
    "park",
    "expired",
    "revoked",
    "exhausted",
    "timed out",
    "terminated",
    "later",
    "check",
]


class Verdict(Struct, frozen=True):
    """What is to be done with a delivery.

    Attributes:
        kind: ``run``; ``park`` (unreadable, unknown task); ``expired``; ``revoked``;
            ``exhausted`` (delivered too often); ``timed out`` (a run of it was ended
            at the limit ``delay``); ``terminated`` (likewise, by the signal ``delay``);
            ``later`` (release for ``delay`` seconds);
            ``check`` (delivered before: see whether it ended meanwhile).
        reason: for the dead letter or the log.
        delay: seconds, for ``later`` and ``timed out``; a signal's number for ``terminated``.
    """

    kind: Kind
    reason: str = ""
    delay: float = 0.0


RUN = Verdict("run")
CHECK = Verdict("check")
EXPIRED = Verdict("expired")
REVOKED = Verdict("revoked")


def judge(delivery: Delivery, known: bool, max_deliveries: int, now: float) -> Verdict:  # noqa: FBT001
    """Judge one delivery, before anything of its body is read.

    Args:
        delivery: as fetched.
        known: its task is registered here.
        max_deliveries: how often a message may be delivered; 0 is without end.
        now: epoch seconds.
    """
    if delivery.defect:
        return Verdict("park", f"undecodable: {delivery.defect}")
    if not known:
        return Verdict("park", unknown_reason(delivery.message.headers))
    if delivery.expires and delivery.expires <= now:
        return EXPIRED
    if delivery.revoked:
        return REVOKED
    if delivery.attempt > 1:
        if max_deliveries and delivery.attempt > max_deliveries:
            return Verdict(
                "exhausted",
                f"delivered {delivery.attempt - 1} times and never finished: "
                "each time the process that ran it was lost",
            )
        return CHECK
    return RUN


def stamped(headers: Mapping[str, Any], stamps: Mapping[str, Container[str]]) -> bool:
    """True if a message carries one of these stamps.

    Args:
        headers: of the message.
        stamps: name of a stamp -> values, as text.
    """
    carried = headers.get("stamps")
    if not isinstance(carried, dict):
        return False
    for name, wanted in stamps.items():
        values = carried.get(name)
        if values is None:
            continue
        if any(str(each) in wanted for each in _listed(values)):
            return True
    return False


def _listed(values: Any) -> Sequence[Any]:
    return values if isinstance(values, (list, tuple)) else (values,)


def unknown_reason(headers: dict[str, Any]) -> str:
    """Why a message that names no registered task is parked."""
    name = headers.get("task")
    if not isinstance(name, str) or not name:
        return "not a task message: no header 'task'"
    return f"unknown task: {name[:200]!r} is not registered in this worker"
