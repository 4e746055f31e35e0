"""Who hears a request of remote control is counted, where kombu's transport lets us."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection, pidbox

from caraway.interfaces import Context
from caraway.message import Message, Notice, Topic
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_kombu.transport import KombuTransport

REQUESTS = Topic("celery.pidbox")
Make = Callable[[str], KombuTransport]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[KombuTransport] = []

    def build(url: str) -> KombuTransport:
        made.append(KombuTransport(Url.parse(url), {}, Context()))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def redis_url(redis: Server) -> str:
    """A database that only these tests use."""
    return f"kombu+{redis.url.removesuffix('/0')}/9"


def publish(transport: KombuTransport, topic: Topic = REQUESTS) -> int | None:
    return transport.broadcast().publish([Notice(topic, Message(b"{}"))])


def heard(subscription: Any, topic: Topic = REQUESTS) -> None:
    deadline, found = time.monotonic() + 30.0, []
    while not found:
        assert time.monotonic() < deadline
        found = [(each.topic, each.message.body) for each in subscription.receive(1.0)]
    assert found == [(topic, b"{}")]


def test_redis_counts_our_workers_and_celerys(make: Make, redis_url: str) -> None:
    asks = make(redis_url)
    assert publish(asks) == 0
    ours = [make(redis_url).broadcast().subscribe([REQUESTS], name=f"{n}@x") for n in "ab"]
    assert publish(asks) == 2
    for each in ours:
        heard(each)
    with Connection(redis_url.removeprefix("kombu+")) as connection:
        theirs = pidbox.Mailbox("celery", "fanout", connection).Node("c@x")
        consumer = theirs.listen(channel=connection.default_channel)
        got: list[Any] = []
        consumer.callbacks[:] = [lambda body, message: got.append(body)]
        deadline = time.monotonic() + 30.0
        while not got:
            assert time.monotonic() < deadline
            reached = publish(asks)
            connection.drain_events(timeout=1.0) if reached == 3 else _turn(connection)
        assert reached == 3
    for each in ours:
        each.close()


def _turn(connection: Any) -> None:
    """kombu subscribes when it first waits."""
    try:
        connection.drain_events(timeout=0.1)
    except TimeoutError:
        pass


def test_files_tell_who_is_bound(make: Make, tmp_path: Path) -> None:
    asks, url = make(f"kombu+filesystem://{tmp_path}"), f"kombu+filesystem://{tmp_path}"
    assert publish(asks) == 0
    ours = [make(url).broadcast().subscribe([REQUESTS], name=f"{n}@x") for n in "ab"]
    assert publish(asks) == 2
    for each in ours:
        heard(each)
        each.close()


def test_where_kombu_has_no_count_there_is_none(make: Make) -> None:
    asks = make("kombu+memory://")
    subscription = asks.broadcast().subscribe([REQUESTS], name="a@x")
    assert publish(asks) is None
    heard(subscription)
    subscription.close()


def test_only_requests_are_counted(make: Make, redis_url: str) -> None:
    asks, events = make(redis_url), Topic("celeryev", "worker.x", "topic")
    subscription = make(redis_url).broadcast().subscribe([Topic("celeryev", "#", "topic")])
    assert publish(asks, events) is None
    heard(subscription, events)
    subscription.close()
