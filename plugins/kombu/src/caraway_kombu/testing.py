"""The conformance suite of transports, for those by kombu: for this bundle's tests and those
of bundles that build on it.  See docs/plugin-authors/kombu.md."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from caraway.errors import PublishError
from caraway.message import Message, Publication, Settlement
from caraway.testing.conformance import TransportSuite
from caraway.testing.conformance.suite import raises
from caraway.testing.conformance.transport_case import bodies
from caraway.url import Url
from caraway_kombu.facts import FACTS

if TYPE_CHECKING:
    from caraway.interfaces import Capability, Context


class KombuSuite(TransportSuite):
    """`TransportSuite`, at the pace of kombu.

    Attributes:
        scheme: of the kombu transport, whose facts are held to the truth.
        slow: as `tick`, for tests that would fail if a few round trips took as long.
        many: messages of the test that publishes a large batch.
    """

    factory = "caraway_kombu.transport:KombuTransport"
    virtual_clock = False
    scheme: ClassVar[str] = ""
    slow: ClassVar[float] = 0.6
    many: ClassVar[int] = 400

    # It takes a dozen round trips to move one delayed message.

    def test_messages_become_due_one_by_one(self) -> None:
        self.tick = self.slow  # type: ignore[misc]
        super().test_messages_become_due_one_by_one()

    def test_a_message_is_not_delivered_before_it_is_due(self) -> None:
        self.tick = self.slow  # type: ignore[misc]
        super().test_a_message_is_not_delivered_before_it_is_due()

    def test_delayed_messages_outlive_their_connection(self) -> None:
        self.tick = self.slow  # type: ignore[misc]
        super().test_delayed_messages_outlive_their_connection()

    def test_a_batch_of_thousands_arrives_whole_and_in_order(self) -> None:
        """Hundreds: kombu needs four round trips for each."""
        count = self.many
        self.publish(*range(count))
        assert self.drain(self.consumer(), count, limit=150) == [b"%d" % n for n in range(count)]

    def make(self, tmp_path: Path) -> Callable[[Context], Any]:
        """Overridden so that what counts is what a connection declares."""
        from caraway_kombu.transport import KombuTransport

        url = Url.parse(self.url(tmp_path))
        return lambda context: KombuTransport(url, self.options, context)

    @property
    def entry_capabilities(self) -> frozenset[Capability]:  # type: ignore[override]
        return FACTS[self.scheme].capabilities


class Refused:
    """Mixed in before `KombuSuite` where a broker has a limit for messages that these exceed."""

    def test_a_body_of_16_mebibytes_arrives(self: Any) -> None:
        """It is refused, by name."""
        self.refused(Message(b"x" * (16 << 20), {"task": "check", "id": self.task_id()}))

    def test_a_header_of_a_mebibyte_arrives(self: Any) -> None:
        """It is refused, by name."""
        self.refused(Message(b"[]", {"task": "check", "id": self.task_id(), "long": "x" * 2**20}))

    def refused(self: Any, message: Message) -> None:
        """Publishing fails; what comes after it arrives."""
        with raises(PublishError) as caught:
            self.transport.publish([Publication(message, self.name())], timeout=self.patience)
        assert getattr(caught[0], "failed", ()) == (0,)
        self.publish("after")
        assert bodies(self.take(self.consumer(), 1)) == [b"after"]


class AtTheEnd:
    """Mixed in before `KombuSuite` where what comes back goes to the end of its queue: kombu
    has no way to its head."""

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
