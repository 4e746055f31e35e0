"""What a delivery is, before it is handed out: a verdict on what came.

A classic queue says only that a message was delivered before (``redelivered``), a quorum
queue how often, and neither whether anybody began to run it.  When a worker dies, all
that it had fetched comes back alike: one message that may have killed it, and neighbours
that did nothing.  So what comes back and isn't explained by this process's own doing is a
*suspect*.  It moves to a queue of its own (``caraway.suspects.<queue>``), from which each
consumer takes one at a time, alone.  Being redelivered *there* is proof: its lane died
with nothing else in its hands.  So a poisonous message is counted exactly, and takes no
neighbour along.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, Literal

import msgspec

from caraway.message import Delivery, Message, Publication
from caraway_amqp.attempts import Attempts
from caraway_amqp.channel import Content
from caraway_amqp.frames import ATTEMPTS, DUE, EXPIRES, read_content
from caraway_amqp.topology import derived

_tag = Struct(">Q?").unpack_from


class Arrival(msgspec.Struct):
    """A delivery, read.

    Attributes:
        number: AMQP's delivery tag.
        queue: the task queue it belongs to.
        suspect: it came from the queue of suspects.
        delivery: to be handed out; its tag is complete.
        verdict: ``run``, or ``move`` where `publication` is to take its place.
        publication: what is to take its place.
        extra: headers of ours, of it.
        consumer: AMQP's tag of the consumer that it came by.
        since: when it came or was renewed, of the clock that never jumps.
    """

    number: int
    queue: str
    suspect: bool
    delivery: Delivery
    verdict: Literal["run", "move"] = "run"
    publication: Publication | None = None
    extra: dict[str, Any] = {}
    consumer: str = ""
    since: float = 0.0


def number_of(method: bytes) -> int:
    """AMQP's delivery tag of a ``basic.deliver``."""
    return int.from_bytes(method[5 + method[4] : 13 + method[4]], "big")


def consumer_of(method: bytes) -> str:
    """The consumer's tag of a ``basic.deliver``."""
    return method[5 : 5 + method[4]].decode()


class Reader:
    """Reads deliveries of one consumer.

    Args:
        attempts: what this process knows.
        clock: seconds since the epoch.
    """

    def __init__(self, attempts: Attempts, clock: Callable[[], float]) -> None:
        self._attempts = attempts
        self._clock = clock

    def read(self, content: Content, base: int, sources: dict[str, tuple[str, bool]]) -> Arrival:
        """Judge one.

        Args:
            content: as it came.
            base: of this connection's tags.
            sources: (task queue, whether it is the queue of suspects) by consumer's tag.
        """
        method, header, body = content
        at = 5 + method[4]
        number, redelivered = _tag(method, at)
        tag = method[5:at].decode()
        queue, suspect = sources[tag]
        try:
            message, own = read_content(header, body)
        except ValueError as exc:
            message, own = Message(body), {}
            delivery = Delivery(message, base | number, queue, defect=str(exc))
            return Arrival(number, queue, suspect, delivery, consumer=tag)
        priority = message.properties.get("priority", 0)
        if not own and not redelivered:
            delivery = Delivery(message, base | number, queue, 1, 0.0, priority)
            return Arrival(number, queue, suspect, delivery, consumer=tag)
        before = _count(own.get(ATTEMPTS))
        due, expires = _time(own.get(DUE)), _time(own.get(EXPIRES))
        attempt = before + 1
        moved = ""
        if redelivered:
            noted = self._attempts.take(queue, message)
            if noted is None:
                moved = derived("suspects", queue)
                before += max(1, _count(own.get("x-delivery-count")))
            else:
                attempt = noted + 1
        if due > self._clock():
            # Published to an exchange that can't delay, or by a clock ahead of ours.
            moved = queue
        delivery = Delivery(
            message, base | number, queue, attempt, expires, priority, due=due
        )  # fmt: skip
        arrival = Arrival(number, queue, suspect, delivery, consumer=tag)
        if moved:
            arrival.verdict = "move"
            arrival.publication, arrival.extra = again(
                delivery, moved, before, due if moved == queue else 0.0
            )
        return arrival


def again(
    delivery: Delivery, queue: str, attempts: int, due: float
) -> tuple[Publication, dict[str, Any]]:
    """The publication that takes a delivery's place, and headers of ours for it.

    Args:
        delivery: its.
        queue: where it goes.
        attempts: how many deliveries count so far.
        due: not before this time; 0.0 is at once.
    """
    message = delivery.message
    if "expiration" in message.properties:
        # Milliseconds since it was first published: they would begin anew.
        properties = {k: v for k, v in message.properties.items() if k != "expiration"}
        message = msgspec.structs.replace(message, properties=properties)
    extra: dict[str, Any] = {ATTEMPTS: attempts} if attempts > 0 else {}
    if delivery.due and not due:
        extra[DUE] = delivery.due
    publication = Publication(
        message, queue, priority=delivery.priority, due=due, expires=delivery.expires
    )
    return publication, extra


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1_000_000 else 0


def _time(value: Any) -> float:
    return float(value) if type(value) in (int, float) and value == value else 0.0
