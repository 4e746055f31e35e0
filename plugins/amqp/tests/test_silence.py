"""A network that is silently dead: it is noticed, and what is only slow isn't taken for it."""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.errors import TransportUnavailable
from caraway.interfaces import Context
from caraway.message import Message, Owner, Publication, Queue, new_owner_id
from caraway.settings import Settings
from caraway.testing.proxy import Proxy
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import frames
from caraway_amqp.consumer import AmqpConsumer
from caraway_amqp.frames import content, publish_to
from caraway_amqp.link import Link
from caraway_amqp.options import Options, read_address
from caraway_amqp.transport import AmqpTransport

from .conftest import Place, until

Places = Callable[..., Place]
Open = Callable[..., AmqpTransport]


@pytest.fixture
def way(rabbitmq: Server) -> Iterator[Proxy]:
    with Proxy(rabbitmq.port) as proxy:
        yield proxy


@pytest.fixture
def connect(way: Proxy) -> Iterator[Open]:
    opened: list[AmqpTransport] = []

    def make(**options: Any) -> AmqpTransport:
        url = Url.parse(f"amqp://guest:guest@127.0.0.1:{way.port}//")
        made = AmqpTransport(url, options, Context())
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def agreed(rabbitmq: Server, **settings: Any) -> tuple[float, float]:
    """The heartbeat that we wish for by these settings, and the one that is agreed on."""
    chosen = Settings()
    chosen.update(settings)
    address = read_address(Url.parse(rabbitmq.url), Options(), Context(settings=chosen))
    link = Link(address, "a test")
    link.close()
    return address.heartbeat, link.heartbeat


def test_the_heartbeat_is_ten_seconds_unless_another_is_set(rabbitmq: Server) -> None:
    assert agreed(rabbitmq) == (10, 10)
    assert agreed(rabbitmq, broker_heartbeat=7) == (7, 7)
    # The broker's own wish is a minute, and the smaller one holds.
    assert agreed(rabbitmq, broker_heartbeat=120) == (120, 60)
    for none in (0, None):
        assert agreed(rabbitmq, broker_heartbeat=none) == (0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT is Linux'")
@pytest.mark.parametrize(
    ("heartbeat", "silence", "idle"), [(10, 20_000, 10), (0, 30_000, 10), (60, 120_000, 60)]
)
def test_the_system_gives_a_peer_up_no_earlier_than_heartbeats_do(
    connect: Open, heartbeat: int, silence: int, idle: int
) -> None:
    link = connect(heartbeat=heartbeat).connect(5.0, "a test")
    tcp = socket.IPPROTO_TCP
    assert link.socket.getsockopt(tcp, socket.TCP_USER_TIMEOUT) == silence
    assert link.socket.getsockopt(tcp, socket.TCP_KEEPIDLE) == idle
    assert link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    link.close()


def fetch_for(consumer: AmqpConsumer, seconds: float) -> None:
    """Fetch, and find nothing."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert not consumer.fetch(1, 0.5)


def test_a_consumer_leaves_a_dead_connection_after_two_heartbeats(
    connect: Open, way: Proxy
) -> None:
    transport = connect(heartbeat=1)
    consumer = transport.consume([Queue(name="silence")], Owner(id=new_owner_id()))
    assert not consumer.fetch(1, 0.0)
    way.swallow()
    way.heal()
    begin = time.monotonic()
    # The broker notices as well, at about the same time, and the proxy passes that on.
    with pytest.raises(TransportUnavailable, match=r"nothing was heard|reset|closed"):
        fetch_for(consumer, 10.0)
    assert time.monotonic() - begin < 4.0
    fresh = connect()
    fresh.publish([Publication(Message(b"x"), "silence")])
    assert len(consumer.fetch(1, 10.0)) == 1
    consumer.close()
    fresh.delete("silence")


def test_a_publisher_that_is_idle_notices_and_loses_no_time_later(
    connect: Open, way: Proxy
) -> None:
    transport = connect(heartbeat=1)
    transport.ping()
    link = transport.publisher._link
    assert link is not None
    # The broker's heartbeats of these seconds lie unread, unless somebody reads them.
    until(lambda: time.monotonic() - link.said < 0.1 and link.heard > link.said - 1, "it beats")
    way.swallow()
    way.heal()
    until(lambda: link.error is not None, "it is noticed", 5.0)
    transport.publish([Publication(Message(b"x"), "silence")], timeout=1.0)
    transport.delete("silence")


def test_a_connection_that_the_broker_closed_is_noticed_by_an_idle_client(
    connect: Open, way: Proxy
) -> None:
    transport = connect(heartbeat=3)
    transport.ping()
    link = transport.publisher._link
    assert link is not None
    way.cut()
    until(lambda: link.error is not None, "it is noticed", 5.0)


def test_a_process_that_was_stopped_does_not_blame_the_broker(connect: Open) -> None:
    link = connect(heartbeat=5).connect(5.0, "a test")
    with link.lock:
        while link.read():
            pass
        now = time.monotonic()
        # As after a pause of this machine: neither side did anything.
        link.heard = link._looked = now - 60.0
        link.tick()
        assert link.error is None
        # As with a broker that sent nothing while we listened.
        link.heard, link._looked = now - 60.0, time.monotonic()
        with pytest.raises(TransportUnavailable, match="nothing was heard"):
            link.tick()


def test_a_client_gets_its_result_though_its_network_died(place: Places, way: Proxy) -> None:
    here = place(result_backend="rpc://", broker_heartbeat=2.0)
    with here.worker():
        here.app.close()
        here.app.conf.update(broker_url=f"amqp://guest:guest@127.0.0.1:{way.port}//")
        result: Any = here.send("nap", "a", 1.0)
        until(lambda: "begin a" in here.said(), "it runs")
        assert way.connections
        way.swallow()
        way.heal()
        begin = time.monotonic()
        assert result.get(timeout=30) == "a"
        assert time.monotonic() - begin < 9.0


def test_a_broker_that_blocks_publishers_is_not_taken_for_dead(
    connect: Open, rabbitmq: Server
) -> None:
    link = connect(heartbeat=1).connect(5.0, "a test")
    sent = publish_to(1, "", "nowhere") + content(1, Message(b"x"), {}, link.frame_max)
    with link.lock:
        channel = link.new_channel(1)
        channel.call(frames.CHANNEL_OPEN, b"\0", frames.CHANNEL_OPEN_OK)
    rabbitmq.control("set_vm_memory_high_watermark", "0")
    try:
        until(lambda: _blocked(link, sent), "it is blocked")
        begin = time.monotonic()
        while time.monotonic() - begin < 4.0:
            with link.lock:
                link.pump(0.2)
        assert link.blocked
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.6")

    def unblocked() -> bool:
        with link.lock:
            link.pump(0.2)
        return not link.blocked

    until(unblocked, "it goes on")
    link.close()


def _blocked(link: Link, sent: bytes) -> bool:
    with link.lock:
        link.send(sent)
        link.pump(0.2)
    return bool(link.blocked)
