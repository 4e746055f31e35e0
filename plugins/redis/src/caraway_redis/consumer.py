"""One owner's way to its messages: fetch, settle, commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import (
    CarawayError,
    OperationalError,
    OwnerLost,
    TransportError,
    TransportUnavailable,
)
from caraway.interfaces.transport import Consumer
from caraway.message import Completion, Delivery, Owner, Settlement, Tag
from caraway_redis.committing import committing, fenced
from caraway_redis.faults import GONE, said, translate
from caraway_redis.fetching import deliveries, entry_delivery
from caraway_redis.waiting_lists import ListWait
from caraway_redis.wires import Script, Wire, is_unknown_script, pack

if TYPE_CHECKING:
    from caraway_redis.transport import RedisTransport

FETCH = Script("payload", "fetch")
COMMIT = Script("payload", "results", "commit")
GIVE_BACK = Script("payload", "give_back")

_SWEEP_EVERY = 1000
"""Milliseconds between two looks of a whole fleet for owners whose lease ended."""
_PATIENCE = 5.0
"""Seconds for an answer; after it the connection is taken for dead, and what the answer
may have carried is asked for again."""
_LATE = 0.5
"""Seconds after a due time when those wake up who weren't chosen to wake up for it."""
_LOOK_EVERY = 2.0
"""Seconds after which one who waits looks by itself: for dead owners, lost wakes."""
_MOST = 4096
"""No more messages at a time, whatever is asked for."""
_PART = 384
"""Messages asked for at a time: while the server takes the next ones, these are read."""
_DOUBTFUL = 120.0
"""Seconds after a lost answer in which a request that was sent before may still reach the
server, and its answer nobody: what is held and unknown is asked for with every fetch."""
_SWEEP, _REVOKED, _UNKNOWN, _TIMER, _MORE = 1, 2, 4, 8, 16


