"""A program that sends and waits: it is told in time, and told why."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults_kit import open_files, threads

from caraway.errors import OperationalError, TransportUnavailable
from caraway.testing.proxy import Proxy
from caraway.testing.servers import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

DEADLINE = 2.0
"""Seconds, instead of the default of 5: there are many of these."""


@pytest.fixture
def way(site: Any) -> Iterator[Proxy]:
    """The client's own way to the server."""
    with Proxy(site.server.port) as proxy:
        yield proxy


def raises_in_time(call: Callable[[], Any], deadline: float, *, at_once: bool = False) -> str:
    began = time.monotonic()
    with pytest.raises(TransportUnavailable) as caught:
        call()
    took = time.monotonic() - began
    # Half a second is for what a first call imports, four tests at a time on two cores.
    assert took <= deadline * 1.1 + 0.5, f"raised after {took:.2f} s"
    if not at_once:
        assert took >= deadline * 0.9, f"gave up after {took:.2f} s"
    return str(caught.value)


def test_delay_on_a_dead_broker_raises_and_says_why(site: Any, kind: str) -> None:
    app = site.client(free_port())
    text = raises_in_time(lambda: app.send_task("crash_app.work", [1]), 5.0, at_once=True)
    assert "refused" in text
    assert "hint" in text


@pytest.mark.parametrize("fault", ["swallow", "pause"])
@pytest.mark.parametrize("connected", [True, False])
def test_delay_on_a_broker_that_hangs_raises_at_its_deadline(
    site: Any, kind: str, way: Proxy, fault: str, connected: bool
) -> None:
    app = site.client(way.port, broker_publish_timeout=DEADLINE)
    if connected:
        app.send_task("crash_app.work", [0])
    getattr(way, fault)()
    text = raises_in_time(lambda: app.send_task("crash_app.work", [1]), DEADLINE)
    assert "time" in text
    way.heal()
    app.send_task("crash_app.work", [2])


@pytest.mark.brokers("redis")
def test_the_default_deadline_is_five_seconds(site: Any, kind: str) -> None:
    app = site.client()
    app.send_task("crash_app.work", [0])
    os.kill(site.server.pid, signal.SIGSTOP)
    try:
        raises_in_time(lambda: app.send_task("crash_app.work", [1]), 5.0)
    finally:
        os.kill(site.server.pid, signal.SIGCONT)


def test_fifty_threads_are_told_in_time_and_so_are_coroutines(
    site: Any, kind: str, way: Proxy
) -> None:
    app = site.client(way.port, broker_publish_timeout=DEADLINE)
    app.send_task("crash_app.work", [0])
    work = app.signature("crash_app.work", args=(1,))
    way.swallow()
    took: list[float] = []

    def call() -> None:
        began = time.monotonic()
        with pytest.raises(OperationalError):
            app.send_task("crash_app.work", [1])
        took.append(time.monotonic() - began)

    callers = [threading.Thread(target=call) for _ in range(50)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(30)
    assert len(took) == 50
    assert max(took) <= DEADLINE * 1.2 + 0.2

    async def main() -> list[Any]:
        return await asyncio.gather(
            *[work.aapply_async() for _ in range(50)], return_exceptions=True
        )

    began = time.monotonic()
    ends = asyncio.run(main())
    assert all(isinstance(end, OperationalError) for end in ends)
    assert time.monotonic() - began <= DEADLINE * 1.2 + 0.2


def test_what_was_acknowledged_runs_whatever_the_network_did(
    site: Any, kind: str, way: Proxy
) -> None:
    app = site.client(way.port, broker_publish_timeout=DEADLINE)
    site.worker(2)
    sent = []
    refused = 0
    for n in range(400):
        if n % 50 == 25:
            way.reset()
        if n % 100 == 60:
            way.cut()
        try:
            sent.append((n, app.send_task("crash_app.work", [n])))
        except OperationalError:
            refused += 1
    assert refused == 0, "a reset was not tried again"
    reader = site.client()
    for n, result in sent:
        assert reader.AsyncResult(result.id).get(timeout=20) == n


@pytest.mark.brokers("redis")
@pytest.mark.parametrize("fault", ["reset", "cut", "swallow"])
def test_a_result_that_comes_during_a_cut_is_got(
    site: Any, kind: str, way: Proxy, fault: str, wait_until: Callable[..., Any]
) -> None:
    app = site.client(way.port)
    result = app.send_task("crash_app.work", ["cut", 1.0])
    got: list[Any] = []
    waiting = threading.Thread(target=lambda: got.append(result.get(timeout=30)))
    waiting.start()
    site.worker(1)
    wait_until(lambda: site.starts()["cut"])
    getattr(way, fault)()
    if fault != "swallow":
        way.refuse()
    wait_until(lambda: [line for line in site.lines() if line[0] == "e"])
    time.sleep(0.3)
    way.heal()
    began = time.monotonic()
    waiting.join(30)
    assert got == ["cut"]
    # Half-open, it is noticed when the wait is renewed, each 10 s.
    assert time.monotonic() - began < (16.0 if fault == "swallow" else 3.0)


@pytest.mark.brokers("redis")
def test_two_hundred_threads_that_wait_leave_nothing_open(site: Any, kind: str) -> None:
    app = site.client()
    app.send_task("crash_app.work", ["first"])
    site.worker(2)
    me = os.getpid()

    def wait(n: int) -> None:
        assert app.send_task("crash_app.work", [n]).get(timeout=30) == n

    def crowd() -> tuple[int, int]:
        callers = [threading.Thread(target=wait, args=(n,)) for n in range(200)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(60)
        # The proxy of the workers is in this process, too: a lane that comes late isn't ours.
        return open_files(me) - 2 * site.proxy.connections, threads(me)

    before = crowd()
    files, count = crowd()
    assert files <= before[0] + 5
    assert count <= before[1] + 1
