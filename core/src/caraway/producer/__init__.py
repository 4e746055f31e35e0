"""Hands publications to the transport: group commit, retries, one deadline.

Calls from several threads at the same moment become one `Transport.publish`: the first
publishes its own; those that come meanwhile queue up, and the first of them then
publishes for all.  A lone call waits for nobody; where the last batch had several callers,
the first to come back gives the others a moment, less than half of what that batch took.

Steps of one call:

1. nobody is publishing: publish now;
2. else wait, until somebody published ours too, or until it is our turn to publish for
   all who wait;
3. hand the turn on, then return or raise: to each caller what became of its own.

Where a batch takes long, since the broker is far, the callers are spread over several
desks of this kind, if the transport can publish several batches at a time: while one
waits for the network, the callers of another one prepare theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from threading import Lock, local
from time import monotonic, sleep
from typing import Any

from caraway.errors import CarawayError, PublishError, TransportUnavailable
from caraway.interfaces.transport import Transport
from caraway.message import Publication
from caraway.producer.relay import Relay, Ticket
from caraway.retry import publish_intervals

BATCH = 1000
"""Most publications that callers are joined to in one batch."""
LEAST = 0.1
"""Part of the timeout that a leader has at least, however late its turn comes: it publishes
for others, too, who came later."""
PATIENCE = 0.4
"""Part of the last batch's duration for which a leader waits for those who are on their
way back: without it, callers fall into two groups that take turns, each half as large."""
FAR = 0.001
"""Seconds for a batch of several callers, above which they are spread over desks."""


class Producer:
    """Publishes for one app in one process.

    Args:
        transport: gives the transport; called when it is needed.
        timeout: seconds for a call, waiting and all attempts included
            (``broker_publish_timeout``).
        policy: pauses between attempts (``task_publish_retry_policy``); None: no retry.
        clock: seconds of a clock that never jumps.
        sleep: pauses between attempts.
    """

    def __init__(
        self,
        transport: Callable[[], Transport],
        *,
        timeout: float = 5.0,
        policy: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = monotonic,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        self._transport = transport
        self._timeout = timeout
        self._policy = policy
        self._clock = clock
        self._sleep = sleep
        self._spreads = True
        self.reset()

    def reset(self) -> None:
        """Begin anew: in a forked child, which has none of the threads that waited."""
        self.disconnect()
        self._turn = Lock()
        self._busy = False
        self._waiting: list[Ticket] = []
        self._crowd = 0  # how many callers there were about the last batch
        self._duration = 0.0  # of the last batch, seconds
        self._gathered: Lock | None = None  # a leader waits on it for the crowd
        self._relay = Relay()
        self._desks: list[Producer] = []
        self._places = itertools.count()
        self._place = local()

    def disconnect(self) -> None:
        """Ask for the transport anew with the next call."""
        self._live: Transport | None = None
        for desk in getattr(self, "_desks", ()):
            desk._live = None

    def _connect(self) -> Transport:
        transport = self._live = self._transport()
        return transport

    def _desk(self) -> Producer:
        """The desk of this thread: always the same, so that its calls keep their order."""
        desk: Producer | None = getattr(self._place, "desk", None)
        if desk is not None:
            return desk
        desks = self._desks
        if not desks:
            further = (self._live or self._connect()).publishes_at_once - 1
            fresh = [
                Producer(
                    self._transport, timeout=self._timeout, policy=self._policy,
                    clock=self._clock, sleep=self._sleep,
                )
                for _ in range(further)
            ]  # fmt: skip
            for desk in fresh:
                desk._spreads = False
                desk._relay = self._relay
            with self._turn:
                self._desks = desks = self._desks or [self, *fresh]
        desk = self._place.desk = desks[next(self._places) % len(desks)]
        return desk

    def publish(self, publications: Sequence[Publication]) -> None:
        """Publish; return when the broker has them all.

        Args:
            publications: one or more.

        Raises:
            PublishError: says which are not in the broker; the others are.
            TransportUnavailable: the broker couldn't be reached in time, with all
                retries.  Publishing again is safe.
        """
        if self._duration > FAR and self._spreads and (desk := self._desk()) is not self:
            desk.publish(publications)
            return
        turn = self._turn
        ticket = None
        leads = False
        deadline = self._clock() + self._timeout
        try:
            with turn:
                if self._busy:
                    ticket = Ticket(publications, deadline)
                    self._waiting.append(ticket)
                    if self._gathered is not None and len(self._waiting) >= self._crowd:
                        self._gathered.release()
                        self._gathered = None
                elif self._crowd > 1:
                    # the others of the last batch are about to call again: gather them
                    self._busy = True
                    ticket = Ticket(publications, deadline)
                    ticket.leads = True
                    self._waiting.append(ticket)
                else:
                    # first of all, so that an interrupt (Ctrl-C) anywhere hands the turn on
                    leads = True
                    self._busy = True
            if leads:
                (self._live or self._connect()).publish(publications, timeout=self._timeout)
                with turn:
                    if not self._waiting:
                        self._busy = False
                        return
        except TransportUnavailable as exc:
            # others need not wait for our pauses: they find out by themselves
            self._hand_on()
            self._again(publications, exc, self._policy, deadline)
            return
        except BaseException:
            if leads:
                self._hand_on()
            elif ticket is not None:
                self._leave(ticket)
            raise
        if ticket is not None:
            self._follow(ticket)
        else:
            self._hand_on(1)

    def publish_apart(
        self,
        publications: Sequence[Publication],
        *,
        policy: Mapping[str, Any] | None,
        timeout: float | None = None,
    ) -> None:
        """Publish with a retry policy or timeout of its own, joined to nobody.

        Args:
            publications: one or more.
            policy: None: no retry.
            timeout: seconds for all attempts; None is the app's.
        """
        timeout = self._timeout if timeout is None else timeout
        deadline = self._clock() + timeout
        try:
            (self._live or self._connect()).publish(publications, timeout=timeout)
        except TransportUnavailable as exc:
            self._again(publications, exc, policy, deadline)

    # -- following ---------------------------------------------------------------------

    def _follow(self, ticket: Ticket) -> None:
        if not ticket.leads:
            self._await_turn(ticket)
        if ticket.leads:
            try:
                self._gather()
            except BaseException:
                self._leave(ticket)
                raise
            self._lead(ticket)
        error = ticket.error
        if isinstance(error, TransportUnavailable):
            self._again(ticket.publications, error, self._policy, ticket.deadline)
        elif error is not None:
            raise error

    def _await_turn(self, ticket: Ticket) -> None:
        """Return when ours were published, or it is our turn to publish for all."""
        try:
            if ticket.gate.acquire(timeout=max(0.0, ticket.deadline - self._clock())):
                self._relay.arrived(ticket)
                return
        except BaseException:
            self._relay.break_off(ticket)
            self._leave(ticket)
            raise
        self._relay.break_off(ticket)
        if self._leave(ticket, late=True) and not ticket.served:
            raise TransportUnavailable(
                f"publishing took longer than {self._timeout} s",
                hint="the broker is slow or stuck; publishing again is safe",
            )

    def _gather(self) -> None:
        """Wait a moment for those who called just before to call again."""
        with self._turn:
            if len(self._waiting) >= self._crowd:
                return
            gathered = self._gathered = Lock()
            gathered.acquire()
        gathered.acquire(timeout=PATIENCE * self._duration)  # in vain: whoever is here goes
        with self._turn:
            self._gathered = None

    def _lead(self, own: Ticket) -> None:
        with self._turn:
            batch: list[Ticket] = []
            publications: list[Publication] = []
            for ticket in self._waiting:
                batch.append(ticket)
                publications += ticket.publications
                if len(publications) >= BATCH:
                    break
            del self._waiting[: len(batch)]
        started = self._clock()
        left = max(own.deadline - started, LEAST * self._timeout)
        try:
            (self._live or self._connect()).publish(publications, timeout=left)
        except PublishError as exc:
            _share_out(batch, exc)
        except TransportUnavailable as exc:
            for ticket in batch:
                # each thread raises an exception of its own: a traceback is not shared
                ticket.error = _copy(exc)
        except Exception as exc:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            self._one_by_one(batch, exc)
        except BaseException:
            # ours alone (KeyboardInterrupt): the others try again
            with self._turn:
                self._waiting[:0] = [ticket for ticket in batch if ticket is not own]
            self._hand_on()
            raise
        self._duration = min(self._clock() - started, 0.01)
        self._hand_on(len(batch))
        followers = [ticket for ticket in batch if ticket is not own]
        for ticket in followers:
            ticket.served = True
        self._relay.add(followers)

    def _one_by_one(self, batch: Sequence[Ticket], error: Exception) -> None:
        """A batch failed as a whole: find out whose fault it was."""
        for ticket in batch:
            if len(batch) > 1:
                try:
                    (self._live or self._connect()).publish(
                        ticket.publications, timeout=self._timeout
                    )
                except Exception as own:  # noqa: BLE001 - as above
                    ticket.error = own
            else:
                ticket.error = error

    def _hand_on(self, served: int = 0) -> None:
        """Give the turn to the first who waits, or leave it free."""
        with self._turn:
            self._crowd = served + len(self._waiting)
            if self._waiting:
                head = self._waiting[0]
                if not head.leads:
                    head.leads = True
                    self._relay.put_first(head)
            else:
                self._busy = False

    def _leave(self, ticket: Ticket, *, late: bool = False) -> bool:
        """Give up waiting; False if it is too late for that because our turn has come."""
        with self._turn:
            if ticket.leads:
                if late:
                    return False
            else:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                return True
        self._hand_on_from(ticket)
        return True

    def _hand_on_from(self, ticket: Ticket) -> None:
        with self._turn:
            if ticket in self._waiting:
                self._waiting.remove(ticket)
        self._hand_on()

    # -- retrying ----------------------------------------------------------------------

    def _again(
        self,
        publications: Sequence[Publication],
        error: TransportUnavailable,
        policy: Mapping[str, Any] | None,
        deadline: float,
    ) -> None:
        if policy is not None:
            for pause in publish_intervals(policy):
                left = deadline - self._clock() - pause
                if left <= 0:
                    break
                if pause:
                    self._sleep(pause)
                try:
                    (self._live or self._connect()).publish(publications, timeout=left)
                except TransportUnavailable as exc:
                    error = exc
                else:
                    return
        raise error


def _share_out(batch: Sequence[Ticket], error: PublishError) -> None:
    """Tell each caller which of its own publications failed; the others get no error."""
    failed = set(error.failed)
    start = 0
    for ticket in batch:
        end = start + len(ticket.publications)
        mine = tuple(at - start for at in range(start, end) if at in failed)
        if mine:
            ticket.error = PublishError(*error.args, failed=mine, hint=error.hint)
            ticket.error.__cause__ = error
        start = end


def _copy(error: CarawayError) -> CarawayError:
    try:
        copy = type(error)(*error.args, hint=error.hint)
    except Exception:  # noqa: BLE001 - a subclass with another constructor
        return error
    copy.__cause__ = error
    return copy
