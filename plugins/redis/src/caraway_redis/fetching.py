"""From what the fetch script answers to deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caraway.message import Delivery, Message
from caraway.protocol.envelope import decode, message_of
from caraway.protocol.times import epoch


def delivery(tag: int, queue: str, payload: bytes) -> Delivery:
    """One delivery; a payload that can't be read becomes one with its defect."""
    try:
        envelope = decode(payload)
    except ValueError as exc:
        return Delivery(Message(payload, {}), tag, queue, defect=f"no envelope: {exc}"[:500])
    priority = envelope.properties.get("priority")
    message = message_of(envelope)
    expires = message.headers.get("expires")
    return Delivery(
        message,
        tag,
        queue,
        envelope.attempt + 1,
        envelope.expires if expires is None else _time(expires),
        priority if type(priority) is int else 0,
        due=envelope.due,
    )


def _time(value: Any) -> float:
    try:
        return epoch(value)
    except (ValueError, TypeError, OverflowError):
        return 0.0


def deliveries(base: int, groups: Sequence[Any], queues: Sequence[str]) -> list[Delivery]:
    """All of an answer's groups: queue's index, payloads."""
    taken: list[Delivery] = []
    tag = base
    for group in groups:
        queue = queues[group[0]]
        for payload in group[1]:
            taken.append(delivery(tag, queue, payload))
            tag += 1
    return taken


def entry_delivery(tag: int, entry: bytes) -> Delivery:
    """A delivery from a held entry: step, queue and payload, a line each."""
    _, queue, payload = entry.split(b"\n", 2)
    return delivery(tag, queue.decode(), payload)
