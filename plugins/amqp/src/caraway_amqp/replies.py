"""The caller's side of ``rpc://``: its reply queue, and what came through it.

Results are acknowledged when they are kept here, so none is lost with a connection: the
queue outlives it, for a while (`_UNUSED`).  A process that nobody waits in comes back to it
by itself.  Of those who wait, one listens to the socket for all; nobody needs a thread of
its own.
"""

from __future__ import annotations

import atexit
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import msgspec

from caraway.errors import TransportError, TransportUnavailable
from caraway.message import StoredResult
from caraway.protocol.result import state_of
from caraway.states import READY_STATES
from caraway.waking import Waker
from caraway_amqp import frames
from caraway_amqp.arrivals import number_of
from caraway_amqp.channel import Channel, Content
from caraway_amqp.frames import acknowledge, read_content, short
from caraway_amqp.link import Link
from caraway_amqp.returning import Returning
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import declare_queue, read_out

_AHEAD = 500
"""Results that the broker may send before they are acknowledged."""
_UNUSED = 300.0
"""Seconds after which the broker drops the queue of a process that is gone."""
_LOOK = 10.0
"""Seconds between two looks at a connection without heartbeats."""
_PATIENCE = 2.0
"""Seconds for deleting the queue."""


class _Kept(msgspec.Struct, gc=False):
    result: StoredResult
    until: float


class _Waiter:
    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = threading.Event()