class RedisConsumer(Consumer):
    """Opened by `RedisTransport.consume`."""

    def __init__(
        self,
        transport: RedisTransport,
        owner: Owner,
        queues: Sequence[str],
        on_close: Callable[[RedisConsumer], None],
    ) -> None:
        self.owner = owner
        order = transport.link.options.queue_order_strategy
        queues = sorted(queues) if order == "sorted" else queues
        self.queues = tuple(queues)
        self._transport = transport
        self._keys = keys = transport.keys
        self._link = transport.link
        self._wire: Wire | None = None
        self._on_close = on_close
        self._closed = False
        self._pid = os.getpid()
        # Of several queues the one that is served first, another one each time.
        self._first = 0 if order == "round_robin" else -1
        self._last = 0
        self._doubtful = 0.0
        steps = transport.steps
        self._lists = [(keys.list(queue, step), queue, step) for queue in queues for step in steps]
        boxes = {
            (queue, step): f"{keys.inbox}{owner.id}:{step}:{queue}"
            for queue in queues
            for step in steps
        }
        self.inboxes = "\n".join(
            f"{boxes[queue, step]}\n{name}" for name, queue, step in self._lists
        )
        self._held = keys.held + owner.id
        names: list[str] = [
            keys.owners, self._held, keys.seq, keys.revoked, keys.sweep, keys.timer,
        ]  # fmt: skip
        for queue in queues:
            names.append(keys.delayed + queue)
            names += [keys.list(queue, step) for step in steps]
            names += [boxes[queue, step] for step in steps]
        names += self._link.guard
        self._fetch_head = (len(names), *names, owner.id)
        self._fetch_tail = (_SWEEP_EVERY, *steps, *queues)
        self._counts = (len(queues), len(steps))
        self._commit_head = (
            4 + len(self._link.guard), self._held, keys.seq, keys.dead_index, keys.queues,
            *self._link.guard, keys.prefix, keys.sep, keys.delayed, keys.dead, keys.dead_of,
        )  # fmt: skip
        self._wait = ListWait(
            self._link,
            [(name, boxes[queue, step]) for name, queue, step in self._lists],
            [keys.delayed + queue + keys.bell for queue in queues],
        )
        self._next_due = 0.0
        self._drained = False
        """The last look left nothing behind: the next fetch waits without looking again."""
        self._mine = False
        self._sent: tuple[Any, ...] = ()
        self._committed: Any = None
        self._open: tuple[Any, ...] = ()
        """The arguments of the exchange that was begun and not ended."""
        self._spare: list[Delivery] = []
        """Taken together with a commit that failed: for the next fetch."""

    # -- fetch -------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        if self._spare:
            spare, self._spare = self._spare, []
            return spare
        if timeout <= 0:
            return self._take(limit)
        drained, self._drained = self._drained and not self._closed, False
        if not drained:
            taken = self._take(limit)
            if taken:
                return taken
        end = monotonic() + timeout
        while not self._closed:
            left = min(end - monotonic(), _LOOK_EVERY)
            if left <= 0:
                # It has looked just now, and is told of what comes until the next call.
                self._drained = self._wait.armed and not (self._doubtful or self._next_due)
                return ()
            came, woken = self._wait.wait(self._until_due(left))
            if woken and not came:
                # Whoever wakes us has something else to do: nothing may be sent to us
                # meanwhile that others could run.
                self._wait.disarm()
                return ()
            taken = self._take(limit, soon=came or self._is_due())
            if taken:
                return taken
        return ()

    def _is_due(self) -> bool:
        return bool(self._next_due) and monotonic() >= self._next_due

    def _until_due(self, left: float) -> float:
        if not self._next_due:
            return left
        wait = self._next_due - monotonic() + (0.001 if self._mine else _LATE)
        return min(left, max(0.001, wait))

    def _take(self, limit: int, *, soon: bool = False) -> list[Delivery]:
        """What is there now.

        Args:
            limit: most messages.
            soon: something is expected to be there: the waiting is called off with the
                same round trip.
        """
        if self._closed:
            raise TransportError("this consumer is closed")
        off = self._wait.calls_off() if soon else []
        limit, part = _parts(limit)
        known = self._last
        try:
            self._ask(part, off)
            return self._taken(limit, part, off)
        except BaseException as exc:
            self._doubt(known, exc)
            raise

    def _doubt(self, known: int, exc: BaseException) -> None:
        """What came meanwhile is ours, and nobody runs it: it is asked for again."""
        self._last = known
        self._doubtful = monotonic() + _DOUBTFUL
        if isinstance(exc, TransportUnavailable):
            self._wait.fail()
        self._interrupted(exc)

    def _interrupted(self, exc: BaseException) -> None:
        """After a signal's exception, an answer may still be on its way: to nobody."""
        if self._wire is not None and not isinstance(exc, CarawayError):
            self._wire.close()

    def _taken(
        self, limit: int, part: int, off: Sequence[bytes] = (), *, committed: bool = False
    ) -> list[Delivery]:
        """Read what was asked for; of a commit before it the answer is left in
        ``_committed``."""
        called: list[Any] = []
        taken: list[Delivery] = []
        flags = 0
        try:
            called = [self._read() for _ in off]
            if committed:
                self._committed = self._read()
            while True:
                answer = self._answer(FETCH)
                if not answer[0]:
                    self._wait.abandon()
                    raise OwnerLost(
                        f"the lease of owner {self.owner.id} ended",
                        hint="Its messages went to others. See why it wasn't renewed: a "
                        "machine that stood still, or a broker out of reach for longer than "
                        "the lease.",
                    )
                flags |= answer[2]
                if answer[2] & _UNKNOWN:
                    found = sorted((int(tag), entry) for tag, entry in answer[4:])
                    taken += [entry_delivery(tag, entry) for tag, entry in found]
                    self._last = max(self._last, found[-1][0])
                    break
                due = answer[1]
                self._next_due = monotonic() + float(due) if due else 0.0
                count = sum([len(group[1]) for group in answer[4:]])
                self._last = max(self._last, answer[3] + count - 1)
                part = min(part, limit - len(taken) - count)
                more = count >= part > 0
                if more:
                    self._ask(part)
                taken += deliveries(answer[3], answer[4:], self.queues)
                if not more:
                    break
        except OwnerLost:
            raise
        except OperationalError as exc:
            if isinstance(exc, TransportUnavailable):
                self._doubtful = monotonic() + _DOUBTFUL
                self._wait.fail()
            # What was taken is ours, and nobody else would ever run it.
            if not taken:
                raise
        if self._wait.armed:
            if called:
                self._wait.called_off(called)
            elif taken:
                self._wait.disarm()
        self._mine = bool(flags & _TIMER)
        self._drained = 0 < len(taken) < limit and not (
            answer[2] & _MORE or self._doubtful or self._next_due
        )
        if flags & _SWEEP:
            self._transport.sweep()
        return self._marked(taken, flags) if taken else taken

    def _forsake(self) -> None:
        """Nobody waited for the answer of an exchange: what is read next would be that."""
        if self._open:
            self._open = ()
            self._doubtful = monotonic() + _DOUBTFUL
            if self._wire is not None:
                self._wire.close()

    def _ask(self, part: int, before: Sequence[bytes] = ()) -> None:
        self._forsake()
        doubtful = self._doubtful
        if doubtful and monotonic() > doubtful:
            doubtful = self._doubtful = 0.0
        first = self._first
        if first >= 0:
            self._first = (first + 1) % len(self.queues)
        self._send(
            FETCH,
            (
                *self._fetch_head, part, *self._counts, first, self._last if doubtful else "",
                *self._fetch_tail,
            ),
            before,
        )  # fmt: skip

    def _marked(self, taken: list[Delivery], flags: int) -> list[Delivery]:
        """Only where revocations exist at all, they are looked up."""
        return self._transport.mark_revoked(taken) if flags & _REVOKED else taken

    # -- settle ------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        return self.commit([Completion(settlement) for settlement in settlements])

    def _committing(self, completions: Sequence[Completion]) -> tuple[list[Tag], tuple[Any, ...]]:
        transport = self._transport
        return committing(self._commit_head, transport.result_key, transport.prepare, completions)

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        return self._commit(*self._committing(completions))

    def exchange(
        self, completions: Sequence[Completion], limit: int
    ) -> Callable[[], tuple[Sequence[Tag], Sequence[Delivery]]]:
        tags, command = self._committing(completions)
        if self._closed or self._drained or self._wait.armed or self._spare:
            late = self._commit(tags, command)
            return lambda: (late, ())
        limit, part = _parts(limit)
        known = self._last
        try:
            self._ask(part, [pack("EVALSHA", COMMIT.sha, *command)] if tags else ())
        except BaseException as exc:
            self._doubt(known, exc)
            raise
        self._open = command
        return partial(self._end, tags, command, limit, part, known)

    def _end(
        self, tags: list[Tag], command: tuple[Any, ...], limit: int, part: int, known: int
    ) -> tuple[Sequence[Tag], Sequence[Delivery]]:
        """Read the answers of an exchange."""
        if command is not self._open:
            raise TransportUnavailable("the answer of an exchange was not waited for")
        self._open = ()
        self._committed = None
        taken: list[Delivery] = []
        try:
            taken = self._taken(limit, part, committed=bool(tags))
        except BaseException as exc:
            self._doubt(known, exc)
            # Of the fetch, as a rule: the next one meets it again, and it is told then.
            if self._committed is None or not isinstance(exc, OperationalError):
                raise
        if not tags:
            return (), taken
        try:
            if is_unknown_script(self._committed):
                return self._commit(tags, command), taken
            return fenced(tags, self._checked(self._committed)), taken
        except BaseException:
            # What was taken is ours, and nobody else would ever run it.
            self._spare += taken
            raise

    def _commit(self, tags: list[Tag], command: tuple[Any, ...]) -> Sequence[Tag]:
        if not tags:
            return ()
        if self._wait.armed:
            self._wait.disarm()
        self._forsake()
        try:
            self._send(COMMIT, command)
            return fenced(tags, self._answer(COMMIT))
        except BaseException as exc:
            self._interrupted(exc)
            raise

    def _send(self, script: Script, command: tuple[Any, ...], before: Sequence[bytes] = ()) -> None:
        wire = self._wire
        if wire is None or self._pid != os.getpid():
            self._transport.link.check()
            wire = self._wire = self._link.wire()
            self._pid = os.getpid()
        self._sent = command
        packed = pack("EVALSHA", script.sha, *command)
        wire.send(b"".join((*before, packed)) if before else packed, _PATIENCE)

    def _read(self) -> Any:
        wire = self._wire
        assert wire is not None
        return wire.read(_PATIENCE)

    def _answer(self, script: Script) -> Any:
        answer = self._read()
        if is_unknown_script(answer):
            wire = self._wire
            assert wire is not None
            wire.send(pack("EVAL", script.source, *self._sent), _PATIENCE)
            answer = self._read()
        return self._checked(answer)

    def _checked(self, answer: Any) -> Any:
        """An answer that is no error."""
        if isinstance(answer, Exception):
            wire = self._wire
            if wire is not None and said(answer).startswith(GONE):
                wire.close()  # the next one leads to where the master is now
            raise translate(answer, self._link.place) from answer
        return answer

    # -- the rest ----------------------------------------------------------------------

    def wake(self) -> None:
        self._wait.wake()

    def discard(self) -> None:
        """Free what is held here, for an owner that never began."""
        self._closed = True
        self._wait.close()

    def close(self) -> None:
        if self._closed and self._wire is None:
            return
        self._closed = True
        wire, self._wire = self._wire, None
        if self._pid != os.getpid():
            return
        try:
            clean = self._wait.disarm()
            self._wait.close()
            self._transport.give_back(self.owner.id, clean=clean)
        finally:
            if wire is not None:
                wire.close()
            self._on_close(self)


def _parts(limit: int) -> tuple[int, int]:
    """The limit of a fetch, and how many to ask for at a time."""
    limit = max(1, min(limit, _MOST))
    return limit, -(-limit // -(-limit // _PART))
