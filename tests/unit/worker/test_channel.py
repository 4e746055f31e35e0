"""Messages between the processes of a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from caraway.worker.channel import Channel


@pytest.fixture
def pair() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = Channel.pair()
    one, other = Channel(ours), Channel(theirs)
    yield one, other
    one.close()
    other.close()


def test_what_is_sent_arrives_in_order(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    for n in range(3):
        assert one.send(n=n)
    assert other.receive() == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_nobody_waits_for_an_end_that_does_not_read(pair: tuple[Channel, Channel]) -> None:
    """A lane's attendant starves while its task holds the GIL."""
    one, other = pair
    text = "x" * 1000
    for n in range(2000):
        assert one.send(n=n, text=text)
    assert one.waiting
    got: list[int] = []
    while len(got) < 2000:
        got += [message["n"] for message in other.receive()]
        one.flush()
    assert got == list(range(2000))
    assert not one.waiting


def test_what_is_kept_has_a_bound(pair: tuple[Channel, Channel]) -> None:
    one, _ = pair
    text = "x" * 1_000_000
    assert not all(one.send(text=text) for _ in range(30))
    assert not one.closed


def test_receive_does_not_wait(pair: tuple[Channel, Channel]) -> None:
    """Even if the other end is gone, but a process it started still has its socket."""
    one, other = pair
    copy = os.dup(other.fileno())
    other.send(last=True)
    other.close()
    try:
        assert one.receive() == [{"last": True}]
        assert one.receive() == []
        assert not one.closed
    finally:
        os.close(copy)
    assert one.receive() == []
    assert one.closed


def test_bytes_of_others_are_left_out(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    other.sock.sendall(b'not json\n[1]\n\n{"good":1}\n{"half":')
    assert one.receive() == [{"good": 1}]
    other.sock.sendall(b"2}\n")
    assert one.receive() == [{"half": 2}]


def test_a_send_to_nobody_says_so(pair: tuple[Channel, Channel]) -> None:
    one, other = pair
    other.close()
    assert not one.send(n=1)
    assert one.closed
