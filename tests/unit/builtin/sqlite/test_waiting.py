"""Who is rung, and that nobody depends on it."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from caraway.builtin.sqlite.doorbell import Doorbell, ring
from caraway.message import StoredResult


def waiting(bench: Any) -> int:
    return int(bench.sql("SELECT count(*) FROM waiter")[0][0])


def test_a_bell_rung_before_the_wait_is_heard() -> None:
    bell = Doorbell()
    ring([bell.port])
    assert bell.wait(5) is False
    bell.wake()
    bell.drain()
    assert bell.wait(5) is True
    bell.close()
    bell.close()


def test_ringing_a_port_that_nobody_has_is_no_error() -> None:
    bell = Doorbell()
    port = bell.port
    bell.close()
    ring([port, port])


def test_who_finds_nothing_waits_and_is_taken_off_by_the_publisher(bench: Any) -> None:
    transport = bench.transport()
    consumers = [bench.consumer(transport) for _ in range(3)]
    for consumer in consumers:
        assert list(consumer.fetch(1, 0.001)) == []
    assert waiting(bench) == 3
    bench.publish(transport, "a", "b")
    assert waiting(bench) == 1
    bench.publish(transport, "elsewhere", queue="other")
    assert waiting(bench) == 1


def test_who_takes_something_waits_no_more(bench: Any) -> None:
    transport = bench.transport()
    one, two = bench.consumer(transport), bench.consumer(transport)
    assert list(two.fetch(1, 0.001)) == []
    assert list(one.fetch(1, 0.001)) == []
    bench.publish(transport, "a")
    assert len(two.fetch(1, 0.001)) + len(one.fetch(1, 0.001)) == 1
    bench.publish(transport, "b")
    taker = one if waiting(bench) else two
    assert len(taker.fetch(1, 0.001)) == 1


def test_the_dead_wait_no_more(bench: Any) -> None:
    transport = bench.transport()
    consumer = bench.consumer(transport)
    assert list(consumer.fetch(1, 0.001)) == []
    transport.reclaim(consumer.owner.id)
    assert waiting(bench) == 0


def test_a_lost_ring_costs_only_time(bench: Any) -> None:
    transport = bench.transport(poll_interval=0.02)
    consumer = bench.consumer(transport)
    assert list(consumer.fetch(1, 0.001)) == []
    fetched: list[Any] = []
    thread = threading.Thread(target=lambda: fetched.extend(consumer.fetch(1, 20)))
    thread.start()
    # As if by a publisher killed after its commit: nobody is rung.
    bench.sql(
        "INSERT INTO message(id, head, body) VALUES(5, ?, ?)", b'[{"id":"x"},{},"j","u"]', b"[]"
    )
    bench.sql("INSERT INTO ready SELECT id, 9, 5, 0 FROM queue WHERE name='q'")
    thread.join(20)
    assert [d.message.headers["id"] for d in fetched] == ["x"]


def test_without_a_port_waiting_still_works(bench: Any) -> None:
    transport = bench.transport(poll_interval=0.02)
    consumer = bench.consumer(transport)
    consumer._bell.close()
    fetched: list[Any] = []
    thread = threading.Thread(target=lambda: fetched.extend(consumer.fetch(1, 20)))
    thread.start()
    bench.publish(transport, "x")
    thread.join(20)
    assert len(fetched) == 1
    assert waiting(bench) == 0


def test_a_waiter_for_results_leaves_nothing_behind(bench: Any) -> None:
    backend = bench.backend()
    assert backend.wait(["a"], 0.001) == {}
    assert backend.wait([str(n) for n in range(100)], 0.001) == {}
    assert bench.sql("SELECT count(*) FROM watcher") == [(0,)]


def test_waiters_for_one_for_many_and_for_others_are_woken_by_one_result(bench: Any) -> None:
    # A poll would come too late for the test.
    backend = bench.backend(poll_interval=60)
    found: dict[str, Any] = {}

    def wait(name: str, task_ids: list[str]) -> None:
        found[name] = set(backend.wait(task_ids, 30))

    threads = [
        threading.Thread(target=wait, args=("one", ["t"])),
        threading.Thread(target=wait, args=("few", ["s", "t"])),
        threading.Thread(target=wait, args=("many", [f"x{n}" for n in range(50)] + ["t"])),
    ]
    for thread in threads:
        thread.start()
    while bench.sql("SELECT count(DISTINCT port) FROM watcher") != [(3,)]:
        pass
    backend.store([StoredResult("t", "STARTED", b"")])
    backend.store([StoredResult("t", "SUCCESS", b"1")])
    for thread in threads:
        thread.join(30)
    assert found == {"one": {"t"}, "few": {"t"}, "many": {"t"}}
    assert bench.sql("SELECT count(*) FROM watcher") == [(0,)]


def test_a_bell_is_kept_whatever_a_signal_interrupts(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its socket is left open."""
    backend = bench.backend()

    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(backend, "_unwatch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        backend.wait(["a", "b"], 0.01)
    assert len(backend._open()._bells) == 1
    monkeypatch.undo()
    assert backend.wait(["a", "b"], 0.01) == {}
