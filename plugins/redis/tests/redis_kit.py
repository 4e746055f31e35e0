"""What the tests of faults share."""

from __future__ import annotations

from typing import Any

import msgspec

from caraway.message import Completion, Settlement, StoredResult


def result(task_id: str, ttl: float = 60.0) -> StoredResult:
    payload = msgspec.json.encode({"status": "SUCCESS", "result": task_id})
    return StoredResult(task_id, "SUCCESS", payload, ttl)


def done(deliveries: Any) -> list[Completion]:
    return [
        Completion(Settlement(each.tag), result(each.message.headers["id"])) for each in deliveries
    ]


def fetched(consumer: Any, count: int) -> list[Any]:
    taken: list[Any] = []
    while len(taken) < count:
        taken += consumer.fetch(count, 5.0)
    return taken
