from __future__ import annotations

from typing import Any

import pytest

from caraway.builtin.sqlite import queues
from caraway.errors import PublishError, TransportError, TransportUnavailable
from caraway.message import Completion, Message, Publication, Queue, Settlement, StoredResult


def tags(deliveries: Any) -> list[Any]:
    return [delivery.tag for delivery in deliveries]


def test_what_was_settled_in_patches_leaves_exactly_the_others(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, *map(str, range(40)))
    mine, other = bench.consumer(transport), bench.consumer(transport)
    first, theirs, rest = mine.fetch(10, 0), other.fetch(10, 0), mine.fetch(20, 0)
    done = [d for d in [*first, *rest] if int(ids([d])[0]) % 3 == 0]
    assert mine.settle([Settlement(d.tag) for d in done]) == []
    left = {row[0] for row in bench.sql("SELECT id FROM message")}
    assert left == {d.tag for d in [*first, *theirs, *rest]} - {d.tag for d in done}
    held = {row[0] for row in bench.sql("SELECT id FROM held")}
    assert held == left
    assert other.settle([Settlement(tag) for tag in tags(theirs)]) == []


def test_of_the_last_messages_each_owner_takes_a_share(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    mine, other = bench.consumer(transport), bench.consumer(transport)
    bench.publish(transport, *map(str, range(20)))
    assert ids(mine.fetch(8, 0)) == [str(n) for n in range(8)]  # there is more than that
    assert ids(other.fetch(100, 0)) == [str(n) for n in range(8, 14)]
    assert ids(mine.fetch(100, 0)) == ["14", "15", "16"]
    other.close()
    assert ids(mine.fetch(100, 0)) == [str(n) for n in (8, 9, 10, 11, 12, 13, 17, 18, 19)]


def test_nothing_is_left_behind_when_all_is_done(bench: Any) -> None:
    transport = bench.transport()
    for priority in (0, 9, 4):
        bench.publish(transport, *map(str, range(30)), priority=priority)
    consumer = bench.consumer(transport)
    while taken := consumer.fetch(7, 0):
        results = [StoredResult(f"{d.tag}", "SUCCESS", b"") for d in taken]
        completions = [
            Completion(Settlement(d.tag), result) for d, result in zip(taken, results, strict=True)
        ]
        assert consumer.commit(completions[::-1]) == []
    for table in ("message", "ready", "held", "delayed"):
        assert bench.sql(f"SELECT count(*) FROM {table}") == [(0,)]
    assert bench.sql("SELECT count(*) FROM result") == [(90,)]


def test_ids_grow_though_the_clock_goes_back(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "first")
    bench.now -= 3600
    bench.publish(transport, "second")
    taken = bench.consumer(transport).fetch(5, 0)
    assert ids(taken) == ["first", "second"]


def test_a_tag_is_not_used_twice_though_the_store_was_empty_between(bench: Any) -> None:
    transport = bench.transport()
    consumer = bench.consumer(transport)
    seen = set()
    for number in range(20):
        bench.publish(transport, str(number))
        (delivery,) = consumer.fetch(1, 0)
        consumer.settle([Settlement(delivery.tag)])
        seen.add(delivery.tag)
    assert len(seen) == 20


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("head", b"\xff\xfe not json"),
        ("head", b'{"a": 1}'),
        ("head", b"[]"),
        ("head", 5),
        ("body", "text"),
        ("body", 5),
    ],
)
def test_a_row_that_cannot_be_read_is_delivered_with_its_defect(
    bench: Any, column: str, value: Any
) -> None:
    transport = bench.transport()
    bench.publish(transport, "broken", "whole")
    bench.sql(f"UPDATE message SET {column}=? WHERE id=(SELECT min(id) FROM message)", value)
    broken, whole = bench.consumer(transport).fetch(2, 0)
    assert broken.defect
    assert type(broken.message.body) is bytes
    assert not whole.defect


def test_a_message_whose_row_is_missing_is_delivered_as_defective_and_can_be_settled(
    bench: Any,
) -> None:
    transport = bench.transport()
    bench.publish(transport, "lost")
    bench.sql("DELETE FROM message")
    consumer = bench.consumer(transport)
    (delivery,) = consumer.fetch(1, 0)
    assert "missing" in delivery.defect
    assert consumer.settle([Settlement(delivery.tag)]) == []
    assert bench.sql("SELECT count(*) FROM held") == [(0,)]


