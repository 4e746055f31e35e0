"""A network that swallows all is noticed in seconds; a long one is met with larger batches."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from redis import Redis

from caraway import Caraway
from caraway.errors import TransportUnavailable
from caraway.message import Message, Notice, Owner, StoredResult, Topic
from caraway.testing.proxy import Proxy
from caraway.testing.servers import Server


@pytest.fixture
def proxy(redis: Server) -> Iterator[Proxy]:
    with Proxy(redis.port) as made:
        yield made


@pytest.fixture
def app(proxy: Proxy) -> Iterator[Any]:
    made = app_at(proxy.port)
    yield made
    made.close()


def app_at(port: int) -> Any:
    url = f"redis://127.0.0.1:{port}/5"
    return Caraway("half-open", broker=url, backend=url, set_as_current=False)


def test_a_renewal_is_given_up_while_there_is_time_for_another(app: Any, proxy: Proxy) -> None:
    owner = Owner(id="half-open", worker="w", host="h", pid=1, lease=30.0, tasks=())
    consumer = app.transport.consume((), owner)
    proxy.swallow()
    began = time.monotonic()
    with pytest.raises(TransportUnavailable, match="in time"):
        app.transport.renew([owner.id])
    assert time.monotonic() - began < 4.0
    proxy.heal()
    assert app.transport.renew([owner.id]) == []
    consumer.close()


def test_one_dead_connection_ends_the_idle_ones_beside_it(app: Any, proxy: Proxy) -> None:
    link = app.transport.link
    wires = [link._take(5.0) for _ in range(3)]
    for wire in wires:
        link._give(wire)
    assert proxy.connections == 3
    proxy.swallow()
    with pytest.raises(TransportUnavailable):
        link.call("PING", timeout=0.2)
    proxy.heal()
    assert link.call("PING", timeout=0.5) in (b"PONG", "PONG")


def test_who_waits_for_a_result_connects_anew(app: Any, proxy: Proxy, redis: Server) -> None:
    wait = app.backend.wait
    assert wait(["other"], 0.1) == {}  # it is connected
    proxy.swallow()
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(wait(["half-open"], 30.0)))
    waiting.start()
    time.sleep(0.5)
    proxy.heal()
    other = app_at(redis.port)
    other.backend.store([StoredResult("half-open", "SUCCESS", b'{"status":"SUCCESS"}', 60.0)])
    other.close()
    began = time.monotonic()
    waiting.join(20.0)
    assert [set(each) for each in found] == [{"half-open"}]
    assert time.monotonic() - began < 8.0


def test_who_waited_already_connects_anew_and_reads_what_is_there(
    opened: Any, proxy: Proxy, redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was on its way when the network began to swallow: only asking tells."""
    monkeypatch.setattr("caraway_redis.listening._PATIENCE", 0.2)
    backend = opened.backend(f"redis://127.0.0.1:{proxy.port}/5", health_check_interval=0.1)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(backend.wait(["waited"], 20.0)))
    with Redis(port=redis.port, db=5) as client:
        waiting.start()
        while not client.pubsub_channels("*waited"):
            time.sleep(0.01)
        proxy.swallow()
        opened.backend(f"redis://127.0.0.1:{redis.port}/5").store(
            [StoredResult("waited", "SUCCESS", b'{"status":"SUCCESS"}', 60.0)]
        )
        proxy.heal()
        waiting.join(10.0)
        assert set(found[0]) == {"waited"}


def test_a_subscription_that_hears_nothing_any_more_is_made_anew(
    opened: Any, proxy: Proxy, redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caraway_redis.broadcast._PATIENCE", 0.2)
    monkeypatch.setattr("caraway_redis.broadcast._BLOCK", 1)
    transport = opened.transport(f"redis://127.0.0.1:{proxy.port}/5", health_check_interval=0.1)
    topics = [Topic("celery.pidbox", "", "fanout"), Topic("reply", "me", "direct")]
    subscription = transport.broadcast().subscribe(topics)
    # While all is well, asking does no harm.
    assert subscription.receive(0.7) == ()
    proxy.swallow()
    failed = 0
    end = time.monotonic() + 10.0
    other = opened.transport(f"redis://127.0.0.1:{redis.port}/5").broadcast()
    heard: set[str] = set()
    while len(heard) < 2:
        assert time.monotonic() < end
        try:
            heard |= {notice.topic.exchange for notice in subscription.receive(0.1)}
        except TransportUnavailable:
            failed += 1
            proxy.heal()
        other.publish([Notice(topic, Message(b"{}", {})) for topic in topics])
    assert failed
    subscription.close()


def test_lanes_of_a_far_server_take_larger_batches(app: Any, proxy: Proxy) -> None:
    owner = Owner(id="near", worker="w", host="h", pid=1, lease=30.0, tasks=())
    app.transport.consume((), owner).close()
    proxy.delay(0.002)
    other = app_at(proxy.port)
    try:
        other.transport.consume((), msgspec.structs.replace(owner, id="far")).close()
        assert app.transport.fetches_at_once < other.transport.fetches_at_once == 1024
    finally:
        other.close()
