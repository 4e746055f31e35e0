"""The fork server, with real processes."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.message import Owner
from caraway.worker import forkserver
from caraway.worker.channel import Channel
from caraway.worker.forkserver import ForkServer
from caraway.worker.lane_config import LaneConfig

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
    pytest.mark.timeout(60),
]


def lane(config: LaneConfig, channel: Channel) -> int:
    """Does as it is told, until its supervisor is gone."""
    channel.send(tell="ready", pid=os.getpid())
    while not channel.closed:
        select.select([channel], [], [])
        for message in channel.receive():
            if "exit" in message:
                return int(message["exit"])
    return 3


def config(index: int) -> LaneConfig:
    return LaneConfig(index=index, owner=Owner(id=f"owner{index}"), queues=())


@pytest.fixture
def server() -> Iterator[ForkServer]:
    made = ForkServer(lane)
    yield made
    made.end()


def hear(channel: Channel, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while not channel.closed:
        assert select.select([channel], [], [], 20.0)[0], "nothing was heard"
        for message in channel.receive():
            if wanted(message):
                return message
    raise AssertionError("the channel closed")


def ends(channel: Channel) -> bool:
    while not channel.closed:
        if not select.select([channel], [], [], 20.0)[0]:
            return False
        channel.receive()
    return True


def test_lanes_start_and_their_end_is_told(server: ForkServer) -> None:
    channel = server.start(config(0))
    assert channel is not None
    started = hear(server.channel, lambda m: m["tell"] == "started")
    assert (started["index"], started["owner"]) == (0, "owner0")
    channel.send(exit=7)
    exited = hear(server.channel, lambda m: m["tell"] == "exited")
    assert (exited["pid"], exited["code"]) == (started["pid"], 7)
    channel.close()


def test_no_lane_has_the_channel_of_another(server: ForkServer) -> None:
    """Else the death of one would not be seen while the other lives."""
    first, second, third = (server.start(config(n)) for n in range(3))
    assert first
    assert second
    assert third
    pid = hear(second, lambda m: m["tell"] == "ready")["pid"]
    for channel in (first, third):
        hear(channel, lambda m: m["tell"] == "ready")
    os.kill(pid, signal.SIGKILL)
    assert ends(second)
    second.close()
    # And a lane sees the end of its supervisor's side, whoever else is left.
    first.close()
    told = hear(server.channel, lambda m: m["tell"] == "exited" and m["code"] == 3)
    assert told
    third.send(exit=0)
    hear(server.channel, lambda m: m["tell"] == "exited" and m["code"] == 0)
    third.close()


def test_a_fork_that_fails_is_told_and_the_next_may_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    fork_lane = forkserver._fork_lane
    failures = [OSError(11, "no process is left")]

    def fails_once(*args: Any) -> int:
        if failures:
            raise failures.pop()
        return fork_lane(*args)

    monkeypatch.setattr(forkserver, "_fork_lane", fails_once)
    server = ForkServer(lane)
    first, second = server.start(config(0)), server.start(config(1))
    assert first
    assert second
    failed = hear(server.channel, lambda m: m["tell"] == "failed")
    assert failed["index"] == 0
    assert "no process" in failed["error"]
    assert ends(first)
    hear(second, lambda m: m["tell"] == "ready")
    second.send(exit=0)
    hear(server.channel, lambda m: m["tell"] == "exited")
    first.close()
    second.close()
    server.end()


def test_its_end_leaves_no_zombie() -> None:
    server = ForkServer(lane)
    server.end()
    with pytest.raises(ChildProcessError):
        os.waitpid(server.pid, os.WNOHANG)


def test_a_stopped_lane_is_told_of(server: ForkServer) -> None:
    channel = server.start(config(0))
    assert channel
    pid = hear(channel, lambda m: m["tell"] == "ready")["pid"]
    os.kill(pid, signal.SIGSTOP)
    assert hear(server.channel, lambda m: m["tell"] == "stopped")["pid"] == pid
    os.kill(pid, signal.SIGCONT)
    assert hear(server.channel, lambda m: m["tell"] == "continued")["pid"] == pid
    channel.send(exit=0)
    hear(server.channel, lambda m: m["tell"] == "exited")
    channel.close()