def test_what_cannot_be_written_is_named_and_the_others_are_in(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    batch = [
        Publication(bench.message("a"), "q"),
        Publication(Message(b"", {"id": object()}), "q"),
        Publication(Message("text", {}), "q"),  # type: ignore[arg-type]
        Publication(bench.message("\ud800"), "q"),
        Publication(bench.message("half a character"), "\ud800"),
        Publication(bench.message("b"), "q"),
    ]
    with pytest.raises(PublishError) as caught:
        transport.publish(batch)
    assert caught.value.failed == (1, 2, 3, 4)
    assert ids(bench.consumer(transport).fetch(9, 0)) == ["a", "b"]


def test_a_follow_up_that_cannot_be_written_undoes_the_commit(bench: Any) -> None:
    transport, backend = bench.transport(), bench.backend()
    bench.publish(transport, "one")
    consumer = bench.consumer(transport)
    (one,) = consumer.fetch(1, 0)
    bad = Publication(Message(b"", {"id": object()}), "q")
    with pytest.raises(PublishError):
        consumer.commit(
            [Completion(Settlement(one.tag), StoredResult("one", "SUCCESS", b""), (bad,))]
        )
    assert backend.get(["one"]) == {}
    assert consumer.settle([Settlement(one.tag)]) == []


def test_a_fenced_completion_leaves_the_follow_ups_of_the_others(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "one", "two")
    consumer = bench.consumer(transport)
    one, two = consumer.fetch(2, 0)
    consumer.settle([Settlement(one.tag)])
    completions = [
        Completion(Settlement(d.tag), None, (Publication(bench.message(f"after {d.tag}"), "next"),))
        for d in (one, two)
    ]
    assert consumer.commit(completions) == [one.tag]
    assert ids(bench.consumer(transport, "next").fetch(9, 0)) == [f"after {two.tag}"]


def test_leases_of_before_a_reboot_have_ended(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "x")
    bench.ticks = 1_000_000.0
    before = bench.consumer(transport, lease=30.0)
    (held,) = before.fetch(1, 0)
    bench.ticks = 12.0  # the monotonic clock starts afresh at boot
    (delivery,) = bench.consumer(transport).fetch(1, 0)
    assert delivery.attempt == 2
    assert before.settle([Settlement(held.tag)]) == [held.tag]
    assert transport.renew([before.owner.id]) == [before.owner.id]


def test_a_jump_of_the_wall_clock_ends_no_lease(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "x")
    first = bench.consumer(transport)
    (delivery,) = first.fetch(1, 0)
    bench.now += 86_400 * 365
    assert list(bench.consumer(transport).fetch(1, 0)) == []
    assert first.settle([Settlement(delivery.tag)]) == []


def test_queues_share_a_fetch_evenly(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, *(f"a{n}" for n in range(100)), queue="a")
    bench.publish(transport, "b0", "b1", queue="b")
    bench.publish(transport, *(f"c{n}" for n in range(100)), queue="c")
    consumer = bench.consumer(transport, "a", "b", "c")
    names = ids(consumer.fetch(30, 0))
    assert len(names) == 30
    assert {"b0", "b1"} <= set(names)
    assert sum(name[0] == "a" for name in names) == sum(name[0] == "c" for name in names) == 14
    bench.publish(transport, "b2", "b3", queue="b")
    served = [name[0] for _ in range(3) for name in ids(consumer.fetch(1, 0))]
    assert sorted(served) == ["a", "b", "c"]


def test_a_crowd_that_is_due_at_once_comes_in_steps_and_in_order(bench: Any, ids: Any) -> None:
    transport = bench.transport()
    names = [f"{n:04}" for n in range(2500)]
    transport.publish([Publication(bench.message(n), "q", due=bench.now + 60) for n in names])
    consumer = bench.consumer(transport)
    assert list(consumer.fetch(10, 0)) == []
    bench.now += 60
    assert ids(consumer.fetch(10, 0)) == names[:10]
    assert bench.sql("SELECT count(*) FROM held") == [(10,)]
    assert transport.stats(["q"])[0].ready == 2490  # due is ready, moved or not
    rest = []
    while taken := consumer.fetch(500, 0):
        rest += ids(taken)
    assert rest == names[10:]


def test_a_deleted_queue_is_not_listed_until_it_is_used_again(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "x", "y")
    consumer = bench.consumer(transport)
    consumer.fetch(1, 0)
    assert transport.delete("q") == 2
    assert transport.stats() == []
    bench.publish(transport, "z")
    assert [stats.name for stats in transport.stats()] == ["q"]
    transport.purge("q")
    transport.declare([Queue(name="q")])
    assert [stats.name for stats in transport.stats()] == ["q"]


def test_the_age_of_the_oldest_is_since_publishing_or_since_due(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "later", due=bench.now + 100, queue="late")
    bench.publish(transport, "now")
    bench.now += 130
    late, now = transport.stats(["late", "q"])
    assert late.oldest == pytest.approx(30, abs=0.01)
    assert now.oldest == pytest.approx(130, abs=0.01)


def test_an_owner_id_is_not_taken_twice(bench: Any) -> None:
    transport = bench.transport()
    consumer = bench.consumer(transport)
    with pytest.raises(TransportError, match="consuming already"):
        transport.consume([Queue(name="q")], consumer.owner)


def test_a_closed_consumer_says_so(bench: Any) -> None:
    consumer = bench.consumer(bench.transport())
    consumer.close()
    consumer.close()
    with pytest.raises(TransportError, match="closed"):
        consumer.fetch(1, 0)


def test_an_heir_can_reject_what_comes_from_a_queue_it_does_not_consume(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "x", queue="theirs")
    dead = bench.consumer(transport, "theirs")
    (held,) = dead.fetch(1, 0)
    heir = bench.consumer(transport, "ours")
    (adopted,) = transport.adopt(dead.owner.id, [held.tag], heir.owner.id)
    assert heir.settle([Settlement(adopted.tag, "reject", reason="no")]) == []
    (letter,) = transport.dead()
    assert (letter.queue, letter.reason) == ("theirs", "no")


def test_ids_learned_from_a_file_that_is_no_more_are_not_used(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "x")
    rows = [("q", 9, 0.0, 0.0, b"", b"")]
    transport.file.queue_ids = {}
    with transport.file.write() as connection, pytest.raises(TransportUnavailable):
        queues.insert(transport.file, connection, rows, bench.now)
    bench.publish(transport, "y")
    assert transport.stats(["q"])[0].ready == 2
