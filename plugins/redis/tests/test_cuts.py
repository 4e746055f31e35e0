"""Scripts that a Redis forgets, connections and answers that are lost, and no message with them."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from redis import Redis

from caraway.errors import TransportUnavailable
from caraway.message import Settlement

from .redis_kit import done, fetched, result


def test_scripts_that_the_server_forgot_are_sent_again(
    url: str, opened: Any, client: Redis
) -> None:
    transport, backend = opened.transport(url), opened.backend(url)
    forget = client.script_flush
    forget()
    consumer, other = opened.consumer(transport), opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(900)])
    seen: list[Any] = []
    while len(seen) < 900:
        forget()
        taken = consumer.fetch(400, 5.0)
        seen += taken
        forget()
        fenced, taken = consumer.exchange(done(taken), 10)()
        assert not fenced
        if taken:
            forget()
            assert not consumer.commit(done(taken))
        seen += taken
    assert len({each.message.headers["id"] for each in seen}) == 900
    transport.publish([opened.publication("a")])
    for act in (
        lambda: transport.renew([consumer.owner.id]),
        lambda: consumer.settle([Settlement(consumer.fetch(1, 5.0)[0].tag, "release")]),
        lambda: backend.store([result("b")]),
        lambda: backend.join("g", "m", 1, 60.0),
        lambda: transport.revoke(["x"]),
        transport.sweep,
        lambda: transport.reclaim(other.owner.id),
        consumer.close,
    ):
        forget()
        act()
    assert client.llen("q") == 1
    forget()
    transport.delete("q")


def test_work_goes_on_through_one_cut_of_the_connections_after_another(
    url: str, opened: Any, client: Redis
) -> None:
    """Every message is run, and none is lost or held for ever; a second run of one is
    possible only where its end was cut off."""
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    count, seen = 400, []
    transport.publish([opened.publication(n) for n in range(count)])
    rounds = 0
    while len(set(seen)) < count or client.hlen(f"caraway:held:{consumer.owner.id}"):
        rounds += 1
        assert rounds < 1000
        try:
            taken = consumer.fetch(20, 0.2)
        except TransportUnavailable:
            continue
        seen += [each.message.body for each in taken]
        if rounds % 3 == 0:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        while taken:
            try:
                consumer.settle([Settlement(each.tag) for each in taken])
                break
            except TransportUnavailable:
                pass
    assert len(seen) == count
    assert not client.exists("q")
    transport.link.disconnect()  # those that were cut a moment ago
    transport.delete("q")


@pytest.mark.parametrize("answers", [0, 1])
def test_of_an_exchange_cut_off_nothing_is_lost_and_nothing_runs_twice(
    url: str, opened: Any, client: Redis, until: Callable[..., Any], answers: int
) -> None:
    """The server does both; we hear of none of it, or of the commit only."""
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(4)])
    first = done(consumer.fetch(2, 5.0))
    read, heard = consumer._scripts.read, []

    def deaf() -> Any:
        if len(heard) == answers:
            until(lambda: client.llen("q") == 1)
            consumer._scripts.wire.close()
        heard.append(read())
        return heard[-1]

    consumer._scripts.read = deaf
    if answers:
        assert list(map(list, consumer.exchange(first, 1)())) == [[], []]
    else:
        with pytest.raises(TransportUnavailable):
            consumer.exchange(first, 1)()
    consumer._scripts.read = read
    late = consumer.commit(first)
    assert sorted(late) in ([], sorted(each.settlement.tag for each in first))
    assert len(backend.get(["id-0", "id-1"])) == 2
    taken = fetched(consumer, 2)
    assert sorted(each.message.body for each in taken) == [b"2", b"3"]
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    assert not client.exists("q", f"caraway:held:{consumer.owner.id}")
    transport.delete("q")


def test_an_answer_lost_on_its_way_is_asked_for_again(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    """The messages it carried are ours in the server's books, and nobody else's."""
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    assert not consumer.fetch(1, 0)
    transport.publish([opened.publication(n) for n in range(3)])
    # The request goes out, and its answer comes to nobody.
    consumer._ask(10)
    until(lambda: not client.exists("q"))
    consumer._scripts.wire.raw._sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises(TransportUnavailable):
        consumer.fetch(10, 0)
    taken = consumer.fetch(10, 5.0)
    assert sorted(each.message.body for each in taken) == [b"0", b"1", b"2"]
    assert not consumer.fetch(10, 0)
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    assert not client.exists("q", f"caraway:held:{consumer.owner.id}")
    transport.delete("q")


def test_what_was_taken_when_the_look_at_revocations_fails_is_not_forgotten(
    url: str, opened: Any, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    assert not consumer.fetch(1, 0)  # the turn to sweep is over for a while
    transport.revoke(["id-1"])
    transport.publish([opened.publication(n) for n in range(3)])
    look = transport.link.exchange

    def cut(*arguments: Any) -> Any:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return look(*arguments)

    monkeypatch.setattr(transport.link, "exchange", cut)
    with pytest.raises(TransportUnavailable):
        consumer.fetch(10, 0)
    monkeypatch.undo()
    taken: list[Any] = []
    while len(taken) < 3:
        try:
            taken += consumer.fetch(10, 1.0)
        except TransportUnavailable:
            continue
    assert [(each.message.body, each.revoked) for each in taken] == [
        (b"0", False), (b"1", True), (b"2", False),
    ]  # fmt: skip
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    transport.delete("q")


def test_a_fetch_that_a_signal_ends_forgets_nothing_and_reads_no_stale_answer(
    url: str, opened: Any, client: Redis
) -> None:
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    assert not consumer.fetch(1, 0)
    transport.publish([opened.publication(n) for n in range(3)])

    class Stopped(BaseException):
        pass

    def stop() -> Any:
        raise Stopped

    consumer._scripts.read, read = stop, consumer._scripts.read
    with pytest.raises(Stopped):
        consumer.fetch(10, 0)
    consumer._scripts.read = read
    taken = fetched(consumer, 3)
    assert sorted(each.message.body for each in taken) == [b"0", b"1", b"2"]
    consumer._scripts.read = stop
    with pytest.raises(Stopped):
        consumer.settle([Settlement(taken[0].tag)])
    consumer._scripts.read = read
    assert len(consumer.settle([Settlement(each.tag) for each in taken])) <= 1
    assert not client.exists(f"caraway:held:{consumer.owner.id}")
    transport.delete("q")
