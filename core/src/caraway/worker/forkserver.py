"""The fork server: the one process that forks lanes.

It is forked from the supervisor before that has threads or connections, with the app
imported: so a lane starts in milliseconds, shares the app's memory with its siblings
(copy-on-write, the collector's generations frozen), and inherits no lock that is held.
It tells the supervisor which lanes started, stopped, went on and exited.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import msgspec

from caraway.worker.channel import Channel
from caraway.worker.lane_config import LaneConfig

LaneMain = Callable[[LaneConfig, Channel], int]


class ForkServer:
    """The supervisor's handle on its fork server.

    Args:
        lane_main: what a lane's process runs; its return value is the exit code.
    """

    def __init__(self, lane_main: LaneMain) -> None:
        # Before the fork: a collection writes into every object's head, and what the
        # collector doesn't know any more, no process writes into later.  So supervisor,
        # fork server and lanes share their pages.
        gc.collect()
        gc.freeze()
        ours, theirs = Channel.pair()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            code = 1
            try:
                _serve(theirs, lane_main)
                code = 0
            finally:
                os._exit(code)
        theirs.close()
        self.channel = Channel(ours)

    def start(self, config: LaneConfig) -> Channel | None:
        """Ask for a lane; return the channel to it, None if the server is gone."""
        ours, theirs = Channel.pair()
        data = msgspec.json.encode({"do": "start", "config": config})
        frame = len(data).to_bytes(4, "little") + data
        try:
            sent = socket.send_fds(self.channel.sock, [frame], [theirs.fileno()])
            if sent < len(frame):
                self.channel.sock.sendall(frame[sent:])
        except OSError:
            ours.close()
            return None
        finally:
            theirs.close()
        return Channel(ours)

    def end(self) -> None:
        """Let it go, now that no lane is left: it ends at once, and leaves no zombie."""
        self.channel.close()
        until = time.monotonic() + 2.0
        while time.monotonic() < until:
            try:
                if os.waitpid(self.pid, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.001)


def _serve(sock: socket.socket, lane_main: LaneMain) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    os.set_blocking(read_end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    channel = Channel(sock)
    children: set[int] = set()
    while True:
        with contextlib.suppress(InterruptedError):
            watched: list[Any] = [sock, read_end]
            ready = select.select(watched, [], [], 0.1 if channel.waiting else None)[0]
            channel.flush()
            if read_end in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(read_end, 4096)
                _reap(channel, children)
            if sock in ready:
                request, fds = _read_request(sock)
                if request is None:
                    break
                config = msgspec.convert(request["config"], LaneConfig)
                news = {"index": config.index, "owner": config.owner.id}
                try:
                    pid = _fork_lane(config, fds, sock, (read_end, write_end), lane_main)
                except OSError as exc:  # no process or memory is left: not for ever
                    for fd in fds:
                        os.close(fd)
                    channel.send(tell="failed", pid=0, error=str(exc), **news)
                    continue
                children.add(pid)
                channel.send(tell="started", pid=pid, **news)
    # The supervisor is gone.  The lanes notice by themselves and end; they are waited
    # for so that nobody else has to.
    while children:
        try:
            pid, _ = os.waitpid(-1, 0)
        except ChildProcessError:
            break
        children.discard(pid)


def _read_request(sock: socket.socket) -> tuple[dict[str, Any] | None, list[int]]:
    try:
        data, fds, _, _ = socket.recv_fds(sock, 4, 1)
        if not data:
            return None, []
        while len(data) < 4:
            part = sock.recv(4 - len(data))
            if not part:
                return None, []
            data += part
        size = int.from_bytes(data, "little")
        body = b""
        while len(body) < size:
            part = sock.recv(size - len(body))
            if not part:
                return None, []
            body += part
    except OSError:
        return None, []
    return msgspec.json.decode(body), fds


def _fork_lane(
    config: LaneConfig,
    fds: list[int],
    sock: socket.socket,
    pipe: tuple[int, int],
    lane_main: LaneMain,
) -> int:
    from caraway import signals

    signals.worker_before_create_process.send(sender=None)
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        return pid
    code = 1
    try:
        signal.set_wakeup_fd(-1)
        sock.close()
        for end in pipe:
            os.close(end)
        code = lane_main(config, Channel(socket.socket(fileno=fds[0])))
    except BaseException:  # noqa: BLE001 - the process ends here, whatever it was
        import traceback

        traceback.print_exc()
    finally:
        import sys

        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        # Threads of the user's, or stuck tasks, must not keep the process alive.
        os._exit(code)


def _reap(channel: Channel, children: set[int]) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if os.WIFSTOPPED(status):
            channel.send(tell="stopped", pid=pid)
        elif os.WIFCONTINUED(status):
            channel.send(tell="continued", pid=pid)
        else:
            children.discard(pid)
            channel.send(tell="exited", pid=pid, code=os.waitstatus_to_exitcode(status))
