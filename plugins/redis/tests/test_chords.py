"""Ends of chords' members are counted in Celery's own keys, once each."""

from __future__ import annotations

import json
from typing import Any

import pytest
from redis import Redis

from caraway.message import ChordPart, ChordStart

GROUP = "celery-taskset-meta-g"


def part(task_id: str, index: int = 0, size: int = 2) -> ChordPart:
    payload = json.dumps([1, task_id, "SUCCESS", index]).encode()
    return ChordPart("g", task_id, index, "SUCCESS", payload, size, 60.0)


def values(payloads: Any) -> list[int]:
    return [json.loads(each)[3] for each in payloads]


@pytest.fixture
def backend(url: str, opened: Any) -> Any:
    return opened.backend(url)


def test_the_last_of_the_members_gets_all_in_order(backend: Any) -> None:
    assert backend.chord_parts([part("b", 1)]) == [None]
    (payloads,) = backend.chord_parts([part("a", 0)])
    assert values(payloads) == [0, 1]


def test_a_member_counts_once_however_often_it_reports(backend: Any) -> None:
    assert backend.chord_parts([part("a"), part("a"), part("a")]) == [None, None, None]


def test_who_completed_it_may_ask_again_and_nobody_else(backend: Any) -> None:
    backend.chord_parts([part("a", 0)])
    (first,) = backend.chord_parts([part("b", 1)])
    assert backend.chord_parts([part("a", 0)]) == [None]
    assert backend.chord_parts([part("b", 1)]) == [first]


def test_a_claim_that_nobody_used_for_its_minute_passes_to_who_reports_next_and_to_one_only(
    backend: Any, client: Redis
) -> None:
    # B completes the chord and stands still, and so does A, which was counted, before its
    # message was acknowledged.
    (_, of_b) = backend.chord_parts([part("a", 0), part("b", 1)])
    assert 50 < client.ttl(f"{GROUP}.c") <= 60
    client.pexpire(f"{GROUP}.c", 1)
    while client.exists(f"{GROUP}.c"):
        pass
    # A runs again: it may send the body, with the same results.
    assert backend.chord_parts([part("a", 0)]) == [of_b]
    # B's next try is refused, before and after A has sent it: one body, whoever asks.
    assert backend.chord_parts([part("b", 1)]) == [None]
    assert backend.chord_parts([part("a", 0)]) == [of_b]
    backend.chord_sent(["g"])
    assert backend.chord_parts([part("b", 1), part("a", 0)]) == [None, None]


def test_a_claim_that_ended_is_had_again_by_the_one_that_had_it(
    backend: Any, client: Redis
) -> None:
    (_, first) = backend.chord_parts([part("a", 0), part("b", 1)])
    client.delete(f"{GROUP}.c")
    assert backend.chord_parts([part("b", 1)]) == [first]
    assert backend.chord_parts([part("a", 0)]) == [None]


def test_after_the_body_was_sent_nobody_is_answered_and_little_is_left(
    backend: Any, client: Redis
) -> None:
    backend.chord_parts([part("a", 0), part("b", 1)])
    backend.chord_sent(["g"])
    assert backend.chord_parts([part("a", 0), part("b", 1)]) == [None, None]
    assert [key.decode() for key in client.keys(f"{GROUP}*")] == [f"{GROUP}.c"]
    assert client.ttl(f"{GROUP}.c") > 0


def test_a_size_that_was_kept_goes_before_what_the_member_says(backend: Any, client: Redis) -> None:
    backend.chord_start([ChordStart("g", 2, 60.0)])
    assert client.get(f"{GROUP}.s") == b"2"
    assert client.ttl(f"{GROUP}.s") > 0
    assert backend.chord_parts([part("a", 0, size=0)]) == [None]
    (payloads,) = backend.chord_parts([part("b", 1, size=0)])
    assert values(payloads) == [0, 1]


def test_members_that_were_added_later_count_too(backend: Any, client: Redis) -> None:
    client.set(f"{GROUP}.t", 1, ex=60)
    assert backend.chord_parts([part("a", 0), part("b", 1)]) == [None, None]
    (payloads,) = backend.chord_parts([part("c", 2)])
    assert values(payloads) == [0, 1, 2]


def test_a_chord_that_a_worker_of_celery_s_completes_is_left_to_it(
    backend: Any, client: Redis
) -> None:
    client.set(f"{GROUP}.c", "its-token", ex=60)
    assert backend.chord_parts([part("a", 0), part("b", 1)]) == [None, None]
    client.set(f"{GROUP}.c", "done", ex=60)
    assert backend.chord_parts([part("c", 2)]) == [None]


def test_without_an_order_they_come_as_they_ended(url: str, opened: Any) -> None:
    backend = opened.backend(url, result_chord_ordered=False)
    backend.chord_parts([part("b", 1)])
    (payloads,) = backend.chord_parts([part("a", 0)])
    assert values(payloads) == [1, 0]
