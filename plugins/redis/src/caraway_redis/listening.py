"""Waiting for results: one connection of a process for all who wait.

Celery's workers publish each result on a channel of its key's name.  Who waits
subscribes, reads what is stored, and then waits: what is stored between the two isn't
missed.  The connection speaks version 3 of the protocol, in which both go in one round
trip.  After a reconnect the same is done for all who wait.

Of those who wait, one reads the socket for all; it needs no thread of its own, and no
result has to change hands to get to the one who waits alone.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from caraway.errors import OperationalError
from caraway.states import READY_STATES
from caraway.waking import readable
from caraway_redis.faults import for_backend, translate
from caraway_redis.results import record
from caraway_redis.wires import Wire, pack

if TYPE_CHECKING:
    from caraway_redis.connection import Link

_PATIENCE = 5.0
"""Seconds for the answer to a read; after it the connection is taken for dead."""
_LINGER = 5.0
"""Seconds for which channels of a wait that found some of its results stay subscribed:
a group's members are waited for again and again."""


class _Waiter:
    __slots__ = ("error", "event", "found", "wanted")

    def __init__(self, wanted: Sequence[str]) -> None:
        self.wanted = wanted
        self.found: dict[str, bytes] = {}
        self.event = threading.Event()
        self.error: OperationalError | None = None


class _Channel:
    """One subscribed channel.

    Attributes:
        waiters: who waits for it.
        value: the final result, once it was seen.
        until: unsubscribed after this, if nobody waits.
    """

    __slots__ = ("until", "value", "waiters")

    def __init__(self) -> None:
        self.waiters: list[_Waiter] = []
        self.value: bytes | None = None
        self.until = 0.0


