"""Verdicts over deliveries."""

from __future__ import annotations

from typing import Any

import pytest

from caraway.message import Delivery, Message
from caraway.worker.admission import judge

NOW = 1000.0


def delivery(**fields: Any) -> Delivery:
    headers = fields.pop("headers", {"task": "add", "id": "1"})
    return Delivery(Message(b"", headers), 1, "celery", **fields)


@pytest.mark.parametrize(
    ("fields", "known", "kind"),
    [
        ({}, True, "run"),
        ({}, False, "park"),
        ({"defect": "headers are no JSON"}, True, "park"),
        ({"headers": {}}, False, "park"),
        ({"expires": NOW - 1}, True, "expired"),
        ({"expires": NOW}, True, "expired"),
        ({"expires": NOW + 1}, True, "run"),
        ({"revoked": True}, True, "revoked"),
        ({"attempt": 2}, True, "check"),
        ({"attempt": 3}, True, "check"),
        ({"attempt": 4}, True, "exhausted"),
        ({"attempt": 4, "revoked": True}, True, "revoked"),
        ({"attempt": 4, "expires": NOW - 1}, True, "expired"),
    ],
)
def test_verdict(fields: dict[str, Any], known: bool, kind: str) -> None:
    assert judge(delivery(**fields), known, 3, NOW).kind == kind


def test_no_limit_of_deliveries_never_exhausts() -> None:
    assert judge(delivery(attempt=10_000), True, 0, NOW).kind == "check"


def test_a_parked_message_says_which_task_is_unknown() -> None:
    assert "'add'" in judge(delivery(), False, 3, NOW).reason


def test_a_hostile_task_name_is_cut() -> None:
    verdict = judge(delivery(headers={"task": "x" * 100_000}), False, 3, NOW)
    assert len(verdict.reason) < 400
