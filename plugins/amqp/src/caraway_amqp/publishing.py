"""Messages into the broker, confirmed: one wait for a batch.

Every publish is confirmed and ``mandatory``: a message for which no queue is there comes
back before its confirm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from caraway.errors import PublishError, TransportError, TransportUnavailable
from caraway.message import Message, Publication, Queue
from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.existing import Existing
from caraway_amqp.faults import ChannelClosed
from caraway_amqp.link import Link
from caraway_amqp.outgoing import Outgoing, Packer, came_back

if TYPE_CHECKING:
    from caraway_amqp.topology import Shapes

FRAME_MAX = 131072
"""RabbitMQ's default, until a connection says otherwise."""
_CHUNK = 256 * 1024
"""Bytes after which confirms are read, so that they don't pile up."""


class Publisher:
    """The connection of a process that publishes, declares and asks.  Thread-safe.

    Args:
        connect: opens a link; given the seconds that it may take.
        shapes: how queues are declared.
        clock: seconds since the epoch.
        log: for warnings.
    """

    def __init__(
        self,
        connect: Callable[[float], Link],
        shapes: Shapes,
        clock: Callable[[], float],
        log: Callable[[], Any],
    ) -> None:
        self._connect = connect
        self._lock = threading.RLock()
        self._link: Link | None = None
        self._confirms: Channel | None = None
        self._closed = False
        self._existing = Existing(shapes, log)
        self.queues = self._existing.queues
        """Queues that somebody named, by name."""
        self._packer = Packer(self.queues, shapes, clock)
        self._next = 1
        self.frame_max = FRAME_MAX
        self._open: dict[int, Outgoing] = {}
        self._refused: list[Outgoing] = []

    # -- the connection ----------------------------------------------------------------

    @contextmanager
    def turn(self, timeout: float) -> Iterator[float]:
        """This thread's turn on the connection; gives the deadline.

        Raises:
            TransportUnavailable: others had it all the time.
            TransportError: it is closed for good.
        """
        deadline = monotonic() + timeout
        if not self._lock.acquire(timeout=max(0.0, timeout)):
            raise TransportUnavailable(
                f"the connection to RabbitMQ was busy for {timeout:g} s",
                hint="See the broker's alarms and load: rabbitmqctl status.",
            )
        try:
            if self._closed:
                raise TransportError("the transport is closed", hint="Open a new one.")
            yield deadline
        finally:
            self._lock.release()

    def link(self, deadline: float) -> Link:
        """The open connection; within a turn."""
        link = self._link
        if link is not None and link.error is None:
            try:
                # It may have been closed while nobody looked.
                with link.lock:
                    link.read()
            except TransportError:
                pass
            else:
                return link
        left = deadline - monotonic()
        if left <= 0:
            raise (link.error if link is not None else None) or TransportUnavailable(
                "no connection to RabbitMQ in time"
            )
        self._forget()
        self._link = link = self._connect(left)
        return link

    def _forget(self) -> None:
        # What was declared may be gone with the broker: it is declared again.
        self._link = self._confirms = None
        self._existing.reset()
        self._open.clear()

    @contextmanager
    def asking(self, timeout: float = 30.0) -> Iterator[Channel]:
        """A channel for declaring and asking, for a turn; made anew after a refusal."""
        with self.turn(timeout) as deadline:
            link = self.link(deadline)
            with link.lock:
                yield self._existing.ask(link)

    def close(self) -> None:
        """Idempotent."""
        with self._lock:
            self._closed = True
            if self._link is not None:
                with self._link.lock:
                    self._link.close()

    # -- queues ------------------------------------------------------------------------

    def declare(self, queues: Sequence[Queue], *, timeout: float = 30.0) -> None:
        """Create queues that don't exist."""
        with self.turn(timeout) as deadline:
            for queue in queues:
                self.queues[queue.name] = queue
            link = self.link(deadline)
            with link.lock:
                self._existing.declare(link, [queue.name for queue in queues])

    def ensure(self, names: Sequence[str]) -> None:
        """Create queues that don't exist, with what belongs to those that are consumed."""
        self.declare([self.queues.get(name) or Queue(name=name) for name in names])
        with self.asking() as channel:
            self._existing.declare_consumed(channel.link, names)

    def any_quorum(self, names: Sequence[str]) -> bool:
        """Some of these are of type quorum, as far as is known."""
        return self._existing.any_quorum(names)

    def forget(self, queue: str) -> None:
        """This queue was deleted."""
        with self._lock:
            self._existing.forget(queue)

    # -- publishing --------------------------------------------------------------------

    def publish(
        self,
        publications: Sequence[Publication],
        *,
        timeout: float = 5.0,
        extras: Sequence[dict[str, Any]] = (),
        loose: bool = False,
        alone: bool = True,
    ) -> None:
        """See `Transport.publish`.

        Args:
            publications: what.
            timeout: seconds.
            extras: headers of ours, one mapping for each publication.
            loose: queues that don't exist aren't created: what is for them is dropped.
            alone: see `Transport.alone`.

        Raises:
            PublishError: some are not in the broker.
            TransportUnavailable: none is.
        """
        with self.turn(timeout) as deadline:
            try:
                self.frame_max = self.link(deadline).frame_max
            except TransportUnavailable:
                # It is tried again below.
                pass
            pack = self._packer.pack
            ready, bad = pack(publications, extras, self.frame_max, loose=loose)
            left, problem = self._insist(ready, deadline, alone=alone) if ready else ([], None)
        if not left and not bad:
            return
        if len(left) == len(publications) and isinstance(problem, TransportUnavailable):
            raise problem
        why = next(iter(bad.values()), "") or (problem.args[0] if problem else "refused")
        failed = sorted([*bad, *[item.position for item in left]])
        raise PublishError(
            f"{len(failed)} of {len(publications)} messages are not in the broker: {why}",
            failed=failed,
            hint=(problem.hint if problem else "") or "See what they hold, and where they go.",
        ) from problem

    def ping(self, timeout: float = 5.0) -> None:
        """Publish to nobody: only a publish tells whether one would be taken."""
        nobody = [Publication(Message(b""), "caraway.ping")]
        # A broker with an alarm takes one message of a connection before it blocks it.
        for _ in range(2):
            self.publish(nobody, timeout=timeout / 2, loose=True)

    def _insist(
        self, items: list[Outgoing], deadline: float, *, alone: bool
    ) -> tuple[list[Outgoing], TransportError | None]:
        """Publish until all are in or it is no use; return the rest, and why."""
        left, problem, pause = items, None, 0.0
        while left:
            left, problem = self._attempt(left, deadline)
            if not left or (self._link is None and not alone):
                break
            if isinstance(problem, ChannelClosed) and len(left) > 1:
                # One of them closed the channel for all: the others are to be in.
                half = len(left) // 2
                parts = [
                    self._insist(part, deadline, alone=alone) for part in (left[:half], left[half:])
                ]
                left = [item for rest, _ in parts for item in rest]
                return left, next((why for rest, why in parts if rest), problem)
            if problem is not None and not isinstance(problem, TransportUnavailable):
                break
            pause = min(max(pause * 2, 0.02), 0.5)
            if monotonic() + pause >= deadline:
                break
            if problem is not None:
                sleep(pause)
        return left, problem

    def _attempt(
        self, items: list[Outgoing], deadline: float
    ) -> tuple[list[Outgoing], TransportError | None]:
        """Publish these and wait for their confirms; return those that aren't in, and
        what the matter is (None: try again at once)."""
        open_ = self._open
        open_.clear()
        self._refused = []
        sent = False
        try:
            link = self.link(deadline)
            with link.lock:
                self._await_unblocked(link, deadline)
                channel = self._confirming(link)
                self._existing.ready(link, items)
                channel.returned.clear()
                for number, item in enumerate(items, self._next):
                    open_[number] = item
                self._next += len(items)
                sent = True
                self._write(link, items, deadline)
                self._await_confirms(link, channel, deadline)
                return self._sort_out(channel, items)
        except TransportError as exc:
            left = [*self._refused, *open_.values()] if sent else items
            open_.clear()
            if isinstance(exc, ChannelClosed) and any(item.count for item in items):
                self._existing.ladder = False
            return left, exc

    def _await_confirms(self, link: Link, channel: Channel, deadline: float) -> None:
        waiting = self._open
        while waiting:
            left = deadline - monotonic()
            if left <= 0:
                why = f"it blocks publishers: {link.blocked}" if link.blocked else "it is silent"
                raise link.fail(
                    TransportUnavailable(
                        f"{link.address.shown} didn't confirm in time; {why}",
                        hint="See its alarms and load: rabbitmqctl status.",
                    )
                )
            channel.check()
            link.pump(left)
        channel.check()

    def _await_unblocked(self, link: Link, deadline: float) -> None:
        while link.blocked:
            left = deadline - monotonic()
            if left <= 0:
                raise TransportUnavailable(
                    f"{link.address.shown} takes no messages just now: {link.blocked}",
                    hint="It is short of memory or disk: see rabbitmqctl status.",
                )
            link.pump(left)

    def _confirming(self, link: Link) -> Channel:
        channel = self._confirms
        if channel is None or channel.error is not None:
            # Channel 1, since that number stands in the frames that are kept.
            channel = link.new_channel(1)
            channel.call(frames.CHANNEL_OPEN, b"\0", frames.CHANNEL_OPEN_OK)
            channel.call(frames.CONFIRM_SELECT, b"\0", frames.CONFIRM_SELECT_OK)
            channel.confirmed = self._confirmed
            self._next = 1
            self._confirms = channel
        return channel

    def _write(self, link: Link, items: list[Outgoing], deadline: float) -> None:
        parts: list[bytes] = []
        size = 0
        targets = self._packer.targets
        for item in items:
            target = targets.get((item.exchange, item.routing_key, item.loose))
            if target is None:
                target = self._packer.target(item.exchange, item.routing_key, item.loose)
            parts.append(target)
            parts.append(item.data)
            size += len(item.data)
            if size >= _CHUNK:
                link.send(b"".join(parts), timeout=max(0.05, deadline - monotonic()))
                link.read()
                parts, size = [], 0
        if parts:
            link.send(b"".join(parts), timeout=max(0.05, deadline - monotonic()))

    def _confirmed(self, tag: int, *, multiple: bool, refused: bool) -> None:
        waiting = self._open
        tags = [tag]
        if multiple:
            tags = []
            for number in waiting:
                if number > tag:
                    break
                tags.append(number)
        for number in tags:
            item = waiting.pop(number, None)
            if refused and item is not None:
                self._refused.append(item)

    def _sort_out(
        self, channel: Channel, items: list[Outgoing]
    ) -> tuple[list[Outgoing], TransportError | None]:
        """What was refused or came back."""
        if self._refused:
            # Where the leader of a quorum queue died, the broker's channel goes on refusing when
            # there is a new one, though others take all (RabbitMQ 3.10).
            self._confirms = None
            channel.close()
            return self._refused, TransportUnavailable(
                "RabbitMQ refuses messages: a queue is at its limit, or its leader is away",
                hint="See x-max-length and x-overflow of the queue, and its state.",
            )
        if not channel.returned:
            return [], None
        again, others = came_back(channel.returned, items)
        channel.returned.clear()
        problem: TransportError | None = None
        for item in again:
            # Deleted by somebody else, as a rule: it is made again.
            self._existing.forget(item.publication.queue)
            if item.count:
                self._existing.ladder = False
            if item.publication.exchange:
                problem = TransportError(
                    f"no queue is bound to exchange {item.exchange!r} with the routing key "
                    f"{item.routing_key!r}",
                    hint="Start a worker that consumes such a queue, or declare it.",
                )
        if others:
            # Rather twice than not at all.
            return items, TransportUnavailable("RabbitMQ gave back what was not sent to it")
        return again, problem
