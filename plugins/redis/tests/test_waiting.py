"""How a consumer waits: on a connection a list, called off before anything runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from redis import Redis

from caraway.message import Settlement


@pytest.fixture
def consumer(opened: Any, url: str) -> Iterator[Any]:
    transport = opened.transport(url)
    yield opened.consumer(transport)
    transport.delete("q")


def waiters(client: Redis) -> list[dict[str, Any]]:
    """Connections that wait at the server."""
    return [one for one in client.client_list() if "b" in one["flags"]]


def test_who_was_called_off_too_early_is_called_off_again(
    consumer: Any, client: Redis, until: Any
) -> None:
    wait = consumer._wait
    assert wait.wait(0.0) == (False, False)
    until(lambda: len(waiters(client)) == 5)

    # As if the server had read that before it read that they wait.
    began = time.monotonic()
    late = wait.called_off([0] * len(wait.calls_off()))

    assert late == []
    assert time.monotonic() - began < 2.0
    assert waiters(client) == []
    assert not any(line.armed for line in wait._lines)


def test_what_came_before_it_was_called_off_goes_back_to_its_list(
    consumer: Any, client: Redis, opened: Any, until: Any
) -> None:
    wait = consumer._wait
    wait.wait(0.0)
    until(lambda: len(waiters(client)) == 5)
    consumer._transport.publish([opened.publication(1)])
    until(lambda: len(waiters(client)) == 4)

    assert wait.disarm()

    assert client.llen("q") == 1
    assert waiters(client) == []


def test_a_drained_queue_is_waited_for_without_another_look(
    consumer: Any, client: Redis, opened: Any
) -> None:
    transport = consumer._transport
    transport.publish([opened.publication(1)])
    taken = consumer.fetch(10, 1.0)
    consumer.settle([Settlement(each.tag) for each in taken])
    looks = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    ended = threading.Event()
    second: list[Any] = []

    def fetch() -> None:
        second.extend(consumer.fetch(10, 10.0))
        ended.set()

    thread = threading.Thread(target=fetch)
    thread.start()
    transport.publish([opened.publication(2)])
    assert ended.wait(5.0)
    thread.join()

    assert [each.message.body for each in second] == [b"2"]
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == looks + 1
    consumer.settle([Settlement(each.tag) for each in second])


def test_what_came_while_nobody_waited_is_met_at_once(consumer: Any, opened: Any) -> None:
    transport = consumer._transport
    for number in range(3):
        transport.publish([opened.publication(number)])
        began = time.monotonic()
        taken = consumer.fetch(10, 5.0)
        assert [each.message.body for each in taken] == [str(number).encode()]
        assert time.monotonic() - began < 1.0
        consumer.settle([Settlement(each.tag) for each in taken])


def test_who_waited_in_vain_goes_on_waiting_without_another_look(
    consumer: Any, client: Redis, opened: Any
) -> None:
    assert consumer.fetch(10, 0.05) == ()
    looks = client.info("commandstats")["cmdstat_evalsha"]["calls"]

    assert consumer.fetch(10, 0.05) == ()
    assert consumer.fetch(10, 0.05) == ()

    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == looks + 2, "one look each"
    consumer._transport.publish([opened.publication(1)])
    assert len(consumer.fetch(10, 1.0)) == 1


def test_of_the_last_messages_each_owner_takes_a_share(url: str, opened: Any) -> None:
    """Else the last ones would wait in one lane while the others are idle."""
    transport = opened.transport(url)
    mine, other = opened.consumer(transport), opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(20)])

    def take(consumer: Any, limit: int) -> list[int]:
        taken = consumer.fetch(limit, 5.0)
        consumer.settle([Settlement(each.tag) for each in taken])
        return [int(each.message.body) for each in taken]

    assert take(mine, 6) == list(range(6))  # there is more than that
    assert take(other, 100) == list(range(6, 13))
    assert take(mine, 100) == list(range(13, 17))
    # What was left is found without waiting for something new.
    assert take(other, 100) == [17, 18]
    assert take(mine, 100) == [19]
    assert not mine.fetch(100, 0)
    transport.delete("q")
