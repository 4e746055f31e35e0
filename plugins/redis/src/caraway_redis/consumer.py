"""One owner's way to its messages: fetch, settle, commit."""

from __future__ import annotations

import threading
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
from caraway_redis.arguments import Arguments
from caraway_redis.claiming import CLAIM, Claimed
from caraway_redis.committing import committing, fenced
from caraway_redis.fetching import deliveries, entry_delivery
from caraway_redis.script_wire import ScriptWire
from caraway_redis.waiting_lists import ListWait
from caraway_redis.wires import Script, is_unknown_script, pack

if TYPE_CHECKING:
    from caraway_redis.transport import RedisTransport

FETCH = Script("payload", "fetch")
COMMIT = Script("payload", "results", "commit")
GIVE_BACK = Script("payload", "give_back")

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
        keys = transport.keys
        self._link = transport.link
        self._scripts = ScriptWire(self._link)
        self._on_close = on_close
        self._closed = False
        # Of several queues the one that is served first, another one each time.
        self._first = 0 if order == "round_robin" else -1
        self._last = 0
        self._doubtful = 0.0
        self._arguments = arguments = Arguments(
            keys, self._link.guard, owner.id, self.queues, transport.steps
        )
        places = arguments.places
        self.inboxes = "\n".join(f"{each.inbox}\n{each.name}" for each in places)
        self._looked = -_LOOK_EVERY
        self._kept = False
        """What it waited for is still waited for, though it has something to run."""
        self._using = threading.Lock()
        self._wait = ListWait(
            self._link,
            [(each.name, each.inbox) for each in places],
            [keys.delayed + queue + keys.bell for queue in queues],
        )
        self._next_due = 0.0
        self._drained = False
        """The last look left nothing behind: the next fetch waits without looking again."""
        self._mine = False
        self._open: tuple[Any, ...] = ()
        """The arguments of the exchange that was begun and not ended."""
        self._spare: list[Delivery] = []
        """Taken together with a commit that failed: for the next fetch."""

    # -- fetch -------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        with self._using:
            return self._fetch(limit, timeout)

    def _fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
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
            self._kept = False
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
        brought = self._brought() if soon else None
        # Who would take as many at a time may as well be sent them while it runs this one:
        # to call off the waiting, and to wait anew, takes as long as all else.
        self._kept = brought is not None and limit >= len(self._arguments.places)
        off = self._wait.calls_off() if soon and not self._kept else []
        limit, part = _parts(limit)
        known = self._last
        try:
            if brought is None:
                self._ask(part, off)
                return self._taken(limit, part, off)
            self._forsake()
            place, payload = brought
            self._scripts.send(CLAIM, self._arguments.claim(place), off)
            claimed = Claimed(self._arguments.places[place].queue, payload)
            return self._taken(limit, part, off, claimed=claimed)
        except BaseException as exc:
            self._doubt(known, exc)
            raise

    def _brought(self) -> tuple[int, bytes] | None:
        """The message that has just come, if nothing else is to be looked at."""
        if self._doubtful or self._next_due or monotonic() - self._looked > _LOOK_EVERY:
            return None
        return self._wait.brought

    def _doubt(self, known: int, exc: BaseException) -> None:
        """What came meanwhile is ours, and nobody runs it: it is asked for again."""
        self._last = known
        self._doubtful = monotonic() + _DOUBTFUL
        if isinstance(exc, TransportUnavailable):
            self._wait.fail()
        elif self._kept and isinstance(exc, Exception):
            self._wait.disarm()
        self._kept = False
        self._interrupted(exc)

    def _interrupted(self, exc: BaseException) -> None:
        """After a signal's exception, an answer may still be on its way: to nobody."""
        if not isinstance(exc, CarawayError):
            self._scripts.drop()

    def _taken(
        self,
        limit: int,
        part: int,
        off: Sequence[bytes] = (),
        *,
        claimed: Claimed | None = None,
    ) -> list[Delivery]:
        """Read what was asked for."""
        called: list[Any] = []
        taken: list[Delivery] = []
        flags = 0
        try:
            while True:
                called += [self._scripts.read() for _ in off]
                answer = self._scripts.answer()
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
                full = bool(answer[2] & _MORE) if claimed else count >= part
                part = min(part, limit - len(taken) - count)
                more = full and part > 0
                if more:
                    off = self._wait.calls_off() if self._kept else ()
                    self._kept = False
                    self._ask(part, off)
                ready = claimed and claimed.deliveries(answer[3], answer[4:])
                taken += ready or deliveries(answer[3], answer[4:], self.queues)
                claimed = None
                if not more:
                    break
        except OwnerLost:
            raise
        except OperationalError as exc:
            if not taken:
                raise
            # What was taken is ours, and nobody else would ever run it.
            if isinstance(exc, TransportUnavailable):
                self._doubtful = monotonic() + _DOUBTFUL
                self._wait.fail()
        self._mine = bool(flags & _TIMER)
        self._drained = bool(taken) and not (answer[2] & _MORE or self._doubtful or self._next_due)
        self._kept = self._kept and self._drained
        if self._wait.armed:
            if called:
                self._wait.called_off(called)
            elif taken and not self._kept:
                self._wait.disarm()
        if flags & _SWEEP:
            self._transport.sweep()
        return self._marked(taken, flags) if taken else taken

    def _forsake(self) -> None:
        """Nobody waited for the answer of an exchange: what is read next would be that."""
        if self._open:
            self._open = ()
            self._doubtful = monotonic() + _DOUBTFUL
            self._scripts.drop()

    def _ask(self, part: int, before: Sequence[bytes] = ()) -> None:
        self._forsake()
        self._looked = monotonic()
        doubtful = self._doubtful
        if doubtful and monotonic() > doubtful:
            doubtful = self._doubtful = 0.0
        first = self._first
        if first >= 0:
            self._first = (first + 1) % len(self.queues)
        known = self._last if doubtful else ""
        self._scripts.send(FETCH, self._arguments.fetch(part, first, known), before)

    def _marked(self, taken: list[Delivery], flags: int) -> list[Delivery]:
        """Only where revocations exist at all, they are looked up."""
        return self._transport.mark_revoked(taken) if flags & _REVOKED else taken

    # -- settle ------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        return self.commit([Completion(settlement) for settlement in settlements])

    def _committing(self, completions: Sequence[Completion]) -> tuple[list[Tag], tuple[Any, ...]]:
        transport = self._transport
        return committing(
            self._arguments.commit, transport.result_key, transport.prepare, completions
        )

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        tags, command = self._committing(completions)
        with self._using:
            return self._commit(tags, command)

    def exchange(
        self, completions: Sequence[Completion], limit: int
    ) -> Callable[[], tuple[Sequence[Tag], Sequence[Delivery]]]:
        tags, command = self._committing(completions)
        with self._using:
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
        committed: Any = None
        taken: list[Delivery] = []
        try:
            if tags:
                committed = self._scripts.read()
            taken = self._taken(limit, part)
        except BaseException as exc:
            self._doubt(known, exc)
            # Of the fetch, as a rule: the next one meets it again, and it is told then.
            if committed is None or not isinstance(exc, OperationalError):
                raise
        if not tags:
            return (), taken
        try:
            if is_unknown_script(committed):
                return self._commit(tags, command), taken
            return fenced(tags, self._scripts.checked(committed)), taken
        except BaseException:
            # What was taken is ours, and nobody else would ever run it.
            self._spare += taken
            raise

    def _commit(self, tags: list[Tag], command: tuple[Any, ...]) -> Sequence[Tag]:
        if not tags:
            return ()
        if self._wait.armed and not self._kept:
            self._wait.disarm()
        self._forsake()
        try:
            self._scripts.send(COMMIT, command)
            return fenced(tags, self._scripts.answer())
        except BaseException as exc:
            self._interrupted(exc)
            raise

    # -- the rest ----------------------------------------------------------------------

    def recede(self) -> None:
        # Whoever has the lock is at work here, and so runs nothing.
        if self._wait.armed and self._using.acquire(blocking=False):
            try:
                self._kept = self._drained = False
                self._wait.disarm()
            finally:
                self._using.release()

    def wake(self) -> None:
        self._wait.wake()

    def discard(self) -> None:
        """Free what is held here, for an owner that never began."""
        self._closed = True
        self._wait.close()

    def close(self) -> None:
        if self._closed and self._scripts.wire is None:
            return
        self._closed = True
        if not self._scripts.mine():
            self._scripts.wire = None
            return
        try:
            clean = self._wait.disarm()
            self._wait.close()
            self._transport.give_back(self.owner.id, clean=clean)
        finally:
            self._scripts.drop()
            self._scripts.wire = None
            self._on_close(self)


def _parts(limit: int) -> tuple[int, int]:
    """The limit of a fetch, and how many to ask for at a time."""
    limit = max(1, min(limit, _MOST))
    return limit, -(-limit // -(-limit // _PART))
