"""A Redis of this session's own, and what its keyspace may hold after a test."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from redis import Redis

from caraway.errors import OperationalError
from caraway.interfaces.context import Context
from caraway.message import Message, Owner, Publication, Queue, new_owner_id
from caraway.testing.servers import Server, server
from caraway.url import Url
from caraway_redis.backend import RedisBackend
from caraway_redis.transport import RedisTransport

# What may be left for ever: the counter of tags, dead letters, which wait for somebody's
# decision, and results that were stored to be kept for ever.
_STAYS = re.compile(r"caraway:(seq|dead[:-].*)|celery-task(set)?-meta-.*|caraway:join:.*")


class Leaks:
    """Looks for what is left behind."""

    def __init__(self, port: int) -> None:
        self.client: Redis = Redis(port=port, db=1)
        self._url = f"redis://127.0.0.1:{port}/1"

    def reset(self) -> None:
        """Begin with nothing."""
        self.client.flushall()

    def left(self) -> list[str]:
        """Keys without an end that should have one, channels, connections."""
        client = self.client
        out = []
        for key in client.scan_iter(count=1000):
            name = key.decode()
            if not _STAYS.fullmatch(name) and client.ttl(key) == -1:
                out.append(f"{client.type(key).decode()} {name}")
        out += [f"channel {name.decode()}" for name in client.pubsub_channels()]
        if client.pubsub_numpat():
            out.append("patterns are subscribed")
        own = str(client.client_id())
        others = [each for each in client.client_list() if each["id"] != own]
        out += [f"connection {each['id']} ({each['cmd']})" for each in others]
        return out

    def check(self) -> None:
        """Nothing is left; connections that were just closed may take a moment.  What
        killed processes left goes with the first sweep after their leases' end."""
        if self.client.exists("caraway:owners", "caraway:orphans"):
            transport = RedisTransport(Url.parse(self._url), {}, Context())
            for key in ("caraway:owners", "caraway:orphans"):
                for member in self.client.zrange(key, 0, -1):
                    self.client.zadd(key, {member: 1.0})
                transport.sweep()
            # Those that were ended just now are looked after for a while.
            for member in self.client.zrange("caraway:orphans", 0, -1):
                self.client.zadd("caraway:orphans", {member: 1.0})
            transport.sweep()
            transport.close()
        end = time.monotonic() + 3.0
        while self.left() and time.monotonic() < end:
            time.sleep(0.02)
        assert self.left() == []


@pytest.fixture(scope="session")
def redis() -> Iterator[Server]:
    with server("redis") as running:
        yield running


@pytest.fixture(scope="session")
def leaks(redis: Server) -> Iterator[Leaks]:
    found = Leaks(redis.port)
    yield found
    found.client.close()


@pytest.fixture
def url(redis: Server, leaks: Leaks, opened: Opened) -> Iterator[str]:
    """Of an empty database; what the test opened is closed, and must leave nothing."""
    leaks.reset()
    yield f"redis://127.0.0.1:{redis.port}/1"
    opened.close()
    leaks.check()


@pytest.fixture
def client(leaks: Leaks, url: str) -> Redis:
    """redis-py's, on the test's database."""
    return leaks.client


class Opened:
    """Opens components, and closes them at the end."""

    def __init__(self) -> None:
        self._all: list[Any] = []

    def transport(self, url: str, settings: Any = None, **options: Any) -> RedisTransport:
        made = RedisTransport(Url.parse(url), options, Context(settings=settings or {}))
        self._all.append(made)
        return made

    def backend(self, url: str, settings: Any = None, **options: Any) -> RedisBackend:
        made = RedisBackend(Url.parse(url), options, Context(settings=settings or {}))
        self._all.append(made)
        return made

    @staticmethod
    def consumer(transport: RedisTransport, *queues: str, lease: float = 60.0) -> Any:
        return transport.consume(
            [Queue(name=name) for name in queues or ("q",)],
            Owner(id=new_owner_id(), lease=lease),
        )

    @staticmethod
    def publication(body: object = b"[]", queue: str = "q", **fields: Any) -> Publication:
        raw = body if isinstance(body, bytes) else str(body).encode()
        headers = {"lang": "py", "task": "a.task", "id": f"id-{raw.decode()}"}
        return Publication(Message(raw, headers), queue, **fields)

    def close(self) -> None:
        failed: OperationalError | None = None
        while self._all:
            try:
                self._all.pop().close()
            except OperationalError as exc:
                failed = failed or exc
        if failed is not None:
            raise failed


@pytest.fixture
def opened() -> Iterator[Opened]:
    made = Opened()
    yield made
    made.close()


@pytest.fixture
def until() -> Callable[..., Any]:
    """Wait for a condition; fails if it doesn't come true."""

    def wait(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
        end = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > end:
                raise AssertionError("it didn't happen in time")
            time.sleep(0.01)
        return found

    return wait


@pytest.fixture
def refusing() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
