"""Callers are let through one after another, and none is left behind."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

import pytest

from caraway.errors import TransportUnavailable
from caraway.message import Message, Publication
from caraway.producer import Producer
from caraway.producer.relay import _AFTER, SLOW, Relay, Ticket

PUBLICATION = Publication(Message(b""), "q")


def tickets(count: int) -> list[Ticket]:
    return [Ticket((), 5.0) for _ in range(count)]


def opened(waiting: list[Ticket]) -> list[int]:
    """Which of them are let through."""
    return [at for at, ticket in enumerate(waiting) if not ticket.gate.locked()]


@pytest.fixture
def now() -> list[float]:
    return [100.0]


@pytest.fixture
def relay(now: list[float]) -> Relay:
    return Relay(lambda: now[0])


def test_each_lets_the_next_one_through(relay: Relay) -> None:
    waiting = tickets(3)

    relay.add(waiting)
    assert opened(waiting) == [0]
    relay.arrived(waiting[0])
    assert opened(waiting) == [0, 1]
    relay.arrived(waiting[1])
    assert opened(waiting) == [0, 1, 2]


def test_after_the_last_one_the_next_is_let_through_at_once(relay: Relay) -> None:
    first, second = tickets(1), tickets(2)

    relay.add(first)
    relay.arrived(first[0])
    relay.add(second)

    assert opened(second) == [0]


def test_two_batches_are_one_line(relay: Relay) -> None:
    waiting = tickets(3)

    relay.add(waiting[:2])
    relay.add(waiting[2:])
    assert opened(waiting) == [0]
    relay.arrived(waiting[0])
    relay.arrived(waiting[1])

    assert opened(waiting) == [0, 1, 2]


def test_who_leads_next_does_not_stand_in_line(relay: Relay) -> None:
    waiting = tickets(4)

    relay.put_first(waiting[0])
    assert opened(waiting) == [0]
    relay.add(waiting[1:3])
    relay.put_first(waiting[3])
    relay.arrived(waiting[0])

    assert opened(waiting) == [0, 3]


def test_where_something_else_keeps_the_interpreter_all_are_let_through(
    relay: Relay, now: list[float]
) -> None:
    waiting = tickets(4)
    relay.add(waiting)

    now[0] += SLOW * 1.5
    relay.arrived(waiting[0])
    assert opened(waiting) == [0, 1, 2, 3]

    for _ in range(_AFTER):
        batch = tickets(3)
        relay.add(batch)
        assert opened(batch) == [0, 1, 2]

    batch = tickets(3)
    relay.add(batch)
    assert opened(batch) == [0]


def test_a_late_last_one_is_no_sign_of_that(relay: Relay, now: list[float]) -> None:
    (last,) = tickets(1)
    relay.add([last])
    now[0] += 1.0
    relay.arrived(last)
    batch = tickets(2)

    relay.add(batch)

    assert opened(batch) == [0]


def test_whoever_gives_up_lets_the_others_through(relay: Relay) -> None:
    waiting = tickets(4)
    relay.add(waiting)

    relay.break_off(waiting[0])  # it was let through: the next would have waited for it

    assert opened(waiting) == [0, 1, 2, 3]


def test_whoever_has_given_up_is_passed_over(relay: Relay) -> None:
    gone, *waiting = tickets(3)
    relay.break_off(gone)

    relay.add([gone, *waiting])
    assert opened(waiting) == [0]
    relay.arrived(waiting[0])
    relay.arrived(waiting[1])
    assert opened(waiting) == [0, 1]

    relay.put_first(gone)
    late = tickets(1)
    relay.add(late)
    assert opened(late) == [0]


class Interrupted(deque[Ticket]):
    """A line that is interrupted once, when a gate was opened."""

    faults = 1

    def popleft(self) -> Ticket:
        if self.faults:
            self.faults = 0
            raise KeyboardInterrupt
        return super().popleft()


def test_whoever_arrives_does_not_let_itself_through_again(relay: Relay) -> None:
    waiting = tickets(3)
    relay._closed = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        relay.add(waiting)

    assert waiting[0].gate.acquire(timeout=0)
    relay.arrived(waiting[0])

    assert opened(waiting) == [1]


def test_an_interrupt_in_the_middle_leaves_nobody_behind(relay: Relay) -> None:
    waiting = tickets(3)
    relay._closed = Interrupted()

    with pytest.raises(KeyboardInterrupt):
        relay.add(waiting)
    assert opened(waiting) == [0]  # and it still stands in line
    relay.break_off(Ticket((), 5.0))

    assert opened(waiting) == [0, 1, 2]


def test_a_caller_that_is_interrupted_lets_the_others_through() -> None:
    class Interruption:
        def acquire(self, timeout: float) -> bool:
            raise KeyboardInterrupt

    producer = Producer(lambda: None)  # type: ignore[arg-type,return-value]
    mine, *others = tickets(3)
    producer._relay.add([mine, *others])
    mine.gate = Interruption()  # type: ignore[assignment]

    with pytest.raises(KeyboardInterrupt):
        producer._await_turn(mine)

    assert opened(others) == [0, 1]


def test_whoever_leads_says_that_the_others_are_served() -> None:
    class Broker:
        def publish(self, publications: Any, *, timeout: float) -> None:
            pass

    producer = Producer(Broker)  # type: ignore[arg-type]
    own, *others = tickets(3)
    producer._busy, producer._waiting = True, [own, *others]

    producer._lead(own)

    assert [ticket.served for ticket in others] == [True, True]
    assert opened(others) == [0]
    assert not producer._busy


class TestLate:
    """At the deadline of a caller that was not let through."""

    @pytest.fixture
    def producer(self) -> Producer:
        return Producer(lambda: None, timeout=0.0)  # type: ignore[arg-type,return-value]

    def test_what_was_published_is_no_error(self, producer: Producer) -> None:
        ticket = Ticket([PUBLICATION], 0.0)
        ticket.served = True

        producer._follow(ticket)

    def test_what_became_of_it_is_told(self, producer: Producer) -> None:
        ticket = Ticket([PUBLICATION], 0.0)
        ticket.served, ticket.error = True, ValueError("too large")

        with pytest.raises(ValueError, match="too large"):
            producer._follow(ticket)

    def test_what_is_under_way_is_not_waited_for(self, producer: Producer) -> None:
        with pytest.raises(TransportUnavailable, match="longer than"):
            producer._follow(Ticket([PUBLICATION], 0.0))


def test_many_callers_and_desks_with_some_that_give_up() -> None:
    class Broker:
        publishes_at_once = 3

        def __init__(self) -> None:
            self.sent: deque[Publication] = deque()

        def publish(self, publications: Any, *, timeout: float) -> None:
            for _ in range(3):
                time.sleep(0)  # others run, call, and line up
            self.sent.extend(publications)

    broker = Broker()
    producer = Producer(lambda: broker)  # type: ignore[arg-type,return-value]
    producer._duration = 1.0  # far away, so that there are desks
    arrived_in_fact = producer._relay.arrived
    calls = [0]

    def arrived(ticket: Ticket) -> None:
        """Every fiftieth is interrupted as soon as it runs."""
        calls[0] += 1
        if not calls[0] % 50:
            raise KeyboardInterrupt
        arrived_in_fact(ticket)

    producer._relay.arrived = arrived  # type: ignore[method-assign]
    done: deque[bool] = deque()

    def run() -> None:
        for _ in range(100):
            try:
                producer.publish([PUBLICATION])
            except KeyboardInterrupt:
                done.append(False)
            else:
                done.append(True)

    threads = [threading.Thread(target=run) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    assert calls[0] > 200, "too few waited for this to show anything"
    assert len(done) == 2400
    assert done.count(True) <= len(broker.sent) <= 2400
    assert not producer._relay._closed
