"""Celery's own delayed delivery: its ladder, so that Celery's delayed messages arrive.

Celery sends what is delayed to the exchange ``celery_delayed_27``, with the bits of the
delay in seconds before the routing key, where queues are of type quorum; workers build the
ladder.  See docs/reference/wire-format.md, "AMQP".
"""

from __future__ import annotations

import math

from caraway.message import Queue
from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.topology import (
    bind_exchange,
    bind_queue,
    declare_exchange,
    declare_queue,
)

LEVELS = 28
FOOT = "celery_delayed_delivery"


def rung(level: int) -> str:
    """The exchange and the queue of a level."""
    return f"celery_delayed_{level}"


def key(delay: float, routing_key: str) -> str:
    """The routing key of a message that is to come after so many seconds, rounded up."""
    seconds = min(max(1, math.ceil(delay)), 2**LEVELS - 1)
    return ".".join(format(seconds, f"0{LEVELS}b")) + "." + routing_key


def build(channel: Channel, kind: str = "quorum") -> None:
    """Declare the ladder.

    Args:
        channel: for it.
        kind: of its queues: the setting `broker_native_delayed_delivery_queue_type`.
    """
    call = channel.call
    for level in range(LEVELS - 1, -1, -1):
        below = rung(level - 1) if level else FOOT
        declared = declare_exchange(rung(level), "topic")
        call(frames.EXCHANGE_DECLARE, declared, frames.EXCHANGE_DECLARE_OK)
        arguments = {
            "x-queue-type": kind,
            "x-overflow": "reject-publish",
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": below,
            "x-message-ttl": 2**level * 1000,
        }
        queue = declare_queue(rung(level), arguments)
        call(frames.QUEUE_DECLARE, queue, frames.QUEUE_DECLARE_OK)
        key = "*." * (LEVELS - 1 - level) + "1.#"
        call(frames.QUEUE_BIND, bind_queue(rung(level), rung(level), key), frames.QUEUE_BIND_OK)
    call(frames.EXCHANGE_DECLARE, declare_exchange(FOOT, "topic"), frames.EXCHANGE_DECLARE_OK)
    for level in range(LEVELS):
        below = rung(level - 1) if level else FOOT
        key = "*." * (LEVELS - 1 - level) + "0.#"
        call(frames.EXCHANGE_BIND, bind_exchange(below, rung(level), key), frames.EXCHANGE_BIND_OK)


def receive_delayed(channel: Channel, queue: Queue, routing_key: str) -> None:
    """Bind a queue and its exchange to the foot of the ladder."""
    key = f"#.{routing_key}"
    call = channel.call
    call(
        frames.EXCHANGE_DECLARE, declare_exchange(FOOT, "topic"), frames.EXCHANGE_DECLARE_OK
    )  # fmt: skip
    call(frames.EXCHANGE_BIND, bind_exchange(queue.exchange, FOOT, key), frames.EXCHANGE_BIND_OK)
    call(frames.QUEUE_BIND, bind_queue(queue.name, queue.exchange, key), frames.QUEUE_BIND_OK)
