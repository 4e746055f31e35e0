"""A network that swallows all is noticed in seconds, by whoever uses it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import TransportUnavailable
from caraway.message import Owner, StoredResult
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
