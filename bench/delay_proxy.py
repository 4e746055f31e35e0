"""A TCP proxy that adds time to the way: what a server in another room looks like.

``python -m bench.delay_proxy 127.0.0.1 6379`` prints the port it listens on and runs until
its standard input is closed.  Every piece of data is passed on one millisecond after it came,
in each direction, so that a round trip takes 2 ms more (``--delay`` seconds for each way).
Bandwidth is not limited: what is sent in one go arrives in one go, as on a real network.

One process, one thread, no asyncio: its loop must be faster than what is measured through it,
and asyncio's timers are rounded up to whole milliseconds.  Standard library only.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import sys
import time
from collections import deque
from select import select

WAY = 0.001
"""Seconds that one way takes longer."""
_PIECE = 64 * 1024
"""Most bytes read at a time; from 128 KiB on, memory is mapped anew for every read."""
_FULL = 16 * 1024 * 1024
"""Bytes on their way in one direction beyond which no more are read."""


class _Way:
    """One direction of one connection."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.back: _Way = self
        self.size = 0
        self.late: deque[memoryview] = deque()
        self.ended = False


class DelayProxy:
    """Listens on a free port of 127.0.0.1; `run` serves until ``stop`` is readable."""

    def __init__(self, host: str, port: int, delay: float = WAY) -> None:
        self.delay = delay
        self._to = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.settimeout(0.0)
        self.port: int = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        # all wait equally long, so that one queue holds them in the order of their times
        self._coming: deque[tuple[float, _Way, bytes]] = deque()

    def run(self, stop: int) -> None:
        """Serve until the file ``stop`` is readable or closed."""
        self._selector.register(stop, selectors.EVENT_READ, "stop")
        poll = self._selector.fileno()
        while True:
            rest = self._coming[0][0] - time.perf_counter() if self._coming else None
            # poll() and epoll round up to milliseconds, select does not; a selector's own
            # file is readable when one of its files is
            if rest is None or rest > 0:
                select([poll], [], [], rest)
            for key, mask in self._selector.select(0):
                if key.data == "stop":
                    return
                if key.data is None:
                    self._accept()
                    continue
                if mask & selectors.EVENT_WRITE and key.data.back.late:
                    self._send(key.data.back)
                if mask & selectors.EVENT_READ:
                    self._receive(key.data)
            now = time.perf_counter()
            while self._coming and self._coming[0][0] <= now:
                _, way, data = self._coming.popleft()
                if not data:
                    way.ended = True
                else:
                    way.late.append(memoryview(data))
                self._send(way)

    def _accept(self) -> None:
        try:
            near, _ = self._listener.accept()
        except OSError:
            return
        try:
            far = socket.create_connection(self._to, timeout=5.0)
        except OSError:
            near.close()
            return
        there, back = _Way(near, far), _Way(far, near)
        there.back, back.back = back, there
        for way in (there, back):
            way.source.settimeout(0.0)
            way.source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(way.source, selectors.EVENT_READ, way)

    def _receive(self, way: _Way) -> None:
        try:
            data = way.source.recv(_PIECE)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        self._coming.append((time.perf_counter() + self.delay, way, data))
        way.size += len(data)
        if not data:
            way.size = _FULL  # reads no more
        self._watch(way)

    def _send(self, way: _Way) -> None:
        try:
            while way.late:
                data = way.late[0]
                sent = way.target.send(data)
                way.size -= sent
                if sent < len(data):
                    way.late[0] = data[sent:]
                    break
                way.late.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            way.late.clear()
            self._close(way)
            return
        if way.ended and not way.late:
            try:
                way.target.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            if way.back.ended:
                self._close(way)
                return
        self._watch(way)
        self._watch(way.back)

    def _watch(self, way: _Way) -> None:
        """Watch a way's source: to read unless it is full, to write what its back owes it."""
        wanted = selectors.EVENT_READ if way.size < _FULL else 0
        if way.back.late:
            wanted |= selectors.EVENT_WRITE
        have = self._selector.get_map().get(way.source)
        if have is None:
            if wanted and way.source.fileno() >= 0:
                self._selector.register(way.source, wanted, way)
        elif not wanted:
            self._selector.unregister(way.source)
        elif have.events != wanted:
            self._selector.modify(way.source, wanted, way)

    def _close(self, way: _Way) -> None:
        for one in (way, way.back):
            one.size, one.ended = _FULL, True
            if one.source.fileno() >= 0 and self._selector.get_map().get(one.source):
                self._selector.unregister(one.source)
            one.source.close()


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m bench.delay_proxy", description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=WAY, help="seconds of each way")
    options = parser.parse_args()
    proxy = DelayProxy(options.host, options.port, options.delay)
    print(proxy.port, flush=True)
    proxy.run(sys.stdin.fileno())
    return 0


if __name__ == "__main__":
    sys.exit(main())
