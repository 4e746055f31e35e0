"""A TCP proxy that breaks connections on purpose, between a client and a real server.

::

    from caraway.testing.proxy import Proxy

    with server("redis") as redis, Proxy(redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        ...
        proxy.reset()           # both ends of each connection see a reset
        proxy.swallow()         # half-open: whatever is sent vanishes, and nobody is told
        proxy.pause(12.0)       # nothing passes for 12 s, then all of it
        proxy.delay(0.002)      # each direction takes 2 ms longer
        proxy.refuse()          # nobody listens any more
        proxy.heal()            # new connections are as good as the server's own

It has a thread of its own.  Each method returns when what it does is done.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

_CHUNK = 65536
_MOST = 1 << 20
"""Bytes held for one direction; beyond, the sender has to wait, as with a real network."""
_RESET = struct.pack("ii", 1, 0)
_PRECISE = 0.001
"""Seconds; a selector waits in steps of this, and what is delayed by 2 ms needs finer ones."""


class _Stream:
    """One direction of one connection.

    Attributes:
        chunks: (when it may go on, bytes), in order.
        ended: the source has nothing more to send.
        shut: the target was told so.
        full: the target takes no more just now; the selector tells when it does.
    """

    __slots__ = ("chunks", "ended", "full", "held", "shut", "target")

    def __init__(self, target: socket.socket) -> None:
        self.target = target
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.held = 0
        self.ended = self.shut = self.full = False


class _Pair:
    """A client's connection and the server's.

    Attributes:
        lost: what is sent on it vanishes, for ever: it missed something.
        connected: the server's end is.
    """

    __slots__ = ("client", "connected", "down", "lost", "server", "up")

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.up = _Stream(server)
        self.down = _Stream(client)
        self.connected = self.lost = False


class Proxy:
    """Listens on 127.0.0.1 and passes on to a server.  A context manager; its methods may
    be called from any thread.

    Args:
        port: of the server.
        host: of the server.

    Attributes:
        port: to connect to instead of the server's.
        accepted: how many connections there were so far.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._target = (host, port)
        self._selector = selectors.DefaultSelector()
        self._pairs: set[_Pair] = set()
        self._orders: deque[Callable[[], None]] = deque()
        self._wake_in, self._wake_out = os.pipe()
        os.set_blocking(self._wake_in, False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self.port = 0
        self.accepted = 0
        self._delay = 0.0
        self._paused_until = 0.0
        self._swallowing = False
        self._closed = False
        self._listen()
        self._thread = threading.Thread(target=self._run, name="caraway-proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what a test does ---------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many are open now, swallowed ones too."""
        return len(self._pairs)

    def reset(self) -> None:
        """End all connections with a TCP reset at both ends.  New ones are welcome."""
        self._do(lambda: self._end_all(hard=True))

    def cut(self) -> None:
        """Close all connections in order, with what they carried left unsent.  New ones
        are welcome."""
        self._do(lambda: self._end_all(hard=False))

    def swallow(self) -> None:
        """Make all connections half-open, and those to come until `heal`: each end may
        send, nothing arrives, and nobody is told.  A connection that was swallowed never
        comes back, as one whose entry a firewall has dropped."""

        def begin() -> None:
            self._swallowing = True
            for pair in self._pairs:
                self._lose(pair)

        self._do(begin)

    def pause(self, seconds: float = float("inf")) -> None:
        """Let nothing pass for so long, or until `heal`; then all of it, in order.  New
        connections are accepted meanwhile, and wait as well.

        Args:
            seconds: from now; by default until `heal`.
        """

        def begin() -> None:
            self._paused_until = time.monotonic() + seconds

        self._do(begin)

    def delay(self, seconds: float) -> None:
        """Have each direction take so much longer; a round trip twice that."""

        def begin() -> None:
            self._delay = seconds

        self._do(begin)

    def refuse(self) -> None:
        """Listen no more: who connects is refused, until `heal`.  What is connected stays."""
        self._do(self._deafen)

    def heal(self) -> None:
        """Be a good network again: no pause, delay, swallowing or refusing."""

        def begin() -> None:
            self._paused_until = self._delay = 0.0
            self._swallowing = False
            self._listen()

        self._do(begin)

    def close(self) -> None:
        """End it with all its connections.  Idempotent."""
        if self._closed:
            return
        self._do(self._finish)
        self._thread.join(5.0)
        self._selector.close()
        os.close(self._wake_in)
        os.close(self._wake_out)

    # -- its thread ----------------------------------------------------------------------

    def _do(self, order: Callable[[], None]) -> None:
        done = threading.Event()

        def obey() -> None:
            try:
                order()
            finally:
                done.set()

        self._orders.append(obey)
        os.write(self._wake_out, b"x")
        if not done.wait(10.0):
            raise AssertionError("the proxy's thread doesn't answer")

    def _run(self) -> None:
        while not self._closed:
            for key, mask in self._wait():
                pair = key.data
                if pair is None:
                    self._obey_or_accept(key.fileobj)
                elif pair in self._pairs:
                    try:
                        self._pass(pair, key.fileobj, mask)
                    except OSError:
                        self._end(pair, hard=True)
            self._flush_due()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        due = self._due()
        if due is None:
            return self._selector.select()
        wait = due - time.monotonic()
        if 0 < wait < 2 * _PRECISE:
            ready = self._selector.select(0)
            if not ready:
                time.sleep(min(wait, _PRECISE / 2))
            return ready or self._selector.select(0)
        return self._selector.select(max(0.0, wait - _PRECISE))

    def _due(self) -> float | None:
        """When there is something to do without being told."""
        due: float | None = None
        if self._paused_until:
            due = self._paused_until if self._paused_until != float("inf") else None
        else:
            for pair in self._pairs:
                for stream in (pair.up, pair.down):
                    if stream.chunks and pair.connected and not stream.full:
                        at = stream.chunks[0][0]
                        due = at if due is None else min(at, due)
        return due

    def _obey_or_accept(self, file: Any) -> None:
        if file == self._wake_in:
            with suppress(BlockingIOError):
                os.read(self._wake_in, 4096)
            while self._orders:
                self._orders.popleft()()
            return
        try:
            client, _ = file.accept()
        except OSError:  # it has gone already
            return
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)  # noqa: FBT003 - the standard library's
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.accepted += 1
        pair = _Pair(client, server)
        self._pairs.add(pair)
        if self._swallowing:
            self._lose(pair)
        elif server.connect_ex(self._target) not in (0, errno.EINPROGRESS):
            self._end(pair, hard=True)
            return
        self._watch(pair)

    def _pass(self, pair: _Pair, end: Any, mask: int) -> None:
        if mask & selectors.EVENT_WRITE and end is pair.server and not pair.connected:
            error = pair.server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            pair.connected = True
        if mask & selectors.EVENT_READ:
            stream = pair.up if end is pair.client else pair.down
            data = end.recv(_CHUNK)
            if not data:
                stream.ended = True
            elif not pair.lost:
                stream.chunks.append((time.monotonic() + self._delay, data))
                stream.held += len(data)
        self._flush(pair)

    def _flush_due(self) -> None:
        now = time.monotonic()
        if self._paused_until:
            if now < self._paused_until:
                return
            self._paused_until = 0.0
        for pair in list(self._pairs):
            try:
                self._flush(pair)
            except OSError:
                self._end(pair, hard=True)

    def _flush(self, pair: _Pair) -> None:
        now = time.monotonic()
        for stream in (pair.up, pair.down):
            stream.full = False
            open_ = pair.connected and not self._paused_until
            while open_ and stream.chunks and stream.chunks[0][0] <= now:
                at, data = stream.chunks[0]
                try:
                    sent = stream.target.send(data)
                except BlockingIOError:
                    stream.full = True
                    break
                stream.held -= sent
                if sent < len(data):
                    stream.chunks[0] = (at, data[sent:])
                    stream.full = True
                    break
                stream.chunks.popleft()
            if open_ and stream.ended and not stream.chunks and not stream.shut and not pair.lost:
                stream.shut = True
                with suppress(OSError):
                    stream.target.shutdown(socket.SHUT_WR)
        over = pair.up.ended and pair.down.ended
        if (pair.lost and pair.up.ended) or (over and pair.up.shut and pair.down.shut):
            self._end(pair, hard=False)
        else:
            self._watch(pair)

    def _watch(self, pair: _Pair) -> None:
        """Have the selector tell what can be done, and nothing else."""
        for end, into, out in (
            (pair.client, pair.up, pair.down),
            (pair.server, pair.down, pair.up),
        ):
            mask = 0
            if not into.ended and into.held < _MOST:
                mask |= selectors.EVENT_READ
            if end is pair.server and not pair.connected:
                mask = 0 if pair.lost else selectors.EVENT_WRITE
            elif out.full:
                mask |= selectors.EVENT_WRITE
            known = self._selector.get_map().get(end.fileno())
            if known is None:
                if mask:
                    self._selector.register(end, mask, pair)
            elif not mask:
                self._selector.unregister(end)
            elif known.events != mask:
                self._selector.modify(end, mask, pair)

    def _lose(self, pair: _Pair) -> None:
        pair.lost = True
        for stream in (pair.up, pair.down):
            stream.chunks.clear()
            stream.held = 0

    def _end_all(self, *, hard: bool) -> None:
        for pair in list(self._pairs):
            self._end(pair, hard=hard)

    def _end(self, pair: _Pair, *, hard: bool) -> None:
        self._pairs.discard(pair)
        for end in (pair.client, pair.server):
            with suppress(KeyError, ValueError):
                self._selector.unregister(end)
            if hard:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.close()

    def _listen(self) -> None:
        if self._listener is not None:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        listener.setblocking(False)  # noqa: FBT003 - the standard library's
        self.port = listener.getsockname()[1]
        self._listener = listener
        self._selector.register(listener, selectors.EVENT_READ)

    def _deafen(self) -> None:
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _finish(self) -> None:
        self._closed = True
        self._deafen()
        self._end_all(hard=True)