class ReplyQueue:
    """See the module's text.  Thread-safe.

    Args:
        name: of the queue; empty for a random one.
        connect: opens a link; given the seconds that it may take, 0 for as configured.
        clock: seconds since the epoch.
        expires: seconds for which results are kept that don't say; and the most for which
            the broker keeps a queue whose reader is gone.

    Attributes:
        expecting: the queue was declared.
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[float], Link],
        clock: Callable[[], float],
        expires: float,
    ) -> None:
        self.name = name or str(uuid.uuid4())
        self.expecting = False
        self._connect = connect
        self._clock = clock
        self._expires = expires
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._opening = threading.RLock()
        self._kept: dict[str, _Kept] = {}
        """In order of their coming, which is about that of their end."""
        self._lock = threading.Lock()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._listener: _Waiter | None = None
        self._closed = False
        self._returning = Returning(self._opened, self._there)
        self._waker = Waker()
        _open.add(self)

    # -- the connection ----------------------------------------------------------------

    def expect(self) -> str:
        """The queue is there and listened to; its name.

        Raises:
            TransportError: it can't be.
        """
        self._opened()
        return self.name

    def _opened(self, timeout: float = 0.0) -> Channel:
        channel = self._channel
        if channel is not None and _sound(channel):
            return channel
        with self._opening:
            if self._closed:
                raise TransportError("the result backend is closed", hint="Open a new one.")
            channel = self._channel
            if channel is not None and _sound(channel):
                return channel
            if self._link is not None:
                self._link.ended = None
                self._link.close()
            self._link = link = self._connect(timeout)
            if self._returning.closed:
                link.close()
                raise TransportError("the result backend is closed", hint="Open a new one.")
            with link.lock:
                channel = link.channel()
                unused = int(min(self._expires, _UNUSED) * 1000)
                # Celery's deletes itself with its last consumer, and so with a connection
                # that breaks.  This one is deleted by `close`, or when nobody comes back.
                declared = declare_queue(self.name, {"x-expires": unused})
                channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
                ahead = b"\0\0\0\0%b\0" % _AHEAD.to_bytes(2, "big")
                channel.call(frames.BASIC_QOS, ahead, frames.BASIC_QOS_OK)
                arguments = b"\0\0" + short(self.name) + short("") + b"\0" + dump_table({})
                channel.call(frames.BASIC_CONSUME, arguments, frames.BASIC_CONSUME_OK)
            self._channel = channel
            self.expecting = True
            # Or the queue ends while nobody looks.
            link.ended = self._returning.begin
            if not link.heartbeat:
                # Nobody else would see that it was closed.
                link.watch(_nothing, _LOOK)
            if not _sound(channel):
                self._returning.begin()
            return channel

    def _there(self) -> bool:
        return self._channel is not None and _sound(self._channel)

    def _catch_up(self, patience: float = 10.0) -> None:
        """Keep all that the broker has by now."""
        channel = self._opened()
        with channel.link.lock:
            read_out(channel, self.name, lambda: self._keep(channel), patience=patience)

    def _listen(self, timeout: float) -> None:
        """Wait for something to come, and keep it."""
        channel = self._opened(timeout)
        link = channel.link
        with link.lock:
            link.tick()
        # Not under the lock: whoever only looks must not wait for who waits.
        link.wait(min(timeout, 1.0), also=self._waker.fileno())
        self._waker.drain()
        with link.lock:
            while link.read():
                pass
            self._keep(channel)

    # -- what came; under the link's lock ----------------------------------------------

    def _keep(self, channel: Channel) -> int:
        channel.check()
        deliveries = channel.deliveries
        if channel.cancelled:
            raise channel.link.fail(
                TransportUnavailable(f"the reply queue {self.name} was deleted in the broker")
            )
        if not deliveries:
            return 0
        contents = list(deliveries)
        deliveries.clear()
        now = self._clock()
        with self._lock:
            for content in contents:
                self._keep_one(content, now)
            self._drop_expired(now, at_most=2 * len(contents))
        last = number_of(contents[-1][0])
        channel.send(acknowledge(channel.number, last, multiple=True))
        return len(contents)

    def _keep_one(self, content: Content, now: float) -> None:
        try:
            message, own = read_content(content[1], content[2])
        except ValueError:
            return
        task_id = str(message.properties.get("correlation_id") or "")
        # Celery's don't say until when they are of interest.
        until = own.get(frames.EXPIRES)
        if type(until) is not float:
            until = now + self._expires
        before = self._kept.get(task_id)
        final_stands = before is not None and before.until > now and _final(before.result)
        if final_stands:
            return
        if before is not None:
            del self._kept[task_id]
        result = StoredResult(task_id, state_of(message.body), message.body)
        self._kept[task_id] = _Kept(result, until)
        if _final(result):
            for waiter in self._waiting.get(task_id, ()):
                waiter.event.set()
                if waiter is self._listener:
                    self._wake()

    def _wake(self) -> None:
        self._waker.wake()

    def _drop_expired(self, now: float, at_most: int) -> int:
        over: list[str] = []
        for task_id, kept in self._kept.items():
            if kept.until > now or len(over) >= at_most:
                break
            over.append(task_id)
        for task_id in over:
            del self._kept[task_id]
        return len(over)

    def _look(self, task_ids: Iterable[str]) -> dict[str, StoredResult]:
        now = self._clock()
        with self._lock:
            found = {each: self._kept[each] for each in task_ids if each in self._kept}
        return {each: kept.result for each, kept in found.items() if kept.until > now}

    # -- what is asked -----------------------------------------------------------------

    def get(self, task_ids: Sequence[str]) -> dict[str, StoredResult]:
        """What came of these so far."""
        found = self._look(task_ids)
        if len(found) == len(task_ids) and all(map(_final, found.values())):
            return found
        self._catch_up()
        return self._look(task_ids)

    def wait(self, task_ids: Sequence[str], timeout: float) -> dict[str, StoredResult]:
        """See `caraway.interfaces.backend.Backend.wait`.

        Raises:
            TransportError: there is no connection at the end of the time.
        """
        wanted = list(dict.fromkeys(task_ids))
        found = {i: r for i, r in self._look(wanted).items() if _final(r)}
        if len(found) == len(wanted):
            return found
        end = monotonic() + timeout
        waiter = _Waiter()
        with self._lock:
            for task_id in wanted:
                self._waiting.setdefault(task_id, []).append(waiter)
        try:
            return self._wait(waiter, wanted, end)
        finally:
            with self._lock:
                for task_id in wanted:
                    waiters = self._waiting[task_id]
                    waiters.remove(waiter)
                    if not waiters:
                        del self._waiting[task_id]
            self._resign(waiter)

    def _wait(self, waiter: _Waiter, wanted: list[str], end: float) -> dict[str, StoredResult]:
        caught_up, backoff = False, 0.02
        while True:
            left = end - monotonic()
            error: TransportUnavailable | None = None
            try:
                if not caught_up:
                    self._catch_up(max(0.0, left))
                    caught_up, backoff = True, 0.02
                elif self._lead(waiter):
                    self._listen(max(0.0, left))
                else:
                    waiter.event.wait(left)
                    waiter.event.clear()
            except TransportUnavailable as exc:
                error, caught_up = exc, False
            found = {i: r for i, r in self._look(wanted).items() if _final(r)}
            if found:
                return found
            left = end - monotonic()
            if left <= 0:
                if error is not None:
                    raise error
                return found
            if error is not None:
                self._resign(waiter)
                waiter.event.wait(min(backoff, left))
                backoff = min(backoff * 2, 1.0)

    def _lead(self, waiter: _Waiter) -> bool:
        with self._lock:
            if self._listener is None:
                self._listener = waiter
            return self._listener is waiter

    def _resign(self, waiter: _Waiter) -> None:
        with self._lock:
            if self._listener is waiter:
                self._listener = None
            if self._listener is None:
                for waiters in self._waiting.values():
                    if waiters[0] is not waiter:
                        waiters[0].event.set()
                        return

    def forget(self, task_ids: Sequence[str]) -> int:
        """Drop these; return how many there were."""
        found = self.get(task_ids)
        with self._lock:
            for task_id in task_ids:
                self._kept.pop(task_id, None)
        return len(found)

    def cleanup(self) -> int:
        """Drop what is over; return how many."""
        with self._lock:
            return self._drop_expired(self._clock(), len(self._kept))

    def close(self) -> None:
        """Delete the queue, and end.  Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._returning.close()
        _open.discard(self)
        # Who just comes back to a broker that is slow sees that it is closed.
        if self._opening.acquire(timeout=_PATIENCE):
            try:
                self._delete()
            finally:
                self._opening.release()
        self._waker.close()

    def _delete(self) -> None:
        channel = self._channel
        if channel is None or not _sound(channel):
            # It expires by itself.
            return
        with suppress(TransportError), channel.link.lock:
            deleted = b"\0\0" + short(self.name) + b"\0"
            channel.call(frames.QUEUE_DELETE, deleted, frames.QUEUE_DELETE_OK, timeout=_PATIENCE)
            channel.link.close()


def _nothing() -> None:
    """The chore of a connection that is only to be looked at."""


def _sound(channel: Channel) -> bool:
    return channel.error is None and channel.link.error is None


def _final(result: StoredResult) -> bool:
    return result.state in READY_STATES


_open: weakref.WeakSet[ReplyQueue] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Programs that end without closing their app leave no queue behind."""
    for each in list(_open):
        with suppress(Exception):
            each.close()


def _forked(*_: Any) -> None:
    """The parent's queues are the parent's."""
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
