from __future__ import annotations

from typing import Any

import pytest

from caraway.cli.explain import Facts, explain
from caraway.message import Located, Message, Owner, OwnerStats, QueueStats

NOW = 1_800_000_000.0
MESSAGE = Message(body=b"[[],{},{}]", headers={"task": "shop.add", "id": "T"})


def located(place: str, **more: Any) -> Located:
    return Located(message=MESSAGE, queue="mail", place=place, **more)  # type: ignore[arg-type]


def owner(queue: str = "mail", *tasks: str, held: int = 0) -> OwnerStats:
    one = Owner(id="o1", worker="caraway@h", pid=7, tasks=tasks)
    return OwnerStats(owner=one, queues=(queue,), held=held, expires=NOW + 20)


READY = [located("ready", ahead=3)]

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("unknown", {}, "neither the broker nor the result backend"),
    ("unknown", {"revoked": True}, "if it comes, it won't run"),
    ("unknown", {"disabled": True}, "leaves no trace"),
    ("ended", {"meta": {"status": "SUCCESS", "date_done": "D"}}, "SUCCESS at D"),
    (
        "ended",
        {"meta": {"status": "FAILURE", "result": {"exc_type": "E", "exc_message": ["m"]}}},
        "E: ['m']",
    ),
    ("ended", {"meta": {"status": "FAILURE"}, "letters": ["9"]}, "caraway dead show 9"),
    ("running", {"meta": {"status": "STARTED"}}, "no message of it"),
    ("waiting", {"meta": {"status": "RETRY"}}, "RETRY"),
    (
        "running",
        {
            "located": [located("held", owner="o1", attempt=2)],
            "owners": [owner()],
            "meta": {"status": "STARTED"},
        },
        "running on caraway@h (process 7)",
    ),
    (
        "held",
        {"located": [located("held", owner="o1")], "owners": [owner(held=9)]},
        "holds 9 messages",
    ),
    ("held", {"located": [located("held", owner="gone")]}, "fallen silent"),
    (
        "held",
        {
            "located": [located("held", owner="o1")],
            "owners": [owner()],
            "meta": {"status": "SUCCESS"},
        },
        "caraway@h",
    ),
    ("dead", {"located": [located("dead", reason="why")], "letters": ["9"]}, "replay 9"),
    ("parked", {"located": [located("parked", reason="no such task")]}, "no such task"),
    ("revoked", {"located": READY, "revoked": True, "owners": [owner()]}, "drop it"),
    ("revoked", {"located": [located("delayed", due=NOW + 9)], "revoked": True}, "drop it"),
    ("expired", {"located": [located("ready", expires=NOW - 9)]}, "9s ago"),
    ("delayed", {"located": [located("delayed", due=NOW + 60)]}, "in 1m00s"),
    (
        "delayed",
        {"located": [located("delayed", due=NOW + 60)], "meta": {"status": "RETRY"}},
        "for a retry",
    ),
    ("no-worker", {"located": [located("delayed", due=NOW - 1)]}, "no worker is alive at all"),
    ("no-worker", {"located": READY, "owners": [owner("other")]}, "consume other"),
    ("unknown-task", {"located": READY, "owners": [owner("mail", "shop.sub")]}, "'shop.add'"),
    (
        "rate-limited",
        {
            "located": [located("delayed", due=NOW + 30)],
            "owners": [owner("mail", "shop.add")],
            "rate_limit": "1/m",
        },
        "its turn comes",
    ),
    (
        "rate-limited",
        {"located": READY, "owners": [owner("mail", "shop.add")], "rate_limit": "1/m"},
        "1/m",
    ),
    ("waiting", {"located": READY, "owners": [owner("mail", "shop.add")]}, "3 messages"),
    ("waiting", {"located": READY, "owners": [owner()]}, "free place on caraway@h"),
    (
        "waiting",
        {
            "located": READY,
            "owners": [owner()],
            "stats": {"mail": QueueStats(name="mail", ready=4, held=2)},
        },
        "4 ready, 2 held",
    ),
    ("waiting", {"located": READY, "unseen": ["can't be searched"]}, "can't be searched"),
    ("held", {"located": [*READY, located("held", owner="o1")], "owners": [owner()]}, "2 messages"),
]


@pytest.mark.parametrize(("verdict", "facts", "words"), CASES)
def test_the_most_telling_fact_decides(verdict: str, facts: dict[str, Any], words: str) -> None:
    answer = explain(Facts(task_id="T", now=NOW, **facts))
    assert answer.verdict == verdict
    assert words in " ".join([answer.text, answer.repair, *answer.details])


def test_every_verdict_is_documented_and_has_a_case() -> None:
    from caraway.cli.explain import Explanation

    for verdict in {case[0] for case in CASES}:
        assert f"``{verdict}``" in (Explanation.__doc__ or "")