class Listener:
    """See the module's text.  Thread-safe.

    Args:
        link: makes the connection.
        key: prefix of results' keys.
    """

    def __init__(self, link: Link, key: str) -> None:
        self._link = link
        self._key = key
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._channels: dict[str, _Channel] = {}
        self._reads: deque[tuple[list[str], float]] = deque()
        """Ids of the reads whose answers are still to come, and when they were sent; in
        order."""
        self._heard = 0.0
        """When something came last."""
        self._reading = False
        self._timer: threading.Timer | None = None

    def wait(self, wanted: list[str], timeout: float) -> dict[str, bytes]:
        """Wait for a final result of at least one; return all that are.

        Raises:
            OperationalError: there is no connection at the end of the time.
        """
        if self._pid != os.getpid():
            self._begin()  # what was inherited through a fork is the parent's
        if not wanted:
            return {}
        end = monotonic() + timeout
        waiter = _Waiter(wanted)
        self._enter(waiter)
        try:
            backoff = 0.02
            while not waiter.found:
                left = end - monotonic()
                if left <= 0:
                    break
                if not self._lead():
                    waiter.event.wait(left)
                    waiter.event.clear()
                    continue
                try:
                    if self._wire is None:
                        self._connect(min(left, 5.0))
                    self._read(waiter, end)
                    backoff = 0.02
                    waiter.error = None
                except OperationalError as exc:
                    waiter.error = exc
                    self._lost()
                    self._pass_on()
                    # Not under the lock: others may come meanwhile.
                    threading.Event().wait(max(0.0, min(backoff, end - monotonic())))
                    backoff = min(backoff * 2, 1.0)
                except BaseException:
                    # A signal's or a time limit's: an answer may be half read.
                    self._lost()
                    self._pass_on()
                    raise
                else:
                    self._pass_on()
        finally:
            self._leave(waiter)
        if not waiter.found and waiter.error is not None:
            raise for_backend(waiter.error) from waiter.error.__cause__
        return waiter.found

    # -- those who wait ----------------------------------------------------------------

    def _enter(self, waiter: _Waiter) -> None:
        with self._lock:
            new = []
            for task_id in waiter.wanted:
                channel = self._channels.get(task_id)
                if channel is None:
                    channel = self._channels[task_id] = _Channel()
                    new.append(task_id)
                elif channel.value is not None:
                    waiter.found[task_id] = channel.value
                channel.waiters.append(waiter)
            if new and self._wire is not None:
                self._subscribe(new)

    def _leave(self, waiter: _Waiter) -> None:
        with self._lock:
            now = monotonic()
            idle = []
            linger = bool(waiter.found) and len(waiter.found) < len(waiter.wanted)
            for task_id in waiter.wanted:
                channel = self._channels.get(task_id)
                if channel is None:
                    continue
                channel.waiters.remove(waiter)
                if channel.waiters:
                    continue
                if linger and channel.value is None:
                    channel.until = now + _LINGER
                else:
                    idle.append(task_id)
            self._unsubscribe(idle)
            if linger and self._timer is None:
                self._later()
        self._pass_on(release=False)

    def _later(self) -> None:
        self._timer = threading.Timer(_LINGER, self._tidy)
        self._timer.daemon = True
        self._timer.start()

    def _tidy(self) -> None:
        with self._lock:
            self._timer = None
            now = monotonic()
            over = [
                task_id
                for task_id, channel in self._channels.items()
                if not channel.waiters and channel.until <= now
            ]
            self._unsubscribe(over)
            if any(not channel.waiters for channel in self._channels.values()):
                self._later()

    # -- the connection; under the lock ------------------------------------------------

    def _subscribe(self, ids: list[str]) -> None:
        wire = self._wire
        if wire is None:
            return
        for begin in range(0, len(ids), 1000):
            some = ids[begin : begin + 1000]
            keys = [self._key + task_id for task_id in some]
            self._reads.append((some, monotonic()))
            try:
                wire.send(pack("SUBSCRIBE", *keys) + pack("MGET", *keys), 5.0)
            except OperationalError:
                self._wire = None  # whoever reads will see it, and connect anew
                return

    def _unsubscribe(self, ids: list[str]) -> None:
        for task_id in ids:
            del self._channels[task_id]
        wire = self._wire
        if wire is None or not ids:
            return
        try:
            for begin in range(0, len(ids), 1000):
                keys = [self._key + task_id for task_id in ids[begin : begin + 1000]]
                wire.send(pack("UNSUBSCRIBE", *keys), 5.0)
        except OperationalError:
            self._wire = None

    # -- the one who reads -------------------------------------------------------------

    def _lead(self) -> bool:
        with self._lock:
            if self._reading:
                return False
            self._reading = True
            return True

    def _pass_on(self, *, release: bool = True) -> None:
        """Let another one read."""
        with self._lock:
            if release:
                self._reading = False
            if self._reading:
                return
            for channel in self._channels.values():
                for waiter in channel.waiters:
                    if not waiter.found:
                        waiter.event.set()
                        return

    def _connect(self, timeout: float) -> None:
        self._link.check()
        wire = self._link.wire(protocol=3)
        wire.connect(timeout)
        with self._lock:
            self._reads.clear()
            self._wire = wire
            self._heard = monotonic()
            self._subscribe(list(self._channels))

    def _lost(self) -> None:
        with self._lock:
            wire, self._wire = self._wire, None
            self._reads.clear()
        if wire is not None:
            wire.close()

    def _read(self, waiter: _Waiter, end: float) -> None:
        """Read for all, until there is something for this one or its time is over."""
        while not waiter.found:
            wire = self._wire
            if wire is None:
                raise translate(ConnectionError("the connection was lost"), self._link.place)
            if not wire.buffered():
                left = end - monotonic()
                if left <= 0:
                    return
                if not readable((wire.fileno(),), min(left, _PATIENCE)):
                    self._look_after(wire)
                    continue
            answer = wire.read(5.0)
            with self._lock:
                self._heard = monotonic()
                self._dispatch(answer)

    def _look_after(self, wire: Wire) -> None:
        """Nothing came for a while: see that the connection isn't half-open, in which case
        nobody would ever be told of a result.

        Raises:
            OperationalError: it is.
        """
        with self._lock:
            now = monotonic()
            if self._reads:
                if now - self._reads[0][1] >= _PATIENCE:
                    raise translate(TimeoutError("timed out"), self._link.place)
            elif 0 < self._link.options.health_check_interval < now - self._heard:
                self._reads.append(([], now))
                wire.send(pack("PING"), _PATIENCE)

    def _dispatch(self, answer: Any) -> None:
        import hiredis

        if isinstance(answer, hiredis.PushNotification):
            if len(answer) == 3 and answer[0] == b"message":
                self._arrived(answer[1].decode()[len(self._key) :], answer[2])
            return
        if not self._reads:
            return
        ids, _ = self._reads.popleft()
        if isinstance(answer, Exception):
            raise translate(answer, self._link.place) from answer
        if not ids:
            return  # of a ping
        for task_id, value in zip(ids, answer, strict=True):
            if value is not None:
                self._arrived(task_id, value)

    def _arrived(self, task_id: str, value: bytes) -> None:
        channel = self._channels.get(task_id)
        if channel is None or record(task_id, value).state not in READY_STATES:
            return
        channel.value = value
        for waiter in channel.waiters:
            waiter.found[task_id] = value
            waiter.event.set()

    def close(self) -> None:
        """Close the connection.  Idempotent."""
        if self._pid != os.getpid():
            return
        with self._lock:
            wire, self._wire = self._wire, None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if wire is not None:
            wire.close()
