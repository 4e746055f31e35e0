"""One owner's way to its messages: fetch, settle, commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import OwnerLost, TransportError, TransportUnavailable
from caraway.interfaces.transport import Consumer
from caraway.message import Completion, Delivery, Owner, Settlement, Tag
from caraway_redis.connection import Script, Wire, is_unknown_script, pack
from caraway_redis.faults import translate
from caraway_redis.fetching import deliveries, entry_delivery
from caraway_redis.waiting_lists import ListWait

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
_REVOKED, _DOUBT, _TIMER = 2, 4, 8


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
        self.queues = tuple(queues)
        self._transport = transport
        self._keys = keys = transport.keys
        self._link = transport.link
        self._wire: Wire | None = None
        self._on_close = on_close
        self._closed = False
        self._pid = os.getpid()
        self._first = 0
        self._last = 0
        self._doubt = False
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
        self._fetch_head = ("EVALSHA", FETCH.sha, len(names), *names, owner.id)
        self._fetch_tail = (_SWEEP_EVERY, *steps, *queues)
        self._counts = (len(queues), len(steps))
        self._commit_head = (
            "EVALSHA", COMMIT.sha, 4, self._held, keys.seq, keys.dead_index, keys.queues,
            keys.prefix, keys.sep, keys.delayed, keys.dead, keys.dead_of,
        )  # fmt: skip
        self._wait = ListWait(
            self._link,
            [(name, boxes[queue, step]) for name, queue, step in self._lists],
            [keys.delayed + queue + keys.bell for queue in queues],
        )
        self._next_due = 0.0
        self._mine = False

    # -- fetch -------------------------------------------------------------------------

    def fetch(self, limit: int, timeout: float) -> Sequence[Delivery]:
        taken = self._take(limit)
        if taken or timeout <= 0:
            if taken and self._wait.armed:
                self._wait.disarm()
            return taken
        end = monotonic() + timeout
        while not self._closed:
            left = min(end - monotonic(), _LOOK_EVERY)
            if left <= 0:
                return ()
            came, woken = self._wait.wait(self._until_due(left))
            if woken and not came:
                # Whoever wakes us has something else to do: nothing may be sent to us
                # meanwhile that others could run.
                self._wait.disarm()
                return ()
            taken = self._take(limit)
            if taken:
                return taken
        return ()

    def _until_due(self, left: float) -> float:
        if not self._next_due:
            return left
        wait = self._next_due - monotonic() + (0.001 if self._mine else _LATE)
        return min(left, max(0.001, wait))

    def _take(self, limit: int) -> list[Delivery]:
        if self._closed:
            raise TransportError("this consumer is closed")
        known = self._last if self._doubt else ""
        command = (
            *self._fetch_head, max(1, min(limit, _MOST)), *self._counts, self._first, known,
            *self._fetch_tail,
        )  # fmt: skip
        try:
            answer = self._call(FETCH, command)
        except TransportError as exc:
            if isinstance(exc, TransportUnavailable):
                self._doubt = True
            raise
        if not answer[0]:
            self._wait.abandon()
            raise OwnerLost(
                f"the lease of owner {self.owner.id} ended",
                hint="Its messages went to others. See why it wasn't renewed: a machine that "
                "stood still, or a broker out of reach for longer than the lease.",
            )
        flags: int = answer[2]
        if flags & 1:
            self._transport.sweep()
        if self._doubt:
            self._doubt = False
            if flags & _DOUBT and len(answer) > 4:
                found = sorted(answer[4:], key=lambda pair: int(pair[0]))
                taken = [entry_delivery(tag, entry) for tag, entry in found]
                self._last = int(found[-1][0])
                return self._marked(taken, flags)
        due = answer[1]
        self._next_due = monotonic() + float(due) if due else 0.0
        self._mine = bool(flags & _TIMER)
        if len(answer) == 4:
            return []
        self._first = (self._first + 1) % len(self.queues)
        taken = deliveries(answer[3], answer[4:], self.queues)
        self._last = taken[-1].tag  # type: ignore[assignment]
        return self._marked(taken, flags)

    def _marked(self, taken: list[Delivery], flags: int) -> list[Delivery]:
        """Only where revocations exist at all, they are looked up."""
        return self._transport.mark_revoked(taken) if flags & _REVOKED else taken

    # -- settle ------------------------------------------------------------------------

    def settle(self, settlements: Sequence[Settlement]) -> Sequence[Tag]:
        arguments: list[Any] = [len(settlements)]
        for settlement in settlements:
            _settlement(arguments, settlement)
            arguments += ("", 0)
        return self._apply(arguments, [s.tag for s in settlements])

    def commit(self, completions: Sequence[Completion]) -> Sequence[Tag]:
        arguments: list[Any] = [len(completions)]
        result_key = self._transport.result_key
        add = arguments.extend
        for completion in completions:
            settlement = completion.settlement
            result = completion.result
            publications = completion.publications
            if settlement.action == "ack" and not publications:
                if result is None:
                    add((settlement.tag, "a", "", 0))
                else:
                    add(
                        (
                            settlement.tag, "a", result_key + result.task_id, result.payload,
                            int(result.ttl * 1000), 0,
                        )
                    )  # fmt: skip
                continue
            _settlement(arguments, settlement)
            if result is None:
                arguments.append("")
            else:
                add((result_key + result.task_id, result.payload, int(result.ttl * 1000)))
            rows = self._transport.prepare(publications)
            arguments.append(len(rows))
            for queue, name, step, due, payload in rows:
                add((queue, name, step, f"{due:.6f}" if due else 0, payload))
        return self._apply(arguments, [c.settlement.tag for c in completions])

    def _apply(self, arguments: list[Any], tags: list[Tag]) -> Sequence[Tag]:
        if not tags:
            return ()
        if self._wait.armed:
            self._wait.disarm()
        fenced = self._call(COMMIT, (*self._commit_head, *arguments))
        if not fenced:
            return ()
        return [tags[position] for position in fenced]

    def _call(self, script: Script, command: tuple[Any, ...]) -> Any:
        wire = self._wire
        if wire is None or self._pid != os.getpid():
            self._transport.link.check()
            wire = self._wire = self._link.wire()
            self._pid = os.getpid()
        wire.send(pack(*command), _PATIENCE)
        answer = wire.read(_PATIENCE)
        if is_unknown_script(answer):
            wire.send(pack("EVAL", script.source, *command[2:]), _PATIENCE)
            answer = wire.read(_PATIENCE)
        if isinstance(answer, Exception):
            if self._link.address.moved(str(answer)) or str(answer).startswith("READONLY"):
                wire.close()
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
            self._wait.abandon()
            self._wait.close()
            self._transport.give_back(self.owner.id, clean=True)
        finally:
            if wire is not None:
                wire.close()
            self._on_close(self)


def _settlement(arguments: list[Any], settlement: Settlement) -> None:
    action = settlement.action
    if action == "ack":
        arguments += (settlement.tag, "a")
    elif action == "release":
        arguments += (
            settlement.tag, "l", f"{settlement.delay:.6f}", 1 if settlement.counted else 0,
        )  # fmt: skip
    else:
        kind = "parked" if settlement.parked else "dead"
        arguments += (settlement.tag, "j", settlement.reason, kind)
