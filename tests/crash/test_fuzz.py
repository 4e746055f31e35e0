"""Tens of thousands of hostile messages into a running worker."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from caraway.message import Message, Publication

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.timeout(420),
    # AMQP has no way to write most of these headers: they can't come from there.
    pytest.mark.brokers("sqlite", "redis"),
]

MESSAGES = int(os.environ.get("CARAWAY_FUZZ_MESSAGES", "50000"))


def hostile(chance: random.Random, n: int) -> Message:
    """One message that is wrong in one of many ways."""
    good = b"[[1],{},{}]"
    deep = b"[" * 5000 + b"]" * 5000
    body = chance.choice(
        [
            chance.randbytes(chance.randrange(0, 200)),
            b"", b"null", b"{}", b"[]", b"[1,2,3]", b'[[],{},"embed"]', b'[{},[],{}]',
            deep, b'[[' + deep + b'],{},{}]', b'{"args": 5}', b"\xff\xfe", b'[["\\ud800"],{},{}]',
            b'[[1],{"a":1,"a":2},{"callbacks":[7]}]', b"[[NaN],{},{}]",
            b'[[{"__type__":"datetime","__value__":"no date"}],{},{}]',
            b'[[{"__type__":"base64","__value__":7}],{},{}]',
            b'[[1],{},{"chain":"x"}]', b'[[1],{},{"errbacks":[{"task":1}]}]',
            b"[[" + b"9" * 5000 + b"],{},{}]", good,
        ]
    )  # fmt: skip
    name = chance.choice(
        ["crash_app.work"] * 3 + ["no.such.task", "", None, 7, [], "x" * 9000, "\0"]
    )
    task_id = chance.choice([f"id-{n}", f"id-{n}", None, 7, {}])
    headers: dict[str, Any] = {"task": name, "id": task_id}
    for key, values in {
        "retries": [0, -1, "many", 10**30, None],
        "timelimit": [None, [1], [None, None], ["a", "b"], 5, [-1, -1]],
        "eta": [None, "yesterday", 5, []],
        "expires": [None, "never", -1],
        "compression": [None, "application/x-gzip", "no/such", 5],
        "group": [None, 5, []],
        "ignore_result": [None, "maybe"],
        "root_id": [None, 5],
    }.items():
        if chance.random() < 0.3:
            headers[key] = chance.choice(values)
    if chance.random() < 0.05:
        headers = {}
    kind = chance.choice(["application/json"] * 6 + ["application/x-python-serialize", "", "\0"])
    return Message(body, headers, kind, chance.choice(["utf-8", "binary", "utf-7", ""]))


def test_no_lane_dies_and_nothing_is_acked_away(crash: Any, wait_until: Callable[..., Any]) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    app = crash.client()
    worker = crash.worker(2)
    lanes = crash.wait_for_lanes(worker, 2)
    for start in range(0, MESSAGES, 1000):
        batch = [Publication(hostile(chance, start + n), "celery") for n in range(1000)]
        app.transport.publish(batch[: MESSAGES - start], timeout=30)

    def settled() -> bool:
        stats = app.transport.stats(["celery"])[0]
        return (stats.ready, stats.delayed, stats.held) == (0, 0, 0)

    wait_until(settled, timeout=300, every=0.5)
    good = app.send_task("crash_app.work", ["good"])
    assert good.get(timeout=20) == "good"
    assert sorted(crash.lanes(worker)) == sorted(lanes), "a lane died"
    # Each message is either parked or dead, or its task ended in some state.
    letters, after = 0, ""
    while page := app.transport.dead(limit=5000, after=after):
        letters += len(page)
        after = page[-1].id
    known = 0
    ids = [f"id-{n}" for n in range(MESSAGES)]
    for start in range(0, MESSAGES, 5000):
        known += len(app.backend.get(ids[start : start + 5000]))
    ignored = MESSAGES - letters - known
    # What asked for its result not to be kept leaves none, and nothing else may be missing.
    assert 0 <= ignored <= crash.starts().total(), (letters, known)
