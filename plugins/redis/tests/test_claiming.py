"""What comes to a consumer that waits is claimed; what it waits for meanwhile isn't kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from caraway.errors import OwnerLost, TransportUnavailable
from caraway.message import Settlement
from caraway_redis import claiming
from caraway_redis import consumer as consumers

Until = Callable[..., Any]


@pytest.fixture
def consumer(opened: Any, url: str) -> Iterator[Any]:
    transport = opened.transport(url)
    made = opened.consumer(transport)
    assert not made.fetch(10, 0)  # it has looked at all just now
    yield made
    transport.delete("q")


@pytest.fixture
def sent(consumer: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which scripts the consumer sends."""
    names = {
        claiming.CLAIM: "claim", consumers.FETCH: "fetch", consumers.COMMIT: "commit",
    }  # fmt: skip
    found: list[str] = []
    send = consumer._scripts.send

    def noting(script: Any, *arguments: Any) -> None:
        found.append(names[script])
        send(script, *arguments)

    monkeypatch.setattr(consumer._scripts, "send", noting)
    return found


@pytest.fixture
def come(
    consumer: Any, client: Redis, opened: Any, until: Until, sent: list[str]
) -> Callable[..., Any]:
    """Have messages come while it waits; the first is moved, and not looked at yet.  Returns
    where it is now."""

    def publish(*bodies: object) -> Any:
        assert not consumer.fetch(10, 0.01)
        until(lambda: len(waiting(client)) == 5)
        consumer._transport.publish([opened.publication(each) for each in bodies])
        until(lambda: len(waiting(client)) < 5)
        sent.clear()
        (place,) = [each for each in consumer._arguments.places if client.exists(each.inbox)]
        return place

    return publish


def waiting(client: Redis) -> list[dict[str, Any]]:
    return [one for one in client.client_list() if "b" in one["flags"]]


def bodies(taken: Any) -> list[bytes]:
    return [each.message.body for each in taken]


def settle(consumer: Any, taken: Any) -> None:
    assert not consumer.settle([Settlement(each.tag) for each in taken])


def test_one_message_is_claimed_and_is_the_owner_s_from_then_on(
    consumer: Any, client: Redis, come: Callable[..., Any], sent: list[str], opened: Any
) -> None:
    come("a")
    taken = consumer.fetch(10, 5.0)
    assert (bodies(taken), sent) == ([b"a"], ["claim"])
    assert client.hlen(f"caraway:held:{consumer.owner.id}") == 1
    # Its owner dies: whoever has it next knows that it ran.
    heir = opened.consumer(consumer._transport)
    adopted = consumer._transport.adopt(consumer.owner.id, [taken[0].tag], heir.owner.id)
    assert not heir.settle([Settlement(adopted[0].tag, "release")])
    again = heir.fetch(10, 5.0)
    assert [(each.message.body, each.attempt) for each in again] == [(b"a", 2)]
    settle(heir, again)


def test_of_a_burst_all_is_taken(
    consumer: Any, client: Redis, come: Callable[..., Any], sent: list[str]
) -> None:
    come(*"abcde")
    taken = consumer.fetch(10, 5.0)
    assert (bodies(taken), sent) == ([b"a", b"b", b"c", b"d", b"e"], ["claim", "fetch"])
    assert not waiting(client)
    settle(consumer, taken)


@pytest.mark.parametrize(("limit", "left"), [(1, 0), (3, 0), (4, 4)])
def test_only_who_would_take_as_many_is_still_sent_others(
    consumer: Any, client: Redis, come: Callable[..., Any], limit: int, left: int, until: Until
) -> None:
    come("a")
    taken = consumer.fetch(limit, 5.0)
    until(lambda: len(waiting(client)) == left)
    settle(consumer, taken)
    assert len(waiting(client)) == left


def test_what_comes_while_it_runs_something_long_goes_back(
    consumer: Any, client: Redis, come: Callable[..., Any], opened: Any, until: Until
) -> None:
    transport = consumer._transport
    other = opened.consumer(transport)
    come("long")
    taken = consumer.fetch(10, 5.0)
    transport.publish([opened.publication("urgent", priority=9)])
    until(lambda: len(waiting(client)) == 3)
    assert not other.fetch(10, 0)

    consumer.recede()

    assert not waiting(client)
    urgent = other.fetch(10, 0)
    assert bodies(urgent) == [b"urgent"]
    assert urgent[0].attempt == 1
    consumer.recede()
    settle(other, urgent)
    settle(consumer, taken)


def test_a_bell_heard_by_who_runs_something_long_is_rung_again(
    consumer: Any, client: Redis, come: Callable[..., Any], opened: Any, until: Until
) -> None:
    come("long")
    taken = consumer.fetch(10, 5.0)
    due = time.time() + 2.0
    consumer._transport.publish([opened.publication("later", due=due)])
    until(lambda: len(waiting(client)) == 3)
    bell = "caraway:delayed:q\nbell"
    assert not client.exists(bell)
    consumer.recede()
    assert client.llen(bell) == 1
    assert 0 < client.ttl(bell) <= 10
    settle(consumer, taken)


