"""Due messages: straight to the owner where order allows, by way of the ready where not."""

from __future__ import annotations

from typing import Any

from caraway.message import Settlement


def count(bench: Any, table: str) -> int:
    return int(bench.sql(f"SELECT count(*) FROM {table}")[0][0])


def test_what_is_due_is_taken_in_the_order_of_being_due(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    for name, after in (("c", 3), ("a", 1), ("b", 2), ("later", 100)):
        bench.publish(transport, name, due=bench.now + after)
    consumer = bench.consumer(transport)
    assert consumer.fetch(10, 0) == []
    bench.now += 5
    taken = consumer.fetch(10, 0)
    assert ids(taken) == ["a", "b", "c"]
    assert [d.attempt for d in taken] == [1, 1, 1]
    assert (count(bench, "delayed"), count(bench, "ready"), count(bench, "held")) == (1, 0, 3)
    assert consumer.settle([Settlement(d.tag) for d in taken]) == []
    assert count(bench, "message") == 1


def test_only_as_many_as_asked_for_are_taken(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, *map(str, range(10)), due=bench.now + 1)
    consumer = bench.consumer(transport)
    bench.now += 2
    assert ids(consumer.fetch(4, 0)) == ["0", "1", "2", "3"]
    assert ids(consumer.fetch(10, 0)) == ["4", "5", "6", "7", "8", "9"]


def test_a_higher_priority_that_is_due_goes_first(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "low", due=bench.now + 1, priority=0)
    bench.publish(transport, "high", due=bench.now + 2, priority=9)
    bench.now += 5
    assert ids(bench.consumer(transport).fetch(10, 0)) == ["high", "low"]


def test_what_is_ready_goes_before_what_became_due(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "ready")
    bench.publish(transport, "due", due=bench.now + 1)
    bench.now += 5
    consumer = bench.consumer(transport)
    assert ids(consumer.fetch(1, 0)) == ["ready"]
    assert ids(consumer.fetch(1, 0)) == ["due"]


def test_what_is_due_on_a_queue_of_others_is_left_to_them(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "theirs", due=bench.now + 1, queue="other")
    bench.publish(transport, "ours", due=bench.now + 2)
    bench.now += 5
    assert ids(bench.consumer(transport).fetch(10, 0)) == ["ours"]
    assert ids(bench.consumer(transport, "other").fetch(10, 0)) == ["theirs"]


def test_a_released_delivery_that_was_delayed_keeps_its_attempts(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "again", due=bench.now + 1)
    consumer = bench.consumer(transport)
    bench.now += 2
    (first,) = consumer.fetch(1, 0)
    consumer.settle([Settlement(first.tag, "release", delay=5.0)])
    bench.now += 10
    (second,) = consumer.fetch(1, 0)
    assert second.attempt == 2


def test_a_lost_owner_takes_nothing_that_is_due(bench: Any, ids: Any) -> None:
    import pytest

    from caraway.errors import OwnerLost

    transport = bench.transport()
    bench.publish(transport, "due", due=bench.now + 1)
    lost = bench.consumer(transport)
    transport.reclaim(lost.owner.id)
    bench.now += 5
    with pytest.raises(OwnerLost):
        lost.fetch(1, 0)
    assert ids(bench.consumer(transport).fetch(1, 0)) == ["due"]
