"""One connection to RabbitMQ: frames in, frames out.

py-amqp connects and logs in: see `caraway_amqp.dial`.  From there on the socket is read and
written here, in large pieces, because py-amqp reads each frame with three system calls and
writes each message with one.  A link is used by one thread at a time (`Link.lock`).
"""

from __future__ import annotations

import itertools
import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from struct import Struct
from time import monotonic
from typing import Any

from caraway.errors import TransportError, TransportUnavailable
from caraway_amqp import frames, heart
from caraway_amqp.channel import PATIENCE, Channel
from caraway_amqp.faults import closed
from caraway_amqp.frames import short
from caraway_amqp.options import Address
from caraway_amqp.pacemaker import Pacemaker, possible

_frame = Struct(">BHI").unpack_from
_method = Struct(">HH").unpack_from
_reply = Struct(">H").unpack_from
_RECV = 256 * 1024
SILENT = 2
"""Heartbeats: a broker of which nothing is heard for so long is given up.  It sends
something twice in each."""
_ATTENDED = 2.0
"""Seconds: whoever waits for what comes looks at least each second."""


class Link:
    """An open connection.

    Args:
        address: see `Address`.
        name: shown by the broker's management pages.
        timeout: seconds to connect.
        paced: its heartbeats are sent whatever this process does; see
            `caraway_amqp.pacemaker`.

    Attributes:
        able: names of what the broker says that it can do.
        chore: what is to be done now and then, with the lock held; see `watch`.
        every: how often, in seconds; and how often heartbeats are looked at.
        ended: called once when the connection is no more; in any thread, and it must return
            at once.

    Raises:
        TransportUnavailable: the broker isn't there.
        TransportError: it refuses login or virtual host.
    """

    def __init__(
        self, address: Address, name: str, timeout: float = 0.0, *, paced: bool = False
    ) -> None:
        self.address = address
        self.lock = threading.RLock()
        self.blocked = ""
        """Why the broker takes no messages just now; empty if it does."""
        self.error: TransportError | None = None
        self.channels: dict[int, Channel] = {}
        self._numbers = itertools.count(2)
        self._free: list[int] = []
        self._sending = False
        self._later = b""
        self.chore: Callable[[], None] | None = None
        self.ended: Callable[[], None] | None = None
        self._pace: Pacemaker | None = None
        from caraway_amqp.dial import dial

        line = dial(address, name, timeout or address.timeout, paced=paced)
        self.socket = line.socket
        self.frame_max = line.frame_max
        self.heartbeat = line.heartbeat
        self.able = line.able
        self._tls, self._relay, self._rest = line.tls, line.relay, line.rest
        self._poll = select.poll() if hasattr(select, "poll") else None
        if self._poll is not None:
            self._poll.register(self.socket, select.POLLIN)
        self.heard = self.said = self._looked = self._awaited = monotonic()
        self.every = self.heartbeat / 6
        if paced and self.heartbeat and not address.tls and possible():
            try:
                self._pace = Pacemaker(self.socket, self.heartbeat)
            except OSError:
                # The thread's heartbeats are what is left.
                pass
        if self.heartbeat:
            heart.watch(self)

    def disown(self) -> None:
        """This process was forked from the connection's: close its copy, and say nothing."""
        self.error = self.error or TransportUnavailable(
            f"the connection to {self.address.shown} is that of another process",
            hint="Open the app's connections in the process that uses them.",
        )
        # The descriptors alone: shutting down would be its parent's end, too.
        self.socket.close()
        for companion in (self._pace, self._relay):
            if companion is not None:
                companion.end()

    def watch(self, chore: Callable[[], None], every: float) -> None:
        """Have this done now and then, in another thread, with the lock held.

        Args:
            chore: what; may raise `CarawayError`.
            every: seconds; it may be oftener.
        """
        self.chore = chore
        self.every = min(every, self.every or every)
        heart.watch(self)

    # -- channels ----------------------------------------------------------------------

    def channel(self, *, timeout: float = PATIENCE) -> Channel:
        """Open a channel."""
        channel = self.new_channel()
        channel.call(frames.CHANNEL_OPEN, b"\0", frames.CHANNEL_OPEN_OK, timeout=timeout)
        return channel

    def new_channel(self, number: int = 0) -> Channel:
        """A channel whose opening is still to be sent.  Number 1 is only for who asks
        for it."""
        number = number or (self._free.pop() if self._free else next(self._numbers))
        channel = Channel(self, number)
        self.channels[channel.number] = channel
        return channel

    def reopen(self, channel: Channel) -> None:
        """Open a channel again that the broker closed, under its number."""
        if channel.number in self._free:
            self._free.remove(channel.number)
        channel.error = None
        self.channels[channel.number] = channel
        channel.call(frames.CHANNEL_OPEN, b"\0", frames.CHANNEL_OPEN_OK)

    def release(self, number: int) -> None:
        """This channel is closed; its number may be used again."""
        if self.channels.pop(number, None) is not None and number != 1:
            self._free.append(number)

    # -- bytes -------------------------------------------------------------------------

    def send(self, data: bytes, *, timeout: float = PATIENCE) -> None:
        """Write; what comes in meanwhile is read, so that neither waits for the other.

        Raises:
            TransportError: the connection is or goes down, or nothing is taken in time.
        """
        if self.error is not None:
            raise self.error
        if self._sending:
            # What is read while a large piece is written may ask for an answer: it must
            # not land in the middle of a frame.
            self._later += data
            return
        self._sending = True
        try:
            if self._pace is None:
                self._send(data, timeout)
            else:
                with self._pace:
                    self._send(data, timeout)
        finally:
            self._sending = False
        self.said = monotonic()
        if self._later:
            data, self._later = self._later, b""
            self.send(data, timeout=timeout)

    def _send(self, data: bytes, timeout: float) -> None:
        sock = self.socket
        try:
            sent = sock.send(data)
        except (BlockingIOError, OSError) as exc:
            sent = self._soft(exc)
        if sent < len(data):
            self._send_rest(memoryview(data)[sent:], timeout)

    def _send_rest(self, view: memoryview, timeout: float) -> None:
        deadline = monotonic() + timeout
        while view:
            left = deadline - monotonic()
            if left <= 0:
                raise self.fail(
                    TransportUnavailable(
                        f"{self.address.shown} takes no data"
                        + (f": it blocks publishers ({self.blocked})" if self.blocked else ""),
                        hint="See its alarms: rabbitmqctl status.",
                    )
                )
            select.select([self.socket], [self.socket], [], min(left, 1.0))
            self.read()
            if self.error is not None:
                raise self.error
            try:
                sent = self.socket.send(view[: 1 << 20])
            except (BlockingIOError, OSError) as exc:
                sent = self._soft(exc)
            view = view[sent:]

    def _soft(self, exc: OSError) -> int:
        """0 where the socket only isn't ready; raises where it is down."""
        from ssl import SSLWantReadError, SSLWantWriteError

        if isinstance(exc, BlockingIOError | SSLWantReadError | SSLWantWriteError):
            return 0
        raise self.fail(
            TransportUnavailable(
                f"the connection to {self.address.shown} broke: {exc}",
                hint="It is reconnected to when it is used again.",
            )
        ) from exc

    def read(self) -> bool:
        """Read what is there, without waiting; True if there was something.

        Raises:
            TransportError: the connection is or goes down.
        """
        if self.error is not None:
            raise self.error
        try:
            data = self.socket.recv(_RECV)
        except (BlockingIOError, OSError) as exc:
            self._soft(exc)
            if not self._rest:
                return False
            data = b""
            if not self._complete():
                return False
        else:
            if not data:
                why = self._relay and self._relay.failed()
                raise self.fail(
                    TransportUnavailable(
                        f"{self.address.shown} closed the connection" + (f": {why}" if why else ""),
                        hint="It is reconnected to when it is used again.",
                    )
                )
        self.heard = monotonic()
        self._parse(self._rest + data if self._rest else data)
        return True

    def _complete(self) -> bool:
        rest = self._rest
        return len(rest) >= 7 and len(rest) >= _frame(rest, 0)[2] + 8

    def wait(self, timeout: float, *, also: int = -1) -> bool:
        """Wait until there is something to read, or ``also`` (a file descriptor) is
        readable; True if there is something to read."""
        if self._rest and self._complete():
            return True
        if self._tls and self.socket.pending():  # type: ignore[attr-defined]
            return True
        timeout = max(0.0, timeout)
        self._awaited = monotonic()
        if self._poll is None or also >= 0:
            wanted: list[Any] = [self.socket] if also < 0 else [self.socket, also]
            if self._poll is not None:
                poll = select.poll()
                for each in wanted:
                    poll.register(each, select.POLLIN)
                ready = [number for number, _ in poll.poll(timeout * 1000.0)]
                return self.socket.fileno() in ready
            return self.socket in select.select(wanted, [], [], timeout)[0]
        return bool(self._poll.poll(timeout * 1000.0))

    def pump(self, timeout: float) -> bool:
        """Wait for something to come, and read it; True if it did.

        Raises:
            TransportError: the connection is or goes down.
        """
        if self.error is not None:
            raise self.error
        self.tick()
        return self.wait(min(timeout, 1.0) if self.heartbeat else timeout) and self.read()

    def tick(self) -> None:
        """Send a heartbeat where it is time, and notice that the broker sends none.

        Raises:
            TransportError: the connection is or goes down.
        """
        if not self.heartbeat or self.error is not None:
            return
        now = monotonic()
        if now - self._looked > self.heartbeat:
            # It was this process that did nothing, say with its machine suspended: the
            # broker's silence is counted from here.
            self.heard = max(self.heard, now)
        self._looked = now
        if now - self.said >= self.heartbeat / 3:
            self.send(frames.HEARTBEAT_FRAME, timeout=1.0)
        if now - self.heard > self.heartbeat * SILENT and not self.wait(0):
            raise self.fail(
                TransportUnavailable(
                    f"nothing was heard of {self.address.shown} for {now - self.heard:.0f} s",
                    hint="It is reconnected to when it is used again.",
                )
            )

    def idle(self) -> None:
        """Do as `tick`; and read, if nobody waits for what comes: old heartbeats that lie
        about would pass for a sign of life.

        Raises:
            TransportError: the connection is or goes down.
        """
        if monotonic() - self._awaited > _ATTENDED:
            while self.read():
                pass
        self.tick()

    def _parse(self, data: bytes) -> None:
        at, end, channels = 0, len(data), self.channels
        while end - at >= 8:
            kind, number, size = _frame(data, at)
            stop = at + 7 + size
            if stop >= end:
                break
            if data[stop] != 0xCE:
                self._rest = b""
                raise self.fail(
                    TransportUnavailable(f"{self.address.shown} sent what is no AMQP frame")
                )
            payload = data[at + 7 : stop]
            at = stop + 1
            if number:
                channel = channels.get(number)
                if channel is not None:
                    channel.take(kind, payload)
            elif kind == frames.METHOD:
                self._about_connection(payload)
        self._rest = data[at:]

    def _about_connection(self, payload: bytes) -> None:
        which = _method(payload)
        if which == frames.CONNECTION_CLOSE:
            (code,) = _reply(payload, 4)
            text = payload[7 : 7 + payload[6]].decode(errors="replace")
            try:
                self.socket.send(frames.method(0, frames.CONNECTION_CLOSE_OK))
            except OSError:
                pass
            raise self.fail(closed(code, text, self.address.shown))
        if which == frames.CONNECTION_BLOCKED:
            self.blocked = payload[5 : 5 + payload[4]].decode(errors="replace") or "no reason given"
        elif which == frames.CONNECTION_UNBLOCKED:
            self.blocked = ""

    # -- the end -----------------------------------------------------------------------

    def fail(self, error: TransportError) -> TransportError:
        """The connection is done for; returns the error for raising."""
        if self.error is None:
            self.error = error
            heart.forget(self)
            if self._pace is not None:
                # Its end of the socket must not keep the connection open.
                with suppress(OSError):
                    self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()
            for companion in (self._pace, self._relay):
                if companion is not None:
                    companion.end()
            if self.ended is not None:
                self.ended()
        return self.error

    def close(self) -> None:
        """Say good-bye.  Idempotent."""
        if self.error is not None:
            return
        arguments = b"\x00\xc8" + short("bye") + b"\0\0\0\0"
        try:
            self.send(frames.method(0, frames.CONNECTION_CLOSE, arguments), timeout=1.0)
            # The answer says that all before it was done.
            deadline = monotonic() + 1.0
            self.channels.clear()
            while monotonic() < deadline and self.wait(deadline - monotonic()):
                data = self.socket.recv(_RECV)
                self._rest += data
                if not data or b"\x00\x0a\x00\x33\xce" in self._rest[-4096:]:
                    break
        except (TransportError, OSError):
            pass
        self.fail(TransportUnavailable("the connection is closed"))
