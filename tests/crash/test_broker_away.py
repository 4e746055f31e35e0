"""A broker's file is away while tasks run: nothing is lost, nothing runs twice.

Servers that are away are in `tests/faults`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.brokers("sqlite"),
]

N = 400


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("crash", [{"CRASH_LEASE": "60"}], indirect=True)
def test_another_process_holds_the_lock_for_ten_seconds(
    crash: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    results = [app.send_task("crash_app.work", [n, 0.01]) for n in range(N)]
    crash.worker(2, pool)
    wait_until(lambda: len(crash.starts()) > 20)
    locker = sqlite3.connect(crash.path / "broker.db", isolation_level=None, timeout=30)
    locker.execute("BEGIN IMMEDIATE")
    time.sleep(10)
    locker.execute("ROLLBACK")
    locker.close()
    began = time.monotonic()
    assert [r.get(timeout=60) for r in results] == list(range(N))
    assert time.monotonic() - began < 40
    assert set(crash.starts().values()) == {1}


@pytest.mark.parametrize("crash", [{"CRASH_LEASE": "60"}], indirect=True)
def test_a_worker_stopped_hard_meanwhile_leaves_outcomes_that_are_not_run_again(
    crash: Any, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    results = [app.send_task("crash_app.work", [n, 0.3]) for n in range(2)]
    crash.worker(2)
    wait_until(lambda: len(crash.starts()) == 2)
    locker = sqlite3.connect(crash.path / "broker.db", isolation_level=None, timeout=30)
    locker.execute("BEGIN IMMEDIATE")
    wait_until(lambda: len([line for line in crash.lines() if line[0] == "e"]) == 2)
    (worker,) = crash.workers
    for lane in crash.lanes(worker):
        os.kill(lane, 9)
    time.sleep(1)
    locker.execute("ROLLBACK")
    locker.close()
    assert [r.get(timeout=30) for r in results] == [0, 1]
    assert set(crash.starts().values()) == {1}


@pytest.mark.parametrize("crash", [{"CRASH_LEASE": "4"}], indirect=True)
def test_the_file_is_moved_away_and_back(crash: Any, wait_until: Callable[..., Any]) -> None:
    app = crash.client()
    results = [app.send_task("crash_app.work", [n, 0.01]) for n in range(N)]
    worker = crash.worker(2)
    wait_until(lambda: len(crash.starts()) > 20)
    app.close()
    names = ["broker.db", "broker.db-wal", "broker.db-shm"]
    for name in names:
        if (crash.path / name).exists():
            os.rename(crash.path / name, crash.path / f"away-{name}")
    time.sleep(1)
    for name in names:
        if (crash.path / f"away-{name}").exists():
            os.replace(crash.path / f"away-{name}", crash.path / name)
    client = crash.client()
    again = [client.AsyncResult(r.id) for r in results]
    assert [r.get(timeout=60) for r in again] == list(range(N))
    assert worker.poll() is None
