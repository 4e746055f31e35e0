"""A worker's network breaks: it goes on by itself, and nothing is lost or left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from faults_kit import LONG, Stream, all_end, open_files, threads

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def begin(site: Any, tasks: int, seconds: float = 0.005, lanes: int = 2) -> tuple[Any, list[Any]]:
    """Tasks, and a worker that runs some of them already."""
    app = site.client()
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, seconds)) for n in range(tasks)]))
    site.worker(lanes)
    return app, results


def once(site: Any, kind: str) -> None:
    """With leases nothing ran twice; without, what was out when a connection broke may."""
    again = {argument: runs for argument, runs in site.starts().items() if runs > 1}
    if kind == "redis":
        assert again == {}
    else:
        assert max(again.values(), default=0) <= 3


def test_resets_under_load_cost_nothing(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    app, results = begin(site, 1500)
    wait_until(lambda: len(site.starts()) > 20)
    for _ in range(10):
        site.proxy.reset()
        time.sleep(0.2)
    site.resumes(app)
    all_end(results)
    once(site, kind)


def test_a_half_open_network_is_noticed_and_left(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    if kind == "rabbitmq":
        # A connection on which nothing is expected is known to be dead by its heartbeats.
        site.env["CRASH_BROKER"] += "&heartbeat=3"
    app, results = begin(site, 1500)
    wait_until(lambda: len(site.starts()) > 20)
    site.proxy.swallow()
    time.sleep(9.0)
    site.proxy.heal()
    site.resumes(app)
    all_end(results)
    once(site, kind)


def test_a_pause_is_survived(site: Any, kind: str, wait_until: Callable[..., Any]) -> None:
    site.env["CRASH_LEASE"] = "90"
    app, results = begin(site, 1500)
    wait_until(lambda: len(site.starts()) > 20)
    site.proxy.pause(60.0 if LONG else 12.0)
    time.sleep(60.0 if LONG else 12.0)
    site.resumes(app)
    all_end(results)
    once(site, kind)


def test_two_milliseconds_more_are_no_trouble(site: Any, kind: str) -> None:
    site.proxy.delay(0.002)
    app, results = begin(site, 1500, 0.001)
    all_end(results, 30)
    assert set(site.starts().values()) == {1}
    app.close()


def test_a_worker_that_starts_while_its_broker_is_away_begins_when_it_comes(
    site: Any, kind: str
) -> None:
    site.proxy.refuse()
    app, results = begin(site, 20)
    time.sleep(4.0)
    assert site.starts() == {}
    site.proxy.heal()
    site.resumes(app)
    all_end(results)
    assert site.workers[0].poll() is None


def test_twenty_reconnects_leave_no_thread_and_no_file_open(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    app, results = begin(site, 50)
    all_end(results)
    (worker,) = site.workers
    pids = [worker.pid, *site.wait_for_lanes(worker, 2)]

    def measured() -> list[tuple[int, int]]:
        return [(open_files(pid), threads(pid)) for pid in pids]

    def reconnected() -> None:
        site.proxy.reset()
        app.send_task("crash_app.work", ["x"]).get(timeout=10)

    for _ in range(4):
        reconnected()
    time.sleep(1.5)  # what reconnects by itself has done so
    before = measured()
    for _ in range(20):
        reconnected()
    try:
        wait_until(lambda: no_more(measured(), before), timeout=15)
    except AssertionError:
        assert measured() == before


def no_more(now: list[tuple[int, int]], before: list[tuple[int, int]]) -> bool:
    """A few are opened with their first use."""
    return all(
        files <= files_before + 5 and count <= count_before
        for (files, count), (files_before, count_before) in zip(now, before, strict=True)
    )


@pytest.mark.brokers("redis")
def test_leases_are_renewed_again_once_the_network_is_back(site: Any, kind: str) -> None:
    site.env["CRASH_LEASE"] = "9"
    app = site.client()
    long = app.send_task("crash_app.work", ["long", 14.0])
    site.worker(1)
    time.sleep(1.0)
    site.proxy.reset()
    time.sleep(2.0)
    site.proxy.swallow()
    time.sleep(2.5)
    site.proxy.heal()
    # One that would take the task over, with a way of its own to the server.
    site.env["CRASH_BROKER"] = site.direct
    site.worker(1)
    assert long.get(timeout=40) == "long"
    assert site.starts()["long"] == 1


@pytest.mark.brokers("redis")
def test_a_stream_of_tasks_through_every_fault(site: Any, kind: str) -> None:
    app = site.client()
    site.worker(2)
    stream = Stream(app)
    for fault in (site.proxy.reset, site.proxy.cut, site.proxy.swallow, site.proxy.refuse):
        time.sleep(0.5)
        fault()
        site.proxy.reset() if fault == site.proxy.refuse else None
        time.sleep(1.0)
        site.proxy.heal()
        site.proxy.reset()
    results = stream.end()
    all_end(results)
    assert stream.refused == 0
    once(site, kind)