def test_who_waits_is_not_called_off(
    consumer: Any, client: Redis, opened: Any, until: Until
) -> None:
    found: list[Any] = []
    fetching = threading.Thread(target=lambda: found.extend(consumer.fetch(10, 10.0)))
    fetching.start()
    until(lambda: len(waiting(client)) == 5)
    consumer.recede()
    assert len(waiting(client)) == 5
    consumer._transport.publish([opened.publication("a")])
    fetching.join(10.0)
    settle(consumer, found)
    assert bodies(found) == [b"a"]


def test_what_lay_in_another_inbox_goes_where_others_may_take_it(
    consumer: Any, client: Redis, come: Callable[..., Any], sent: list[str]
) -> None:
    """As a connection leaves it that breaks when something has just been moved."""
    came = come("a")
    place = next(each for each in consumer._arguments.places if each != came)
    payload = client.lindex(came.inbox, 0)
    client.lpush(place.inbox, payload.replace(b'"id-a"', b'"id-b"'))
    taken = consumer.fetch(1, 5.0)
    assert (bodies(taken), sent) == ([b"a"], ["claim"])
    assert client.llen(place.name) == 1
    assert not client.exists(place.inbox)
    settle(consumer, taken)
    rest = consumer.fetch(10, 5.0)
    assert rest[0].message.headers["id"] == "id-b"
    settle(consumer, rest)


def test_what_was_moved_away_meanwhile_is_not_run(
    consumer: Any, client: Redis, come: Callable[..., Any], opened: Any, url: str
) -> None:
    """Somebody took this owner for dead."""
    come("a")
    opened.transport(url).reclaim(consumer.owner.id)
    with pytest.raises(OwnerLost):
        consumer.fetch(10, 5.0)
    assert client.llen("q") == 1


def test_an_inbox_that_is_empty_after_all_brings_nothing(
    consumer: Any, client: Redis, come: Callable[..., Any], opened: Any
) -> None:
    place = come("a")
    client.lmove(place.inbox, "elsewhere", "LEFT", "RIGHT")
    assert not consumer.fetch(10, 0.1)
    client.lmove("elsewhere", "q", "LEFT", "RIGHT")
    taken = consumer.fetch(10, 5.0)
    assert bodies(taken) == [b"a"]
    settle(consumer, taken)


def test_a_forgotten_script_is_sent_again(
    consumer: Any, client: Redis, come: Callable[..., Any]
) -> None:
    come("a")
    client.script_flush()
    taken = consumer.fetch(10, 5.0)
    assert bodies(taken) == [b"a"]
    settle(consumer, taken)


def test_a_claim_whose_answer_is_lost_is_asked_for_again(
    consumer: Any, client: Redis, come: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    until: Until,
) -> None:  # fmt: skip
    come("a")

    def cut() -> Any:
        until(lambda: client.hlen(f"caraway:held:{consumer.owner.id}") == 1)
        monkeypatch.undo()
        consumer._scripts.wire.close()
        return consumer._scripts.read()

    monkeypatch.setattr(consumer._scripts, "read", cut)
    with pytest.raises(TransportUnavailable):
        consumer.fetch(10, 5.0)
    taken = consumer.fetch(10, 5.0)
    assert bodies(taken) == [b"a"]
    settle(consumer, taken)


def test_a_server_without_memory_gives_what_it_has_moved(
    consumer: Any, client: Redis, come: Callable[..., Any], sent: list[str]
) -> None:
    come("a")
    client.config_set("maxmemory", 1)
    try:
        taken = consumer.fetch(10, 5.0)
    finally:
        client.config_set("maxmemory", 0)
    assert (bodies(taken), sent[:1]) == ([b"a"], ["claim"])
    settle(consumer, taken)


def test_a_key_of_another_type_is_told_and_the_message_stays(
    consumer: Any, client: Redis, come: Callable[..., Any]
) -> None:
    come("a")
    held = f"caraway:held:{consumer.owner.id}"
    client.set(held, "mine", px=60_000)
    with pytest.raises(Exception, match="WRONGTYPE"):
        consumer.fetch(10, 5.0)
    assert not waiting(client), "whoever can't take it is sent no more"
    client.delete(held)
    taken = consumer.fetch(10, 5.0)
    assert bodies(taken) == [b"a"]
    settle(consumer, taken)


def test_once_in_a_while_it_looks_at_all(
    consumer: Any, come: Callable[..., Any], sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For what nobody is woken for: dead owners, messages of theirs."""
    come("a")
    consumer._looked -= 3.0
    taken = consumer.fetch(10, 5.0)
    assert (bodies(taken), sent) == ([b"a"], ["fetch"])
    settle(consumer, taken)
