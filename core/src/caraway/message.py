"""Values that travel: message, publication, delivery, settlement.

All frozen, none with behaviour or a way back to what made it.  They are
`msgspec.Struct`, which builds about five times faster than a frozen dataclass.

Times named ``due``, ``expires`` and ``at`` are seconds since the epoch (float), because
they are compared across hosts; durations are seconds (float).
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from msgspec import Struct, field

Tag: TypeAlias = int | str
"""Names one delivery to the consumer that got it.  Opaque, unique per transport."""

OwnerId: TypeAlias = str
"""Names one owner (a lane, a supervisor).  Never used twice: see `new_owner_id`."""


class Message(Struct, frozen=True, gc=False):
    """A task message of protocol 2, or any other message.

    Its fields: docs/reference/wire-format.md, "Task messages".

    Attributes:
        body: serialized ``[args, kwargs, embed]``; stays bytes until someone needs it.
        headers: the protocol's headers.
        content_type: of the body, e.g. ``application/json``.
        content_encoding: ``utf-8`` or ``binary``.
        properties: AMQP's basic properties (``correlation_id``, ``reply_to``,
            ``priority``, ``delivery_mode``, ``expiration`` ...).
    """

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    properties: dict[str, Any] = field(default_factory=dict)


class Queue(Struct, frozen=True, kw_only=True):
    """A queue, and how the broker is to declare it."""

    name: str
    exchange: str = ""
    exchange_type: str = "direct"
    routing_key: str = ""
    durable: bool = True
    max_priority: int | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


class Publication(Struct, frozen=True, gc=False):
    """One message and where it goes.

    Attributes:
        message: what.
        queue: name of the queue it is for (direct routing, the common case).
        exchange: AMQP exchange, empty for the default one (then ``queue`` decides).
        routing_key: for a named exchange.
        priority: 0 to 9 as in AMQP, 9 is served first.
        due: not to be delivered before this time (epoch seconds); 0.0 is now.
        expires: not to be run after this time (epoch seconds); 0.0 is never.
    """

    message: Message
    queue: str
    exchange: str = ""
    routing_key: str = ""
    priority: int = 0
    due: float = 0.0
    expires: float = 0.0


class Delivery(Struct, frozen=True, gc=False):
    """A message handed to one owner.

    Attributes:
        message: what.
        tag: names this delivery in settlements.
        queue: where it came from.
        attempt: how often it was delivered, this time included, counted at the fetch;
            releases that don't count are taken off.  1 is the first.
        expires: see `Publication.expires`.
        priority: see `Publication.priority`.
        revoked: its task id stood in the transport's revocations at the fetch.
        defect: why the stored message can't be read (``""`` when it can).  A defective
            delivery has whatever could be read; the worker parks it.
        due: when it was due, 0.0 where it was not delayed.
    """

    message: Message
    tag: Tag
    queue: str
    attempt: int = 1
    expires: float = 0.0
    priority: int = 0
    revoked: bool = False
    defect: str = ""
    due: float = 0.0


class Settlement(Struct, frozen=True, gc=False):
    """What to do with one delivery.

    Attributes:
        tag: which.
        action: ``ack`` (done, remove), ``release`` (back to its queue),
            ``reject`` (to the dead letters).
        delay: release only: seconds until it may be delivered again.
        counted: release only: False takes the delivery off the attempt count.
        reason: reject only: kept with the dead letter, for people.
        parked: reject only: True for what nobody could judge (unknown task,
            undecodable message) rather than what failed.
    """

    tag: Tag
    action: Literal["ack", "release", "reject"] = "ack"
    delay: float = 0.0
    counted: bool = True
    reason: str = ""
    parked: bool = False


class StoredResult(Struct, frozen=True, gc=False):
    """A task's state as a backend keeps it.

    Attributes:
        task_id: key.
        state: one of `caraway.states`, or a custom one.
        payload: the meta record, already serialized.  The state stands in it too, as
            ``status``, so that a backend need not keep it apart; the rest is opaque.  See
            docs/reference/wire-format.md, "Results".
        ttl: seconds until the backend may drop it; 0.0 is never.
        reply_to: the message's property, for backends with `Capability.REPLIES`; others
            may get it empty.
    """

    task_id: str
    state: str
    payload: bytes
    ttl: float = 0.0
    reply_to: str = ""


class ChordPart(Struct, frozen=True, gc=False):
    """That one member of a chord's header has ended, and how.

    Attributes:
        group_id: of the chord.
        task_id: of the member.
        index: its place in the header (``group_index``); -1 if unknown.
        state: of its end: ``SUCCESS``, or one of `states.EXCEPTION_STATES`.
        payload: serialized ``[1, task_id, state, value]``; opaque to the backend.  See
            docs/reference/wire-format.md, "Chords".
        size: how many members the chord has; 0 if the message didn't say.
        ttl: seconds until the backend may drop what it keeps of the chord.
    """

    group_id: str
    task_id: str
    index: int
    state: str
    payload: bytes
    size: int
    ttl: float = 0.0


class ChordEnd(Struct, frozen=True, gc=False):
    """The end of a chord's member, and the body that follows the last of them.

    Attributes:
        part: for `caraway.interfaces.backend.Backend.chord_parts`.
        body: signature of the body, as it stood in the message.
        root_id: of the member.
    """

    part: ChordPart
    body: dict[str, Any]
    root_id: str | None = None


class ChordStart(Struct, frozen=True, gc=False):
    """That the members of a chord's header are about to be published.

    Attributes:
        group_id: of the chord.
        size: how many ends of members complete it.
        ttl: seconds until the backend may drop what it keeps of the chord.
    """

    group_id: str
    size: int
    ttl: float = 0.0


class Workflow(Struct, frozen=True, gc=False):
    """What a run changes in the workflow that it is a part of.

    Attributes:
        end: if it was a chord's member.
        starts: the chords whose headers are among the completion's publications.
        failed: failures of the steps after it, which won't run.
    """

    end: ChordEnd | None = None
    starts: tuple[ChordStart, ...] = ()
    failed: tuple[StoredResult, ...] = ()


class Completion(Struct, frozen=True, gc=False):
    """All that one run changes in the system: the unit of a commit.

    Attributes:
        settlement: the only acknowledgement.
        result: to store, or None.
        publications: follow-ups (retry, links, next in chain ...), often empty.
        workflow: done before the commit, which then publishes a chord's body, too, if
            this was the last of its members.  Transports needn't look at it.
    """

    settlement: Settlement
    result: StoredResult | None = None
    publications: tuple[Publication, ...] = ()
    workflow: Workflow | None = None


class DeadLetter(Struct, frozen=True):
    """A message taken out of its queue for good, until somebody decides.

    Attributes:
        id: names it in replay and drop.
        kind: ``dead`` (failed too often, rejected) or ``parked`` (nobody could judge).
        at: when it was put here (epoch seconds).
    """

    id: str
    message: Message
    queue: str
    reason: str
    kind: Literal["dead", "parked"]
    attempt: int
    at: float


class QueueStats(Struct, frozen=True):
    """Depths of one queue.

    Attributes:
        ready: deliverable now.
        delayed: not due yet.
        held: delivered and not settled.
        oldest: age in seconds of the oldest ready message; None if there is none, or
            the transport can't tell.
        consumers: live owners that consume it; None if the transport can't tell.
    """

    name: str
    ready: int
    delayed: int = 0
    held: int = 0
    oldest: float | None = None
    consumers: int | None = None


class Owner(Struct, frozen=True, kw_only=True):
    """Who holds deliveries: one lane of one worker, with what others may want to know.

    Attributes:
        id: never used twice; see `new_owner_id`.
        worker: the node name ``caraway@host``, shared by the lanes of one worker.
        host: host name.
        pid: process id of the lane.
        lease: seconds for which one renewal is good.
        tasks: names of the tasks this worker knows (for ``caraway explain``).
    """

    id: OwnerId
    worker: str = ""
    host: str = ""
    pid: int = 0
    lease: float = 30.0
    tasks: tuple[str, ...] = ()


class OwnerStats(Struct, frozen=True):
    """A live owner as the broker sees it.

    Attributes:
        owner: as registered.
        queues: what it consumes.
        held: how many deliveries it holds.
        expires: when its lease ends unless renewed (epoch seconds).
    """

    owner: Owner
    queues: tuple[str, ...]
    held: int
    expires: float


class Located(Struct, frozen=True):
    """Where a task's message is, for ``caraway explain``.

    Attributes:
        place: ``ready``, ``delayed``, ``held``, ``dead`` or ``parked``.
        owner: who holds it, if held.
        ahead: how many ready messages of its queue go first; None if unknown.
        reason: of the dead letter, if dead or parked.
    """

    message: Message
    queue: str
    place: Literal["ready", "delayed", "held", "dead", "parked"]
    due: float = 0.0
    expires: float = 0.0
    attempt: int = 0
    owner: OwnerId = ""
    ahead: int | None = None
    reason: str = ""


class Topic(Struct, frozen=True):
    """Where a broadcast goes, and what a subscriber listens to.

    Attributes:
        exchange: name of the exchange, e.g. ``celery.pidbox``.
        routing_key: its second half.  Of a subscription to a ``topic`` exchange also a
            pattern: ``#`` for all, or ``worker.#`` for all that begins with ``worker.``.
        kind: AMQP's type of the exchange.  ``fanout`` reaches every subscriber of the
            exchange whatever the routing key, ``direct`` those of the same key,
            ``topic`` those whose pattern matches.
    """

    exchange: str
    routing_key: str = ""
    kind: Literal["fanout", "direct", "topic"] = "fanout"


class Notice(Struct, frozen=True):
    """One broadcast: a message and where it goes or came from."""

    topic: Topic
    message: Message


def new_owner_id() -> OwnerId:
    """A fresh owner id: 128 random bits in hex."""
    import os

    return os.urandom(16).hex()
