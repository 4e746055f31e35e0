"""The bridge keeps the contract of transports, on kombu transports of different kinds."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caraway.interfaces import Context
from caraway.message import Settlement
from caraway.testing.conformance import TransportSuite
from caraway.testing.conformance.transport_case import bodies
from caraway.testing.servers import Server, free_port
from caraway.url import Url
from caraway_kombu.facts import FACTS


class ByKombu(TransportSuite):
    factory = "caraway_kombu.transport:KombuTransport"
    virtual_clock = False
    scheme = ""
    slow = 0.6
    """As `tick`, for tests that would fail if a few round trips took as long."""

    # It takes a dozen round trips to move one delayed message.

    def test_messages_become_due_one_by_one(self) -> None:
        self.tick = self.slow  # type: ignore[misc]
        super().test_messages_become_due_one_by_one()

    def test_a_message_is_not_delivered_before_it_is_due(self) -> None:
        self.tick = self.slow  # type: ignore[misc]
        super().test_a_message_is_not_delivered_before_it_is_due()

    def test_a_batch_of_thousands_arrives_whole_and_in_order(self) -> None:
        """Hundreds: kombu needs four round trips for each."""
        self.publish(*range(400))
        assert self.drain(self.consumer(), 400, limit=150) == [b"%d" % n for n in range(400)]

    def make(self, tmp_path: Path) -> Callable[[Context], Any]:
        """Overridden so that what counts is what a connection declares."""
        from caraway_kombu.transport import KombuTransport

        url = Url.parse(self.url(tmp_path))
        return lambda context: KombuTransport(url, {}, context)

    @property
    def entry_capabilities(self) -> Any:  # type: ignore[override]
        return FACTS[self.scheme].capabilities


class AtTheEnd:
    """What comes back goes to the end of its queue: kombu has no way to its head."""

    def test_a_released_message_keeps_its_age(self: Any) -> None:
        self.publish(1, 2, 3, 4)
        consumer = self.consumer()
        first, second = self.take(consumer, 2)
        consumer.settle([Settlement(d.tag, "release") for d in (second, first)])
        assert sorted(bodies(self.take(consumer, 4))) == [b"1", b"2", b"3", b"4"]

    def test_a_closed_consumer_gives_back_what_it_held_uncounted(self: Any) -> None:
        self.publish(1, 2, 3)
        consumer = self.consumer()
        self.take(consumer, 2)
        consumer.close()
        taken = self.take(self.consumer(transport=self.open()), 3)
        assert sorted(bodies(taken)) == [b"1", b"2", b"3"]
        assert [delivery.attempt for delivery in taken] == [1, 1, 1]


class TestInMemory(AtTheEnd, ByKombu):
    scheme = "memory"
    tick = slow = 0.15

    def url(self, tmp_path: Path) -> str:
        return "kombu+memory://"


class TestInFiles(ByKombu):
    scheme = "filesystem"
    rounds = 2

    def url(self, tmp_path: Path) -> str:
        return f"kombu+filesystem://{tmp_path}/messages"


class TestOnRedis(AtTheEnd, ByKombu):
    scheme = "redis"
    unreachable = f"kombu+redis://127.0.0.1:{free_port()}/0"
    server: Server
    rounds = 1

    @pytest.fixture(autouse=True)
    def _server(self, redis: Server) -> None:
        type(self).server = redis
        self._ask("FLUSHALL")

    def _ask(self, *words: str) -> None:
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=5.0) as connection:
            connection.sendall(" ".join(words).encode() + b"\r\n")
            connection.recv(1000)

    def url(self, tmp_path: Path) -> str:
        return f"kombu+redis://127.0.0.1:{self.server.port}/1"

    def cut(self) -> None:
        self._ask("CLIENT", "KILL", "TYPE", "normal")
        self._ask("CLIENT", "KILL", "TYPE", "pubsub")
