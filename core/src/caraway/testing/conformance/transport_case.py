"""What the tests of transports share."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.interfaces.context import Context
from caraway.message import (
    Delivery,
    Message,
    Owner,
    Publication,
    Queue,
    QueueStats,
    Settlement,
    new_owner_id,
)
from caraway.testing.conformance.suite import Suite, load, skip
from caraway.url import Url

if TYPE_CHECKING:
    from caraway.interfaces.backend import Backend
    from caraway.interfaces.transport import Consumer, Transport


def ack(*deliveries: Delivery) -> list[Settlement]:
    """Settlements that acknowledge these."""
    return [Settlement(delivery.tag) for delivery in deliveries]


def bodies(deliveries: Iterable[Any]) -> list[bytes]:
    """The bodies of these deliveries, or of other things that have a message."""
    return [bytes(delivery.message.body) for delivery in deliveries]


class TransportCase(Suite):
    """Base of the transports' tests.

    Attributes:
        backend_factory: for `Capability.ATOMIC_COMMIT`: the backend that shares the
            store, as ``"package.module:Class"`` or itself; made with the same URL.
    """

    kind = "transport"
    backend_factory: ClassVar[Any] = None

    def backend_url(self, tmp_path: Path) -> str:
        """The URL of the backend that shares the store; by default `url`."""
        return self.url(tmp_path)

    def make_backend(self, tmp_path: Path) -> Callable[[Context], Backend]:
        """As `make`, for the backend that shares the store."""
        target = self.plain("backend_factory")
        if target is None:
            raise skip("no backend_factory given")
        factory = load(target)
        url = Url.parse(self.backend_url(tmp_path))
        return lambda context: factory(url, {}, context)

    # -- helpers -----------------------------------------------------------------------

    @property
    def transport(self) -> Transport:
        """The test's first connection."""
        found: Transport = self.subject
        return found

    def name(self, label: str = "queue") -> str:
        """A queue's name that only this test uses; the queue is deleted at the end."""
        name = f"check-{self.unique}-{label}"
        if name not in self._named:
            self._named.append(name)
        return name

    @functools.cached_property
    def _named(self) -> list[str]:
        named: list[str] = []

        def delete() -> None:
            transport = self.make(self.tmp_path)(self.context)
            try:
                for name in named:
                    transport.delete(name)
            finally:
                transport.close()

        self._cleanups.insert(0, delete)
        return named

    def task_id(self, label: object = "") -> str:
        """A task's id that only this test uses."""
        return f"{self.unique}-{label}"

    def publication(self, body: object = b"[]", queue: str = "", **fields: Any) -> Publication:
        """One publication: a task message whose id goes by its body."""
        raw = body if isinstance(body, bytes) else str(body).encode()
        headers = {
            "lang": "py",
            "task": "check.task",
            "id": self.task_id(raw[:64].decode("latin-1")),
        }
        return Publication(Message(raw, headers), queue or self.name(), **fields)

    def publish(self, *bodies: object, queue: str = "", **fields: Any) -> None:
        """Publish messages with these bodies, in one batch."""
        self.transport.publish([self.publication(body, queue, **fields) for body in bodies])

    def consumer(
        self,
        *queues: str,
        transport: Transport | None = None,
        lease: float = 0.0,
        owner: str = "",
        **fields: Any,
    ) -> Consumer:
        """A consumer of these queues with an owner of its own."""
        names = queues or (self.name(),)
        who = Owner(id=owner or new_owner_id(), lease=lease or self.unit * 100, **fields)
        chosen = self.transport if transport is None else transport
        consumer = chosen.consume([Queue(name=name) for name in names], who)
        self._cleanups.append(consumer.close)
        return consumer

    def take(self, consumer: Consumer, count: int, timeout: float | None = None) -> list[Delivery]:
        """Fetch this many messages, in as many fetches as it takes; fails if fewer come."""
        deadline = time.monotonic() + (self.patience if timeout is None else timeout)
        taken: list[Delivery] = []
        while len(taken) < count:
            if time.monotonic() > deadline:
                raise AssertionError(f"{len(taken)} of {count} messages came: {bodies(taken)!r}")
            taken += consumer.fetch(count - len(taken), 0.2)
        return taken

    def wait_one(self, consumer: Consumer) -> Delivery:
        """Wait for one message in as few fetches as the transport allows, so that one
        that nobody is woken for comes too late."""
        while True:
            taken = consumer.fetch(1, self.patience * 3)
            if taken:
                return taken[0]

    def nothing(self, consumer: Consumer) -> None:
        """There is nothing to fetch, at once or a little later."""
        taken = [*consumer.fetch(10, 0), *consumer.fetch(10, 0.05)]
        assert not taken, f"fetched {bodies(taken)!r} where nothing was due"

    def depth(self, queue: str = "", transport: Transport | None = None) -> QueueStats:
        """The stats of one queue."""
        chosen = self.transport if transport is None else transport
        (stats,) = chosen.stats([queue or self.name()])
        return stats

    def drain(self, consumer: Consumer, until: int, limit: int = 20) -> list[bytes]:
        """Fetch and acknowledge until so many messages came."""
        done: list[bytes] = []
        deadline = time.monotonic() + self.patience
        while len(done) < until and time.monotonic() < deadline:
            taken = consumer.fetch(limit, 0.1)
            done += bodies(taken)
            if taken:
                fenced: Sequence[Any] = consumer.settle(ack(*taken))
                assert not fenced, "a settlement was fenced off though its lease was good"
        return done
