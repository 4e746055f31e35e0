"""What the bridge adds to kombu: addresses, errors, deadlines, counts, delays, the dead."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection
from kombu.transport.memory import Channel as MemoryChannel
from kombu.transport.memory import Transport as MemoryTransport

from caraway.errors import (
    ComponentUnusable,
    ImproperlyConfigured,
    PublishError,
    TransportError,
    TransportUnavailable,
)
from caraway.interfaces import Capability, Context
from caraway.message import Delivery, Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.testing.clock import VirtualClock
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_kombu.delays import Delays
from caraway_kombu.facts import FACTS
from caraway_kombu.marks import DEAD, find
from caraway_kombu.transport import KombuTransport


@pytest.fixture
def make() -> Iterator[Callable[..., KombuTransport]]:
    made: list[KombuTransport] = []

    def build(url: str, **options: Any) -> KombuTransport:
        made.append(KombuTransport(Url.parse(url), options, Context()))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def name() -> str:
    return f"q-{uuid.uuid4().hex[:8]}"


def message(body: bytes = b"[]") -> Message:
    return Message(body, {"task": "t", "id": body.decode()})


def consume(transport: KombuTransport, name: str) -> Any:
    return transport.consume([Queue(name=name)], Owner(id=new_owner_id()))


def take(consumer: Any, count: int = 1) -> list[Delivery]:
    taken: list[Delivery] = []
    deadline = time.monotonic() + 10.0
    while len(taken) < count:
        assert time.monotonic() < deadline, f"{len(taken)} of {count} messages came"
        taken += consumer.fetch(count - len(taken), 0.2)
    return taken


# -- addresses -------------------------------------------------------------------------


def test_the_rest_of_the_url_is_kombu_s(make: Any) -> None:
    transport = make("kombu+redis://:secret@somewhere:1/7?visibility_timeout=60&x=true")
    client = transport.address.connection()
    assert (client.hostname, client.port, client.password) == ("somewhere", 1, "secret")
    assert client.virtual_host == "7"
    options = client.transport_options
    assert (options["visibility_timeout"], options["x"]) == (60, True)
    assert "secret" not in transport.address.shown


def test_a_driver_of_the_transport_s_own_stays_in_the_url(make: Any, tmp_path: Path) -> None:
    transport = make(f"kombu+redis+socket://{tmp_path}/redis.sock")
    client = transport.address.connection()
    assert client.hostname == f"socket://{tmp_path}/redis.sock"
    assert type(client.transport).__name__ == "Transport"
    assert client.transport.driver_type == "redis"


def test_transport_options_reach_kombu_as_they_are(make: Any) -> None:
    value = object()
    transport = make("kombu+memory://", odd=value, poll="0.5", connect_timeout=7.0)
    client = transport.address.connection()
    assert client.transport_options == {"odd": value}
    assert (transport.poll, client.connect_timeout) == (0.5, 7.0)


def test_a_path_is_the_folder_of_all_files(make: Any, tmp_path: Path) -> None:
    options = make(f"kombu+filesystem://{tmp_path}/in").address.options
    assert options["data_folder_in"] == options["data_folder_out"] == f"{tmp_path}/in"
    given = make("kombu+filesystem://", data_folder_in=f"{tmp_path}/a", data_folder_out="b")
    assert given.address.options["data_folder_in"] == f"{tmp_path}/a"
    with pytest.raises(ImproperlyConfigured, match="no data_folder_in"):
        make("kombu+filesystem://")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("kombu", "which of kombu's transports"),
        ("kombu+filesistem://", r"Did you mean kombu\+filesystem"),
        ("kombu+no.such.module:Transport://", "can't be imported"),
        ("kombu+kombu.transport.memory:Nothing://", "has no transport"),
    ],
)
def test_a_transport_that_kombu_has_not_is_an_error_with_the_fix(
    make: Any, url: str, said: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=said):
        make(url)


def test_a_driver_that_is_missing_is_named_with_its_command(make: Any) -> None:
    with pytest.raises(ComponentUnusable, match=r"pip install python-etcd"):
        make("kombu+etcd://localhost")


def test_the_schemes_of_the_bundle_s_own_are_the_same_by_another_name(tmp_path: Path) -> None:
    from caraway_kombu import transports

    built = transports.filesystem(Url.parse(f"filesystem://{tmp_path}/x"), {}, Context())  # type: ignore[attr-defined]
    assert type(built).capabilities == built.capabilities == FACTS["filesystem"].capabilities
    built.close()


# -- a transport that kombu doesn't bring ----------------------------------------------


class ManyChannel(MemoryChannel):  # type: ignore[misc]
    """One that gets several at a time, as those over HTTP do."""

    requests = 0

    def _get_many(self, queues: list[str], timeout: float | None = None) -> None:
        ManyChannel.requests += 1
        for queue in queues:
            for _ in range(self.qos.can_consume_max_estimate()):
                self.connection._deliver(self._get(queue), queue)


class ManyTransport(MemoryTransport):  # type: ignore[misc]
    Channel = ManyChannel


def test_a_class_of_anybody_s_is_named_in_the_url(make: Any, name: str) -> None:
    transport = make(f"kombu+{__name__}:ManyTransport://")
    assert Capability.SHARED in transport.capabilities
    consumer = consume(transport, name)
    assert not consumer.fetch(1, 0)
    transport.publish([Publication(message(b"%d" % n), name) for n in range(30)])
    before = ManyChannel.requests
    taken = consumer.fetch(10, 0)
    assert [d.message.body for d in taken] == [b"%d" % n for n in range(10)]
    assert ManyChannel.requests - before <= 2, "they were not asked for in one request"
    assert transport.stats([name])[0].ready == 20, "more was taken than was asked for"
    consumer.settle([Settlement(d.tag) for d in taken])
    assert len(consumer.fetch(100, 0)) == 20


# -- errors and deadlines --------------------------------------------------------------


def test_a_broker_that_never_answers_costs_no_more_than_the_deadline(make: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        transport = make(f"kombu+redis://127.0.0.1:{port}/0")
        started = time.monotonic()
        with pytest.raises(TransportUnavailable, match=r"within 0\.3 s"):
            transport.publish([Publication(message(), "q")], timeout=0.3)
        assert time.monotonic() - started < 3.0


def test_a_call_that_was_given_up_publishes_nothing_more(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    transport.publish([Publication(message(), name)])
    put, seen = transport._put, []

    def slow(link: Any, publication: Publication) -> None:
        seen.append(publication)
        time.sleep(0.2)
        put(link, publication)

    transport._put = slow
    with pytest.raises((PublishError, TransportUnavailable)):
        transport.publish([Publication(message(), name)] * 20, timeout=0.3)
    transport._put = put
    count = len(seen)
    time.sleep(0.5)
    assert len(seen) <= count + 1 < 20


def test_a_full_disk_is_told_as_such(make: Any, tmp_path: Path) -> None:
    from kombu.exceptions import ChannelError

    from caraway_kombu.faults import translate

    error = ChannelError("no")
    error.__cause__ = OSError(28, "No space left on device")
    assert type(translate(error, "x://", ())).__name__ == "StoreFull"
    assert type(translate(KeyError("x"), "x://", ())) is TransportError
    assert type(translate(ConnectionError("x"), "x://", ())) is TransportUnavailable


# -- counts, the dead, what can't be read ----------------------------------------------


def test_what_kombu_gave_back_is_counted_before_it_runs_again(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    transport.publish([Publication(message(), name)])
    link = transport.connect()
    for attempt in (2, 3, 4):
        # As kombu restores what a consumer left: marked, and not counted.
        raw = link.channel().basic_get(name)
        link.channel()._restore(raw)
        consumer = consume(transport, name)
        (delivery,) = take(consumer)
        assert delivery.attempt == attempt
        assert delivery.message.headers == message().headers
        consumer.close()
    link.close()


def test_what_a_dead_client_of_redis_held_is_back_after_the_visibility_timeout(
    make: Any, name: str, redis: Server
) -> None:
    url = f"kombu+redis://127.0.0.1:{redis.port}/3"
    transport = make(url, visibility_timeout=1)
    transport.publish([Publication(message(b"x"), name)])
    with Connection(url.removeprefix("kombu+")) as plain:
        channel = plain.channel()
        channel.do_restore = False  # as if it was killed
        assert channel.basic_get(name) is not None
    consumer = consume(transport, name)
    assert not consumer.fetch(1, 0)
    (delivery,) = take(consumer)
    assert (delivery.message.body, delivery.attempt) == (b"x", 2)
    assert delivery.message.headers == message(b"x").headers
    assert not consumer.settle([Settlement(delivery.tag)])
    assert transport.stats([name])[0].ready == 0


def test_plugins_show_says_what_is_weak() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caraway", "plugins", "show", "kombu"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "what a killed worker held" in done.stdout
    assert "MongoDB, by kombu; what a killed worker held comes back from the journal" in done.stdout
    assert "with +filesystem: broadcast, delay, expiry, persistent, shared" in done.stdout
    assert "with +memory: broadcast, delay, expiry\n" in done.stdout


def test_plugins_show_tells_of_one_transport_what_is_weak() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "caraway", "plugins", "show", "kombu+zookeeper"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "ZooKeeper, by kombu; what a killed worker held comes back from the" in done.stdout
    assert "+filesystem" not in done.stdout


def test_a_rejected_message_is_kept_in_a_queue_of_the_dead(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    transport.publish([Publication(message(b"bad"), name)])
    consumer = consume(transport, name)
    (delivery,) = take(consumer)
    consumer.settle([Settlement(delivery.tag, "reject", reason="poison")])
    assert [(s.name, s.ready) for s in transport.stats([f"{name}.dead"])] == [(f"{name}.dead", 1)]
    with Connection("memory://") as plain:
        raw = plain.channel().basic_get(f"{name}.dead")
        assert raw.headers[DEAD]["reason"] == "poison"
        assert raw.headers[DEAD]["queue"] == name
        assert find(raw).message.body == b"bad"


def test_what_is_no_message_is_delivered_with_its_defect(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    consumer = consume(transport, name)
    with Connection("memory://") as plain:
        plain.channel()._put(name, {"no": "message"})
    (delivery,) = take(consumer)
    assert "not a message" in delivery.defect
    assert b'"no"' in delivery.message.body
    assert not consumer.settle([Settlement(delivery.tag, "reject", parked=True)])


def test_a_message_is_written_as_kombu_s_own_producer_writes_it(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    headers = {"task": "t", "id": "1", "eta": None}
    properties = {"correlation_id": "1", "reply_to": "r", "delivery_mode": 2}
    transport.publish([Publication(Message(b"[]", headers, properties=properties), name)])
    with Connection("memory://") as plain:
        channel = plain.channel()
        ours = channel.basic_get(name)._raw
        plain.Producer(channel).publish(
            "[]", exchange="", routing_key=name, headers=headers, content_type="application/json",
            content_encoding="utf-8", **properties,
        )  # fmt: skip
        theirs = channel.basic_get(name)._raw
    for payload in (ours, theirs):
        del payload["properties"]["delivery_tag"]
    assert ours == theirs


def test_an_exchange_leads_to_the_queues_that_are_bound_to_it(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    queue = Queue(name=name, exchange=f"{name}-x", exchange_type="topic", routing_key="a.#")
    consumer = transport.consume([queue], Owner(id=new_owner_id()))
    other = f"{name}-y"
    transport.publish(
        [
            Publication(message(b"1"), name, exchange=f"{name}-x", routing_key="a.b"),
            Publication(message(b"2"), other, exchange=f"{name}-z", routing_key="k"),
        ]
    )
    assert [d.message.body for d in take(consumer)] == [b"1"]
    assert [d.message.body for d in take(consume(transport, other))] == [b"2"]


# -- delays ----------------------------------------------------------------------------


def test_a_delayed_message_climbs_down_and_is_never_early_nor_late(make: Any, name: str) -> None:
    transport = make("kombu+memory://")
    clock = VirtualClock(1_000_000.0)
    delays = Delays(FACTS["memory"].ladder, clock, clock.context().monotonic)
    delays.watch(name)
    link = transport.connect()
    wanted = {seconds: clock() + seconds for seconds in (0.5, 2.0, 3.7, 9.0, 40.0, 700.0, 30_000.0)}
    for seconds, due in wanted.items():
        found = find(_raw(link, name))
        found.message.headers["id"] = str(seconds)
        delays.put(link, name, found, due)
    came: dict[float, float] = {}
    looks = 0
    while len(came) < len(wanted):
        looks += 1
        assert looks < 150_000
        for queue, found in delays.ripe(link, 10):
            assert queue == name
            came[float(found.message.headers["id"])] = clock()
            link.ack([found.tag])
        clock.advance(max(delays.next_look(), 0.001))
    for seconds, due in wanted.items():
        assert due <= came[seconds] <= due + 0.3, f"that of {seconds} s came at another time"
    assert sum(map(link.size, delays.names(name))) == 0
    link.close()


def _raw(link: Any, name: str) -> Any:
    link.put(message(), {}, name)
    return link.channel().basic_get(name)


def test_the_worker_that_moves_a_delayed_message_may_be_another(make: Any, name: str) -> None:
    one, other = make("kombu+memory://"), make("kombu+memory://")
    due = time.time() + 0.6
    one.publish([Publication(message(), name, due=due)])
    first = consume(one, name)
    assert not first.fetch(1, 0)
    stats = one.stats([name])[0]
    assert (stats.ready, stats.delayed, stats.held) == (0, 1, 0)
    first.close()
    (delivery,) = take(consume(other, name))
    assert time.time() >= due
    assert delivery.due == due
    assert delivery.attempt == 1
