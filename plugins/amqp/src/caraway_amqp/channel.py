"""One channel of a connection: methods out, answers and messages in."""

from __future__ import annotations

from collections import deque
from struct import Struct
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from caraway.errors import TransportError, TransportUnavailable
from caraway_amqp import frames
from caraway_amqp.faults import ChannelClosed
from caraway_amqp.frames import short

if TYPE_CHECKING:
    from caraway_amqp.link import Link

_method = Struct(">HH").unpack_from
_size = Struct(">Q").unpack_from
_reply = Struct(">H").unpack_from
PATIENCE = 30.0
"""Seconds for one answer where nobody says otherwise."""

Content = tuple[bytes, bytes, bytes]
"""Payload of the method that brought it, payload of its header, its body."""


class Confirmed(Protocol):
    """Told of a confirm: its tag, whether all before it are meant too, and whether it is
    a refusal."""

    def __call__(self, tag: int, *, multiple: bool, refused: bool) -> None: ...


class Channel:
    """One channel of a link.

    Attributes:
        deliveries: what was delivered and not yet taken from here.
        returned: what could not be routed, with what it says about itself.
        cancelled: tags of consumers that the broker ended.
        ended: how many consumers were ended by our wish, ever.
    """

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number
        self.error: TransportError | None = None
        self.deliveries: deque[Content] = deque()
        self.returned: list[Content] = []
        self.cancelled: list[str] = []
        self.ended = 0
        self.confirmed: Confirmed | None = None
        self._expected: tuple[tuple[int, int], ...] = ()
        self._answer: tuple[tuple[int, int], bytes] | None = None
        self._brought = b""
        self._header = b""
        self._missing = -1
        self._pieces: list[bytes] = []

    # -- what comes --------------------------------------------------------------------

    def take(self, kind: int, payload: bytes) -> None:
        """A frame of this channel."""
        if kind == frames.METHOD:
            which = _method(payload)
            if which == frames.BASIC_DELIVER:
                self._brought = payload
                self._missing = -1
            else:
                self._take_method(which, payload)
        elif kind == frames.HEADER:
            self._header = payload
            (self._missing,) = _size(payload, 4)
            if not self._missing:
                self._content(b"")
        elif kind == frames.BODY:
            size = len(payload)
            if size == self._missing and not self._pieces:
                self._content(payload)
                return
            self._pieces.append(payload)
            self._missing -= size
            if self._missing <= 0:
                body, self._pieces = b"".join(self._pieces), []
                self._content(body)

    def _content(self, body: bytes) -> None:
        brought = self._brought
        which = _method(brought)
        found = (brought, self._header, body)
        if which == frames.BASIC_DELIVER:
            self.deliveries.append(found)
        elif which == frames.BASIC_RETURN:
            self.returned.append(found)
        else:
            self.got: Content = found
            self._answer = (which, brought)

    def _take_method(self, which: tuple[int, int], payload: bytes) -> None:
        if which == frames.BASIC_ACK or which == frames.BASIC_NACK:
            if self.confirmed is not None:
                tag = int.from_bytes(payload[4:12], "big")
                refused = which == frames.BASIC_NACK
                self.confirmed(tag, multiple=bool(payload[12] & 1), refused=refused)
        elif which in (frames.BASIC_RETURN, frames.BASIC_GET_OK):
            self._brought = payload
        elif which == frames.BASIC_CANCEL:
            self.cancelled.append(payload[5 : 5 + payload[4]].decode(errors="replace"))
        elif which == frames.BASIC_CANCEL_OK:
            self.ended += 1
        elif which == frames.CHANNEL_CLOSE:
            (code,) = _reply(payload, 4)
            text = payload[7 : 7 + payload[6]].decode(errors="replace")
            self.error = ChannelClosed(code, text)
            self.link.send(frames.method(self.number, frames.CHANNEL_CLOSE_OK), timeout=1.0)
            self.link.release(self.number)
        elif which == frames.CHANNEL_FLOW:
            self.link.send(
                frames.method(self.number, frames.CHANNEL_FLOW_OK, payload[4:5]), timeout=1.0
            )
        elif which in self._expected:
            self._answer = (which, payload)

    # -- what is asked -----------------------------------------------------------------

    def check(self) -> None:
        """Raises what closed this channel or its connection."""
        if self.error is not None:
            raise self.error
        if self.link.error is not None:
            raise self.link.error

    def send(self, data: bytes, *, timeout: float = PATIENCE) -> None:
        """Write frames of this channel."""
        if self.error is not None:
            raise self.error
        self.link.send(data, timeout=timeout)

    def call(
        self, which: tuple[int, int], arguments: bytes, *answers: tuple[int, int],
        timeout: float = PATIENCE,
    ) -> bytes:  # fmt: skip
        """Send a method and wait for its answer; the answer's payload.

        Raises:
            ChannelClosed: refused; this channel is gone.
            TransportUnavailable: no answer in time; the connection is given up, since a
                late answer would be taken for the next one's.
        """
        return self.answer(frames.method(self.number, which, arguments), *answers, timeout=timeout)[
            1
        ]

    def answer(
        self, data: bytes, *answers: tuple[int, int], timeout: float = PATIENCE
    ) -> tuple[tuple[int, int], bytes]:
        """As `call`, for ready frames; also which of the answers came."""
        self.expect(*answers)
        self.send(data, timeout=timeout)
        return self._await(timeout)

    def expect(self, *answers: tuple[int, int]) -> None:
        """The next of these that comes is what `receive` returns."""
        self._expected, self._answer = answers, None

    def receive(self, *, timeout: float = PATIENCE) -> bytes:
        """Wait for what was expected; its payload.  Raises as `call` does."""
        return self._await(timeout)[1]

    def _await(self, timeout: float) -> tuple[tuple[int, int], bytes]:
        deadline = monotonic() + timeout
        try:
            while self._answer is None:
                left = deadline - monotonic()
                if left <= 0:
                    raise self.link.fail(
                        TransportUnavailable(
                            f"{self.link.address.shown} doesn't answer within {timeout:g} s",
                            hint="See its alarms and load: rabbitmqctl status.",
                        )
                    )
                if self.error is not None:
                    raise self.error
                self.link.pump(left)
            return self._answer
        finally:
            self._expected = ()

    def close(self, *, timeout: float = PATIENCE) -> None:
        """Close this channel only; what it holds returns to its queues."""
        if self.error is None and self.link.error is None:
            arguments = b"\x00\xc8" + short("bye") + b"\0\0\0\0"
            self.call(frames.CHANNEL_CLOSE, arguments, frames.CHANNEL_CLOSE_OK, timeout=timeout)
            self.link.release(self.number)
            self.error = TransportUnavailable("the channel is closed")
