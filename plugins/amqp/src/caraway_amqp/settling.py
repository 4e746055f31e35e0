"""Settlements as frames: what ends a delivery, and what takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caraway.errors import TransportError
from caraway.message import Publication, Settlement, Tag
from caraway_amqp.arrivals import Arrival, again
from caraway_amqp.dead_letters import letter_of
from caraway_amqp.frames import acknowledge, give_back
from caraway_amqp.topology import derived

if TYPE_CHECKING:
    from caraway_amqp.session import Session

_MASK = (1 << 40) - 1


def settle(session: Session, settlements: Sequence[Settlement]) -> Sequence[Tag]:
    """See `Consumer.settle`; with the link's lock held.

    Raises:
        PublishError: what is to take the place of some can't be published; all stay.
        TransportUnavailable: likewise.
    """
    held, base, mask = session.held, session.base, _MASK
    transport, renewed = session.transport, session.renewal.numbers
    fenced: list[Tag] = []
    acks: list[int] = []
    nacks: list[int] = []
    replaced: list[tuple[int, Publication, dict[str, Any]]] = []
    chosen: dict[int, Arrival] = {}
    notes: list[tuple[Arrival, int]] = []
    for settlement in settlements:
        tag = settlement.tag
        number = tag & mask if type(tag) is int and tag & ~mask == base else 0
        arrival = held.get(number)
        if arrival is None or number in chosen:
            fenced.append(tag)
            continue
        chosen[number] = arrival
        if settlement.action == "ack":
            acks.append(number)
        elif settlement.action == "reject":
            letter = letter_of(arrival.delivery, settlement, transport.clock())
            replaced.append((number, *letter))
        else:
            count = arrival.delivery.attempt - (not settlement.counted)
            if settlement.delay > 0:
                due = transport.clock() + settlement.delay
                replaced.append((number, *again(arrival, arrival.queue, count, due)))
            elif number in renewed:
                # It lies in a queue that only we have.
                home = derived("suspects", arrival.queue) if arrival.suspect else arrival.queue
                replaced.append((number, *again(arrival, home, count, 0.0)))
            else:
                nacks.append(number)
                if not arrival.suspect:
                    notes.append((arrival, count))
    if replaced:
        transport.publisher.publish(
            [each[1] for each in replaced], extras=[each[2] for each in replaced]
        )
        acks += [each[0] for each in replaced]
    for arrival, count in notes:
        transport.attempts.note(arrival.queue, arrival.delivery.message, count)
    for number in chosen:
        del held[number]
    copies: list[int] = []
    if renewed:
        copies = [renewed[number] for number in acks if number in renewed]
        acks = [number for number in acks if renewed.pop(number, None) is None]
    try:
        session.channel.send(_frames(session, acks, copies, nacks))
    except TransportError:
        fenced += [base | number for number in chosen]
    return fenced


def _frames(session: Session, acks: list[int], copies: list[int], nacks: list[int]) -> bytes:
    # In order of their tags: quorum queues give back in this order.
    channel = session.channel.number
    parts = [give_back(channel, number) for number in sorted(nacks)]
    # Each for itself: what came before a copy may be unread.
    parts += [acknowledge(channel, number) for number in copies]
    if acks:
        acks.sort()
        still = [*session.held, *(arrival.number for arrival in session.waiting)]
        still += [arrival.number for arrival in session.moving]
        still += session.renewal.numbers.values()
        lowest = min(still, default=acks[-1] + 1)
        whole = [number for number in acks if number < lowest]
        if whole:
            parts.append(acknowledge(channel, whole[-1], multiple=True))
        parts += [acknowledge(channel, number) for number in acks[len(whole) :]]
    return b"".join(parts)
