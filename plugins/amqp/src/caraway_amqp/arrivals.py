"""What a delivery is, before it is handed out: a verdict on what came.

A classic queue says only that a message was delivered before (``redelivered``), a quorum
queue how often, and neither whether anybody began to run it.  When a worker dies, all
that it had fetched comes back alike: one message that may have killed it, and neighbours
that did nothing.  So what comes back and isn't explained by this process's own doing is a
*suspect*.  It moves to a queue of its own (``caraway.suspects.<queue>``), from which each
consumer runs one at a time.  That it may have run before counts once, however often it came
back.  From then on nothing counts but its runs, each of which is written to the broker before
it begins (`Session.try_one`): coming back from the queue of suspects says nothing.  So no
death of a process is held against what only waited there.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any, Literal

import msgspec

from caraway.message import Delivery, Message, Publication
from caraway_amqp.attempts import Attempts
from caraway_amqp.channel import Content
from caraway_amqp.frames import ATTEMPTS, DUE, EXPIRES, SUSPECT, read_content
from caraway_amqp.topology import derived

_tag = Struct(">Q?").unpack_from
_RETURNS = 8
"""How often a quorum queue may get a message back before it is sent anew: since 4.0, RabbitMQ
drops what came back 20 times, unless the queue says otherwise."""


class Arrival(msgspec.Struct):
    """A delivery, read.

    Attributes:
        number: AMQP's delivery tag.
        queue: the task queue it belongs to.
        suspect: it came from the queue of suspects.
        doubt: None, or one of its attempts may not have been a run; then the worker that
            ran it since, if any has.
        spared: attempts that aren't held against it.
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
    doubt: str | None = None
    spared: int = 0


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
        doubt, moved, spared = own.get(SUSPECT), "", 0
        returned = redelivered and _count(own.get("x-delivery-count")) >= _RETURNS
        if suspect:
            moved = derived("suspects", queue) if returned else ""
            # The worker that ran it last lives, and so it was the lane alone that died: by
            # what it ran, as a rule.  Else the whole worker may have been killed, for any
            # reason, and nothing that is in doubt is held against who was there.
            spared = int(doubt is not None and before > 1 and doubt != worker_here())
        elif redelivered and (noted := self._attempts.take(queue, message)) is not None:
            before, moved = noted, queue if returned else ""
        elif redelivered or doubt:
            moved = derived("suspects", queue)
            before += redelivered and doubt is None
            doubt = doubt or ""
        early = due > self._clock()
        if early:
            # Published to an exchange that can't delay, or by a clock ahead of ours.
            moved = queue
        delivery = Delivery(
            message, base | number, queue, before + 1 - spared, expires, priority, due=due
        )  # fmt: skip
        arrival = Arrival(
            number, queue, suspect, delivery, consumer=tag, doubt=doubt, spared=spared
        )  # fmt: skip
        if moved:
            arrival.verdict = "move"
            arrival.publication, arrival.extra = again(
                arrival, moved, before - spared, due if early else 0.0
            )
        return arrival


def again(
    arrival: Arrival, queue: str, attempts: int, due: float
) -> tuple[Publication, dict[str, Any]]:
    """The publication that takes a delivery's place, and headers of ours for it.

    Args:
        arrival: the delivery.
        queue: where it goes.
        attempts: how many deliveries count so far, without those that it is spared.
        due: not before this time; 0.0 is at once.
    """
    delivery = arrival.delivery
    message = delivery.message
    if "expiration" in message.properties:
        # Milliseconds since it was first published: they would begin anew.
        properties = {k: v for k, v in message.properties.items() if k != "expiration"}
        message = msgspec.structs.replace(message, properties=properties)
    attempts += arrival.spared
    extra: dict[str, Any] = {ATTEMPTS: attempts} if attempts > 0 else {}
    if arrival.doubt is not None:
        extra[SUSPECT] = arrival.doubt
    if delivery.due and not due:
        extra[DUE] = delivery.due
    publication = Publication(
        message, queue, priority=delivery.priority, due=due, expires=delivery.expires
    )
    return publication, extra


@cache
def _worker(pid: int, parent: int) -> str:  # noqa: ARG001 - a fork is another process
    """A name for a lane's parent that no other process has or gets."""
    try:
        began = Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        began = ""
    return f"{socket.gethostname()}/{parent}/{began}"


def worker_here() -> str:
    """Names the worker that this process is a lane of."""
    return _worker(os.getpid(), os.getppid())


def _count(value: Any) -> int:
    return value if type(value) is int and 0 <= value < 1_000_000 else 0


def _time(value: Any) -> float:
    return float(value) if type(value) in (int, float) and value == value else 0.0
