"""What is special about the memory components; the rest is the conformance suites'."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.builtin.memory import (
    MemoryBackend,
    MemoryConsumer,
    MemoryScheduleStore,
    MemoryTransport,
    discard,
)
from caraway.interfaces import Context
from caraway.message import (
    Message,
    Owner,
    Publication,
    Queue,
    StoredResult,
    new_owner_id,
)
from caraway.testing import VirtualClock
from caraway.url import Url


@pytest.fixture
def name() -> Iterator[str]:
    name = f"unit-{new_owner_id()}"
    yield name
    discard(name)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


Open = Callable[..., Any]


@pytest.fixture
def connect(name: str, clock: VirtualClock) -> Open:
    def connect(kind: type, context: Context | None = None, url: str = "") -> Any:
        return kind(Url.parse(url or f"memory://{name}"), {}, context or clock.context())

    return connect


def consume(transport: MemoryTransport, *queues: str, lease: float = 1e6) -> MemoryConsumer:
    names = queues or ("q",)
    return transport.consume([Queue(name=n) for n in names], Owner(id=new_owner_id(), lease=lease))


def publish(transport: MemoryTransport, *bodies: bytes, **fields: Any) -> None:
    transport.publish([Publication(Message(body), "q", **fields) for body in bodies])


def test_components_of_one_name_share_a_space(connect: Open, name: str) -> None:
    transport = connect(MemoryTransport)
    assert transport.shares_store(connect(MemoryBackend))
    assert not transport.shares_store(connect(MemoryBackend, url=f"memory://{name}/other"))
    publish(connect(MemoryTransport), b"1")
    assert transport.stats(["q"])[0].ready == 1


def test_a_discarded_space_is_forgotten(connect: Open, name: str) -> None:
    publish(connect(MemoryTransport), b"1")
    discard(name)
    assert list(connect(MemoryTransport).stats()) == []


def test_moving_the_clock_wakes_a_waiting_fetch(connect: Open, clock: VirtualClock) -> None:
    transport = connect(MemoryTransport)
    publish(transport, b"later", due=clock() + 3600)
    consumer = consume(transport)
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.extend(consumer.fetch(1, 30.0)))
    waiting.start()
    wait_until(lambda: transport.space.waiting == 1)
    clock.advance(10)
    wait_until(lambda: transport.space.waiting == 1)
    assert not taken
    clock.advance(3600 - 10)
    waiting.join(5.0)
    assert [delivery.message.body for delivery in taken] == [b"later"]


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5.0
    while not true():
        assert time.monotonic() < deadline
        os.sched_yield() if hasattr(os, "sched_yield") else None


def test_moving_the_clock_ends_a_wait_s_timeout(connect: Open, clock: VirtualClock) -> None:
    consumer = consume(connect(MemoryTransport))
    backend = connect(MemoryBackend)
    space = backend.space
    waits = [
        threading.Thread(target=consumer.fetch, args=(1, 600.0)),
        threading.Thread(target=backend.wait, args=(["x"], 600.0)),
    ]
    for wait in waits:
        wait.start()
    wait_until(lambda: space.waiting == 1 and space.result_waiting == 1)
    clock.advance(601)
    for wait in waits:
        wait.join(5.0)
        assert not wait.is_alive()


def test_a_clock_that_tells_nobody_is_looked_at_again(connect: Open) -> None:
    now = [1000.0]
    context = Context(clock=lambda: now[0], monotonic=lambda: now[0])
    transport = connect(MemoryTransport, context)
    publish(transport, b"later", due=1010.0)
    consumer = consume(transport)
    taken: list[Any] = []
    waiting = threading.Thread(target=lambda: taken.extend(consumer.fetch(1, 30.0)))
    waiting.start()
    wait_until(lambda: transport.space.waiting == 1)
    now[0] = 1011.0
    waiting.join(5.0)
    assert [delivery.message.body for delivery in taken] == [b"later"]


def test_an_owner_id_can_not_be_used_twice(connect: Open) -> None:
    from caraway.errors import TransportError

    transport = connect(MemoryTransport)
    consumer = consume(transport)
    with pytest.raises(TransportError, match="new_owner_id"):
        transport.consume([Queue(name="q")], consumer.owner)


def test_priorities_beyond_the_scale_count_as_its_ends(connect: Open) -> None:
    transport = connect(MemoryTransport)
    for priority in (-5, 0, 99):
        publish(transport, b"%d" % priority, priority=priority)
    taken = consume(transport).fetch(10, 0)
    assert [(d.message.body, d.priority) for d in taken] == [(b"99", 9), (b"-5", 0), (b"0", 0)]


def test_queues_are_served_evenly(connect: Open) -> None:
    transport = connect(MemoryTransport)
    for queue in "abc":
        transport.publish([Publication(Message(queue.encode()), queue) for _ in range(20)])
    consumer = consume(transport, "a", "b", "c")
    taken = [delivery.queue for delivery in consumer.fetch(30, 0)]
    assert sorted(taken) == sorted("abc" * 10)
    assert len(consumer.fetch(100, 0)) == 30


def test_expired_results_do_not_pile_up(connect: Open, clock: VirtualClock) -> None:
    backend = connect(MemoryBackend)
    for number in range(5000):
        backend.store([StoredResult(str(number), "SUCCESS", b"", 10.0)])
        clock.advance(1.0)
    assert len(backend.space.results) <= 12
    assert len(backend.space.result_ends) <= 12


def test_states_stored_again_and_again_leave_little_behind(
    connect: Open, clock: VirtualClock
) -> None:
    backend = connect(MemoryBackend)
    for _ in range(10_000):
        backend.store([StoredResult("same", "STARTED", b"", 10.0)])
    clock.advance(11)
    backend.cleanup()
    assert len(backend.space.result_ends) == 0
    assert backend.get(["same"]) == {}


def test_cleaning_up_drops_expired_groups(connect: Open, clock: VirtualClock) -> None:
    backend = connect(MemoryBackend)
    backend.save_group("short", b"x", 10.0)
    backend.join("short", "m", 2, 10.0)
    backend.save_group("long", b"x", 0.0)
    clock.advance(11)
    backend.cleanup()
    assert list(backend.space.groups) == ["long"]
    assert list(backend.space.joins) == []


def test_schedules_of_one_name_are_shared(connect: Open) -> None:
    one, two = connect(MemoryScheduleStore), connect(MemoryScheduleStore)
    assert one.lead("a", 10.0) == 1
    assert two.lead("b", 10.0) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_starts_empty_whoever_held_the_lock(connect: Open) -> None:
    transport = connect(MemoryTransport)
    publish(transport, b"1")
    with transport.space.lock:
        pid = os.fork()
        if pid == 0:
            fresh = connect(MemoryTransport)
            os._exit(0 if not fresh.stats() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
