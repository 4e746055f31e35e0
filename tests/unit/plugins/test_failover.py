"""Several brokers as one: the first that can be reached serves."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from caraway.builtin.memory import MemoryTransport
from caraway.errors import PublishError, TransportError, TransportUnavailable
from caraway.interfaces import Broadcast, Capability, Context
from caraway.message import (
    Message,
    Notice,
    Owner,
    Publication,
    Queue,
    Settlement,
    Topic,
    new_owner_id,
)
from caraway.plugins import TransportEntry, hookimpl
from caraway.plugins.failover import FailoverTransport
from caraway.plugins.failover_consumer import pack_tag, unpack_tag
from caraway.plugins.registry import Registry
from caraway.url import Url

QUEUE = Queue(name="q")


class Flaky(MemoryTransport):
    """A memory transport that can be cut off."""

    up = True

    def _check(self) -> None:
        if not self.up:
            raise TransportUnavailable("cut")

    def publish(self, publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        self._check()
        super().publish(publications, timeout=timeout)

    def consume(self, queues: Sequence[Queue], owner: Owner) -> Any:
        self._check()
        return FlakyConsumer(self, super().consume(queues, owner))

    def ping(self) -> None:
        self._check()

    def broadcast(self) -> Broadcast:
        return FlakyBroadcast(self, super().broadcast())

    def stats(self, queues: Sequence[str] = ()) -> Any:
        self._check()
        return super().stats(queues)

    def renew(self, owners: Sequence[str]) -> Sequence[str]:
        self._check()
        return super().renew(owners)

    def purge(self, queue: str) -> int:
        self._check()
        return super().purge(queue)

    def dead(self, queue: str = "", *, limit: int = 100, after: str = "") -> Any:
        self._check()
        return super().dead(queue, limit=limit, after=after)


class FlakyBroadcast(Broadcast):
    """Its channel, likewise."""

    def __init__(self, transport: Flaky, channel: Broadcast) -> None:
        self.transport, self.channel = transport, channel

    def publish(self, notices: Sequence[Notice]) -> int | None:
        self.transport._check()
        return self.channel.publish(notices)

    def subscribe(self, topics: Iterable[Topic], *, name: str = "") -> Any:
        self.transport._check()
        return self.channel.subscribe(topics, name=name)


class FlakyConsumer:
    """Its consumer, cut off with it."""

    def __init__(self, transport: Flaky, consumer: Any) -> None:
        self.transport, self.consumer, self.owner = transport, consumer, consumer.owner

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self.transport._check()
            return getattr(self.consumer, name)(*args)

        return call


class Brokers:
    """Two brokers, their clock, and the transport over both."""

    def __init__(self, name: str) -> None:
        self.now = 0.0
        self.one = Flaky(Url.parse(f"memory://{name}-1"), {}, Context())
        self.two = Flaky(Url.parse(f"memory://{name}-2"), {}, Context())
        self.makers: list[tuple[str, Callable[[], Any]]] = [
            ("one", lambda: self.one),
            ("two", lambda: self.two),
        ]
        self.both = FailoverTransport(
            self.makers, frozenset(Capability), monotonic=lambda: self.now
        )

    def publish(self, *bodies: bytes) -> None:
        self.both.publish(
            [Publication(Message(body, {"id": body.decode()}), "q") for body in bodies]
        )

    def depths(self) -> tuple[int, int]:
        return self.depth(self.one), self.depth(self.two)

    @staticmethod
    def depth(transport: MemoryTransport) -> int:
        return sum(s.ready for s in MemoryTransport.stats(transport, ["q"]))

    def consume(self) -> Any:
        return self.both.consume([QUEUE], Owner(id=new_owner_id()))


@pytest.fixture
def brokers(request: pytest.FixtureRequest) -> Brokers:
    return Brokers(request.node.name)


def test_the_first_that_can_be_reached_serves(brokers: Brokers) -> None:
    brokers.publish(b"1")
    assert brokers.depths() == (1, 0)
    brokers.one.up = False
    brokers.publish(b"2", b"3")
    assert brokers.depths() == (1, 2)
    brokers.one.up = True
    brokers.publish(b"4")
    assert brokers.depths() == (1, 3), "it stays with the one that works"
    brokers.two.up = False
    brokers.publish(b"5")
    assert brokers.depths() == (2, 3)


def bodies(consumer: Any) -> list[bytes]:
    """What one fetch brings, acknowledged."""
    taken = consumer.fetch(10, 0)
    assert not consumer.settle([Settlement(delivery.tag) for delivery in taken])
    return [delivery.message.body for delivery in taken]


def test_what_a_broker_took_before_it_went_away_is_not_sent_again(brokers: Brokers) -> None:
    one = brokers.one
    publish = one.publish

    def goes_away(publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        publish(publications[:2], timeout=timeout)
        one.up = False
        gone = TransportUnavailable("gone")
        raise PublishError("1 of 3", failed=[2]) from gone

    one.publish = goes_away  # type: ignore[method-assign]
    brokers.publish(b"1", b"2", b"3")
    assert brokers.depths() == (2, 1)

    one.up, brokers.two.up = True, False
    with pytest.raises(PublishError, match="1 of 3 messages are in no broker: none of") as caught:
        brokers.publish(b"4", b"5", b"6")
    assert caught.value.failed == (2,)


def test_what_a_broker_refuses_is_told_with_its_position(brokers: Brokers) -> None:
    def goes_away(publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        raise PublishError("2 of 3", failed=[0, 2]) from TransportUnavailable("gone")

    def refuses(publications: Sequence[Publication], *, timeout: float = 5.0) -> None:
        raise PublishError("too large", failed=[1])

    brokers.one.publish = goes_away  # type: ignore[method-assign]
    brokers.two.publish = refuses  # type: ignore[method-assign]
    with pytest.raises(PublishError, match="too large") as caught:
        brokers.publish(b"1", b"2", b"3")
    assert caught.value.failed == (2,)


def test_each_of_several_brokers_is_told_that_there_are_others(brokers: Brokers) -> None:
    assert brokers.one.alone
    brokers.publish(b"1")
    assert not brokers.one.alone


def test_broadcasts_go_to_the_next_broker_when_theirs_is_gone(brokers: Brokers) -> None:
    topic = Topic("celery.pidbox")
    channel = brokers.both.broadcast()
    there = channel.subscribe([topic])
    channel.publish([Notice(topic, Message(b"1"))])
    assert [each.message.body for each in there.receive(0)] == [b"1"]

    brokers.one.up = False
    again = channel.subscribe([topic])
    channel.publish([Notice(topic, Message(b"2"))])
    assert there.receive(0) == []
    assert [each.message.body for each in again.receive(0)] == [b"2"]

    brokers.two.up = False
    with pytest.raises(TransportUnavailable, match="none of the brokers"):
        channel.publish([Notice(topic, Message(b"3"))])


def test_consumers_go_where_publishers_go(brokers: Brokers) -> None:
    brokers.one.up = False
    brokers.publish(b"1")
    assert bodies(brokers.consume()) == [b"1"]


def test_a_consumer_goes_to_the_next_broker_when_its_own_is_gone(brokers: Brokers) -> None:
    consumer = brokers.consume()
    brokers.publish(b"1", b"2")
    (held, _) = consumer.fetch(10, 0)
    brokers.one.up = False
    brokers.publish(b"3")
    assert bodies(consumer) == [b"3"]
    assert not consumer.settle([Settlement(held.tag)]), "it is settled when its broker is back"
    brokers.two.up = False
    with pytest.raises(TransportUnavailable):
        consumer.fetch(10, 0)
    brokers.one.up = brokers.two.up = True
    brokers.now += 6
    assert bodies(consumer) == []
    consumer.close()
    assert bodies(brokers.consume()) == [b"2"]


def test_what_was_left_behind_runs_when_its_broker_is_back(brokers: Brokers) -> None:
    consumer = brokers.consume()
    brokers.publish(b"left")
    brokers.one.up = False
    brokers.publish(b"1")
    assert bodies(consumer) == [b"1"]
    brokers.one.up = True
    brokers.publish(b"2")
    assert bodies(consumer) == [b"2"]
    brokers.now += 6
    assert bodies(consumer) == [b"left"]
    brokers.now += 6
    assert bodies(consumer) == []


def test_an_owner_that_was_lost_meanwhile_gets_a_new_id(brokers: Brokers) -> None:
    consumer = brokers.consume()
    brokers.publish(b"1")
    (held,) = consumer.fetch(10, 0)
    brokers.one.up = False
    brokers.publish(b"2")
    assert bodies(consumer) == [b"2"]
    MemoryTransport.reclaim(brokers.one, consumer.owner.id)
    brokers.one.up = True
    brokers.now += 6
    assert bodies(consumer) == [b"1"]
    assert list(consumer.settle([Settlement(held.tag)])) == [held.tag], "fenced off"


def test_a_dead_owner_s_deliveries_are_adopted_where_they_are(brokers: Brokers) -> None:
    dead, heir = brokers.consume(), brokers.consume()
    brokers.publish(b"1")
    (held,) = dead.fetch(10, 0)
    (adopted,) = brokers.both.adopt(dead.owner.id, [held.tag, "9:9", "x"], heir.owner.id)
    assert adopted == held
    assert list(dead.settle([Settlement(held.tag)])) == [held.tag]
    assert not heir.settle([Settlement(held.tag)])


def test_a_waiting_consumer_is_woken_and_closed_once(brokers: Brokers) -> None:
    consumer = brokers.consume()
    consumer.wake()
    assert list(consumer.fetch(1, 30.0)) == []
    consumer.close()
    consumer.close()
    with pytest.raises(TransportError):
        consumer.fetch(1, 0)
    assert list(consumer.settle([Settlement("nonsense")])) == ["nonsense"]


@pytest.mark.parametrize("tag", [7, -7, "7", "a:b", "", "'x"])
def test_a_tag_comes_back_as_it_was(tag: int | str) -> None:
    assert unpack_tag(pack_tag(3, tag)) == (3, tag)


def test_none_in_reach_names_them_all(brokers: Brokers) -> None:
    brokers.one.up = brokers.two.up = False
    with pytest.raises(TransportUnavailable, match="one: cut; two: cut"):
        brokers.publish(b"1")
    with pytest.raises(TransportUnavailable):
        brokers.both.stats()


def test_stats_add_up_what_can_be_reached(brokers: Brokers) -> None:
    brokers.publish(b"1")
    brokers.one.up = False
    brokers.publish(b"2")
    assert [(s.name, s.ready) for s in brokers.both.stats()] == [("q", 1)]
    brokers.one.up = True
    assert [s.ready for s in brokers.both.stats()] == [1], "it was down just now"
    brokers.now += 6
    assert [s.ready for s in brokers.both.stats()] == [2]


def test_what_a_broker_does_not_keep_is_said_once(brokers: Brokers) -> None:
    assert brokers.both.caution == ""
    brokers.one.caution = brokers.two.caution = "forgets"
    assert brokers.both.caution == "forgets"
    brokers.two.caution = "forgets more"
    assert brokers.both.caution == "forgets; forgets more"


def test_an_owner_is_lost_only_if_every_broker_says_so(brokers: Brokers) -> None:
    consumer = brokers.consume()
    owner = consumer.owner.id
    assert brokers.both.renew([owner, "nobody"]) == ["nobody"]
    brokers.two.up = False
    assert brokers.both.renew([owner, "nobody"]) == ()


def test_what_must_be_done_everywhere_says_where_it_was_not(brokers: Brokers) -> None:
    brokers.publish(b"1")
    brokers.two.up = False
    with pytest.raises(TransportUnavailable, match="not on two"):
        brokers.both.purge("q")
    assert brokers.depths() == (0, 0)
    brokers.two.up = True
    brokers.now += 6
    brokers.publish(b"2")
    assert brokers.both.purge("q") == 1


def test_dead_letters_of_all_brokers_are_told_apart(brokers: Brokers) -> None:
    for number in range(2):
        brokers.publish(b"a%d" % number, b"b%d" % number)
        consumer = brokers.consume()
        taken = consumer.fetch(10, 0)
        consumer.settle([Settlement(d.tag, "reject", reason="no") for d in taken])
        brokers.one.up = False
    brokers.one.up = True
    brokers.now += 6
    letters = brokers.both.dead()
    assert [letter.message.body for letter in letters] == [b"a0", b"b0", b"a1", b"b1"]
    assert len({letter.id for letter in letters}) == 4
    first = brokers.both.dead(limit=3)
    assert [x.message.body for x in brokers.both.dead(after=first[-1].id)] == [b"b1"]
    assert [x.id for x in brokers.both.dead_get([letters[2].id])] == [letters[2].id]
    assert brokers.both.dead_replay([letters[0].id, letters[3].id]) == 2
    assert brokers.depths() == (1, 1)
    assert brokers.both.dead_drop([letters[1].id, "9/9", "x"]) == 1


def test_capabilities_may_depend_on_what_follows_the_plus() -> None:
    shared = frozenset({Capability.DELAY, Capability.SHARED})

    class Offer:
        @hookimpl
        def caraway_register_transports(self) -> list[TransportEntry]:
            return [
                TransportEntry(
                    name="bridge",
                    factory="caraway.builtin.memory:MemoryTransport",
                    capabilities=frozenset({Capability.DELAY}),
                    by_driver={"far": shared},
                )
            ]

    registry = Registry.discover(plugins=[Offer()])
    for urls, expected in (
        ("bridge+far://a;bridge+far+tls://b", shared),
        ("bridge+far://a;bridge+near://b", {Capability.DELAY}),
        ("bridge://a;bridge+far://b", {Capability.DELAY}),
    ):
        both = registry.transport(urls, Context())
        assert both.capabilities == expected
        both.close()


def test_the_registry_wraps_a_list_of_urls() -> None:
    both = Registry.discover().transport("memory://f1;memory://f2", Context())
    assert isinstance(both, FailoverTransport)
    assert Capability.DELAY in both.capabilities
    assert Capability.ATOMIC_COMMIT not in both.capabilities
    both.ping()
    both.close()
    both.close()
