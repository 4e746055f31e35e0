"""What exists in the broker, and how it is declared.

Task queues, exchanges and bindings as Celery declares them (docs/reference/wire-format.md,
"AMQP"); beside them, queues of our own whose names begin with ``caraway.``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from struct import Struct
from time import monotonic, sleep
from typing import Any

from caraway.errors import TransportError, TransportUnavailable
from caraway.message import Queue
from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.faults import MISMATCH, NOT_FOUND, ChannelClosed
from caraway_amqp.frames import method, short
from caraway_amqp.link import Link
from caraway_amqp.tables import dump_table

DEAD_LETTERS = "caraway.dead"
"""Queue of all dead letters."""
DELAY = "caraway.delay"
"""Exchange at the foot of the ladder; its rungs are ``caraway.delay.<level>``."""
LEVELS = 26
"""Rungs of the ladder that delays messages."""
TICK = 0.064
"""Seconds of its lowest rung.  The highest is 2**25 of them, 24.9 days: RabbitMQ refuses
a time to live above 2**32 milliseconds."""
LONGEST: int = 2**LEVELS - 1
_DURABLE, _EXCLUSIVE, _AUTO_DELETE, _PASSIVE = 2, 4, 8, 1
_two_counts = Struct(">II").unpack_from


def derived(kind: str, queue: str) -> str:
    """The name of a queue of ours that belongs to a task queue."""
    name = f"caraway.{kind}.{queue}"
    return name if len(name.encode()) <= 255 else f"caraway.{kind}.{word(queue)}"


def word(queue: str) -> str:
    """A queue's name as one word of a routing key: no dots, stars or hashes in it."""
    return blake2b(queue.encode(), digest_size=12).hexdigest()


def declare_queue(
    name: str, arguments: Mapping[str, Any], *, durable: bool = True, exclusive: bool = False,
    auto_delete: bool = False, passive: bool = False,
) -> bytes:  # fmt: skip
    """Arguments of ``queue.declare``."""
    flags = durable * _DURABLE | exclusive * _EXCLUSIVE | auto_delete * _AUTO_DELETE | passive
    return b"\0\0" + short(name) + bytes([flags]) + dump_table(arguments)


