"""Waiting for sockets, and what ends a wait."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from caraway.waking import Waker, readable


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def test_nobody_is_woken_before_anybody_wakes(waker: Waker) -> None:
    assert readable([waker.fileno()], 0) == set()
    assert not waker.drain()


def test_a_wait_ends_when_another_thread_wakes(waker: Waker) -> None:
    other = threading.Thread(target=waker.wake)
    other.start()
    ready = readable([waker.fileno()], 30.0)
    other.join()

    assert ready == {waker.fileno()}


def test_a_wake_that_finds_nobody_waiting_ends_the_next_wait_once(waker: Waker) -> None:
    waker.wake()
    waker.wake()

    assert readable([waker.fileno()], 30.0)
    assert waker.drain()
    assert not waker.drain()
    assert not readable([waker.fileno()], 0)


def test_any_number_of_wakes_neither_waits_nor_fails(waker: Waker) -> None:
    for _ in range(20_000):
        waker.wake()

    assert waker.drain()
    assert not readable([waker.fileno()], 0)


def test_only_the_sockets_that_have_something_are_named(waker: Waker) -> None:
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")

        assert readable([here.fileno(), waker.fileno()], 30.0) == {here.fileno()}


def test_what_is_closed_is_woken_and_drained_without_effect(waker: Waker) -> None:
    waker.close()
    # Whoever opens something now may get its number.
    here, there = socket.socketpair()
    with here, there:
        waker.wake()

        assert not waker.drain()
        assert readable([here.fileno(), there.fileno()], 0) == set()
    assert waker.fileno() == -1
    waker.close()