def declare_exchange(
    name: str, kind: str, *, durable: bool = True, auto_delete: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> bytes:  # fmt: skip
    """Arguments of ``exchange.declare``."""
    flags = durable * 2 | auto_delete * 4
    return b"\0\0" + short(name) + short(kind) + bytes([flags]) + dump_table(arguments or {})


def bind_queue(queue: str, exchange: str, routing_key: str) -> bytes:
    """Arguments of ``queue.bind``."""
    return b"\0\0" + short(queue) + short(exchange) + short(routing_key) + b"\0" + dump_table({})


def bind_exchange(to: str, source: str, routing_key: str) -> bytes:
    """Arguments of ``exchange.bind``."""
    return b"\0\0" + short(to) + short(source) + short(routing_key) + b"\0" + dump_table({})


class Shapes:
    """How queues are to be declared, by the settings.

    Args:
        settings: the app's.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._default = settings.get("task_default_queue") or "celery"
        self._default_type = settings.get("task_default_queue_type") or "classic"
        self._missing_type = settings.get("task_create_missing_queue_type") or "classic"
        self._max_priority = settings.get("task_queue_max_priority")
        self.met: set[str] = set()
        """Queues that turned out to be of type quorum, though declared otherwise."""
        self.native_type = settings.get("broker_native_delayed_delivery_queue_type") or "quorum"
        configured = settings.get("task_queues") or ()
        self._configured = {
            each if isinstance(each, str) else str(dict(each).get("name", ""))
            if isinstance(each, Mapping) else getattr(each, "name", "")
            for each in configured
        }  # fmt: skip

    def own(self, queue: Queue) -> dict[str, Any]:
        """The arguments of queues of ours that belong to this one: replicated as it is."""
        kind = self.arguments(queue).get("x-queue-type")
        if kind == "quorum" or queue.name in self.met:
            return {"x-queue-type": "quorum"}
        return {}

    def native(self, queue: Queue) -> bool:
        """Celery delays messages for this queue in the broker."""
        quorum = self.arguments(queue).get("x-queue-type") == "quorum"
        return quorum and queue.exchange_type == "topic" and bool(queue.exchange)

    def arguments(self, queue: Queue) -> dict[str, Any]:
        """The arguments to declare this queue with; none where Celery has none."""
        found = dict(queue.arguments)
        kind = found.get("x-queue-type")
        if kind is None:
            kind = "classic"
            if queue.name == self._default:
                kind = self._default_type
            elif queue.name not in self._configured:
                kind = self._missing_type
            if kind != "classic":
                found["x-queue-type"] = kind
        priority = queue.max_priority if queue.max_priority is not None else self._max_priority
        if priority and kind == "classic":
            found.setdefault("x-max-priority", int(priority))
        return found


def ensure(link: Link, channel: Channel, queue: Queue, shapes: Shapes, log: Any) -> Channel:
    """Declare a task queue, its exchange and binding; return the channel to go on with.

    A queue that exists with other arguments is used as it is, with a warning: who made it
    may be a Celery that is configured otherwise.

    Raises:
        ChannelClosed: the broker refuses.
    """
    arguments = shapes.arguments(queue)
    declared = declare_queue(queue.name, arguments, durable=queue.durable)
    try:
        channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
    except ChannelClosed as exc:
        if exc.code != MISMATCH:
            raise
        channel = link.channel()
        passive = declare_queue(queue.name, {}, passive=True)
        channel.call(frames.QUEUE_DECLARE, passive, frames.QUEUE_DECLARE_OK)
        if "current is the value 'quorum'" in exc.text or "current is 'quorum'" in exc.text:
            shapes.met.add(queue.name)
        log.warning(
            "queue %r exists with other arguments than ours (%r); it is used as it is. "
            "RabbitMQ says: %s. %s",
            queue.name, arguments, exc.text, exc.hint,
        )  # fmt: skip
    if not queue.exchange:
        return channel
    kind = queue.exchange_type or "direct"
    try:
        channel.call(
            frames.EXCHANGE_DECLARE, declare_exchange(queue.exchange, kind),
            frames.EXCHANGE_DECLARE_OK,
        )  # fmt: skip
    except ChannelClosed as exc:
        if exc.code != MISMATCH:
            raise
        channel = link.channel()
        log.warning(
            "exchange %r exists otherwise than as ours (%s); it is used as it is. "
            "RabbitMQ says: %s. %s",
            queue.exchange, kind, exc.text, exc.hint,
        )  # fmt: skip
    key = queue.routing_key or queue.name
    bound = bind_queue(queue.name, queue.exchange, key)
    channel.call(frames.QUEUE_BIND, bound, frames.QUEUE_BIND_OK)
    if shapes.native(queue):
        from caraway_amqp.native_delay import receive_delayed

        receive_delayed(channel, queue, key)
    return channel


def declare_own(link: Link, channel: Channel, name: str, arguments: Mapping[str, Any]) -> Channel:
    """Declare a queue of ours, durable; return the channel to go on with.  One that was
    declared otherwise before, as another type, is used as it is."""
    try:
        declared = declare_queue(name, arguments)
        channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
    except ChannelClosed as exc:
        if exc.code != MISMATCH:
            raise
        return link.channel()
    return channel


# -- the ladder ------------------------------------------------------------------------


def ticks(delay: float) -> int:
    """A delay in units of `TICK`, rounded up, 1 to `LONGEST`."""
    return min(max(1, math.ceil(delay / TICK)), LONGEST)


def delay_key(queue: str, count: int) -> str:
    """The routing key of a delayed message: the bits of its delay, highest first, then
    the queue's word."""
    return ".".join(format(count, f"0{LEVELS}b")) + "." + word(queue)


def rung(level: int) -> str:
    """The exchange of a rung; below the lowest is the foot of the ladder."""
    return f"{DELAY}.{level}" if level >= 0 else DELAY


def rung_queue(level: int, queue: str) -> str:
    """Where messages for a queue wait on a rung."""
    return derived(f"delay.{level}", queue)


def build_ladder(channel: Channel) -> None:
    """The exchanges of the ladder.  What finds no rung falls to the foot, and is delayed
    anew by who takes it too early: nothing is lost if a rung's queue is deleted."""
    call = channel.call
    call(frames.EXCHANGE_DECLARE, declare_exchange(DELAY, "topic"), frames.EXCHANGE_DECLARE_OK)
    for level in range(LEVELS):
        declared = declare_exchange(rung(level), "topic", arguments={"alternate-exchange": DELAY})
        call(frames.EXCHANGE_DECLARE, declared, frames.EXCHANGE_DECLARE_OK)
        key = "*." * (LEVELS - 1 - level) + "0.#"
        bound = bind_exchange(rung(level - 1), rung(level), key)
        call(frames.EXCHANGE_BIND, bound, frames.EXCHANGE_BIND_OK)


def build_rungs(
    link: Link, channel: Channel, queue: str, own: Mapping[str, Any], bits: int, *, first: bool
) -> Channel:
    """The queues on which messages for a queue wait.

    Args:
        link: where.
        channel: for it.
        queue: the task queue.
        own: arguments of queues of ours that belong to it.
        bits: those of the delay whose queues are to be declared.
        first: they are the first for this queue.

    Returns:
        The channel to go on with.
    """
    if first:
        bound = bind_queue(queue, DELAY, f"#.{word(queue)}")
        channel.call(frames.QUEUE_BIND, bound, frames.QUEUE_BIND_OK)
    for level in range(LEVELS):
        if not bits >> level & 1:
            continue
        name = rung_queue(level, queue)
        arguments: dict[str, Any] = {
            **own,
            "x-message-ttl": int(TICK * 1000) << level,
            "x-dead-letter-exchange": rung(level - 1),
        }
        if own:
            # Confirmed from queue to queue; it asks for the other.
            arguments["x-dead-letter-strategy"] = "at-least-once"
            arguments["x-overflow"] = "reject-publish"
        channel = declare_own(link, channel, name, arguments)
        key = "*." * (LEVELS - 1 - level) + f"1.#.{word(queue)}"
        bound = bind_queue(name, rung(level), key)
        channel.call(frames.QUEUE_BIND, bound, frames.QUEUE_BIND_OK)
    return channel


# -- looking ---------------------------------------------------------------------------


def probe(link: Link, names: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Messages ready in these queues, and their consumers; those that don't exist are left
    out.  Each is asked for on a channel of its own, since the broker answers with closing
    the channel where a queue is missing; all in one go.
    """
    found: dict[str, tuple[int, int]] = {}
    for begin in range(0, len(names), 256):
        part = names[begin : begin + 256]
        channels = [link.new_channel() for _ in part]
        data = b"".join(
            method(channel.number, frames.CHANNEL_OPEN, b"\0")
            + method(channel.number, frames.QUEUE_DECLARE, declare_queue(name, {}, passive=True))
            for channel, name in zip(channels, part, strict=True)
        )
        for channel in channels:
            channel.expect(frames.QUEUE_DECLARE_OK)
        link.send(data)
        for channel, name in zip(channels, part, strict=True):
            try:
                answer = channel.receive()
            except ChannelClosed as exc:
                if exc.code != NOT_FOUND:
                    raise
                continue
            found[name] = _counts(answer)
            channel.close()
    return found


def read_out(
    channel: Channel, queue: str, take: Callable[[], object], *, patience: float = 20.0
) -> None:
    """Have the broker deliver all that a queue holds by now; with the link's lock held.

    Args:
        channel: consumes from the queue, alone.
        take: called after each answer; takes what was delivered.
        patience: seconds for a queue that doesn't answer; the broker itself has 10 at least.

    Raises:
        ChannelClosed: the queue is gone.
        TransportUnavailable: no answer in time.
    """
    asked = method(channel.number, frames.QUEUE_DECLARE, declare_queue(queue, {}, passive=True))
    deadline = monotonic() + patience
    empty = False
    while True:
        _, answer = channel.answer(asked, frames.QUEUE_DECLARE_OK, timeout=max(patience, 10.0))
        take()
        # What the queue has sent may stand behind the first answer in the broker's channel,
        # which asked the queue before it looked at its mail.  It stands before the second.
        if empty:
            return
        ready, consumers = _counts(answer)
        # A quorum queue whose leader stalls for 250 ms is told to hold nothing, and to have
        # no consumers either; but it has us.
        empty = not ready and consumers > 0
        if not consumers:
            if monotonic() > deadline:
                raise TransportUnavailable(
                    f"queue {queue} doesn't answer within {patience:.3g} s",
                    hint="Its leader stalls, or too few of its nodes run: rabbitmqctl status.",
                )
            sleep(0.01)


def _counts(answer: bytes) -> tuple[int, int]:
    """Messages ready and consumers, of a ``queue.declare-ok``."""
    ready, consumers = _two_counts(answer, 5 + answer[4])
    return ready, consumers


def mismatch(exc: TransportError) -> bool:
    """True if the broker has it, declared otherwise."""
    return isinstance(exc, ChannelClosed) and exc.code == MISMATCH
