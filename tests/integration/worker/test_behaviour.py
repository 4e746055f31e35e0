"""What a running worker does, as its users see it."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(90)

POOLS = ["prefork", "threads", "asyncio", "solo"]


@pytest.mark.parametrize("pool", POOLS)
def test_every_pool_runs_sync_and_async_tasks_and_stops_when_told(site: Any, pool: str) -> None:
    worker = site.worker("-P", pool, "-c", "4")
    sums = [site.send("add", n, n) for n in range(50)]
    assert [r.get(timeout=20) for r in sums] == [2 * n for n in range(50)]
    started = time.monotonic()
    naps = [site.send("anap", 1.0) for _ in range(4)]
    assert [r.get(timeout=20) for r in naps] == [1.0] * 4
    # Four coroutines of a second ran beside each other.
    assert time.monotonic() - started < 3.0
    worker.terminate()
    assert worker.wait(10) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_retries_ignore_reject_and_failures(
    site: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    site.worker("-P", pool, "-c", "2")
    assert site.send("flaky", 2).get(timeout=20) == 2
    with pytest.raises(Exception, match=r"retry|Retry"):
        site.send("flaky", 9).get(timeout=20)
    with pytest.raises(KeyError):
        site.send("auto", 9).get(timeout=20)
    failed = site.send("unserializable")
    with pytest.raises(Exception, match="object"):
        failed.get(timeout=20)
    assert failed.state == "FAILURE"
    with pytest.raises(BaseException, match="3"):
        site.send("exits").get(timeout=20)
    ignored, rejected = site.send("ignores"), site.send("rejects")
    assert site.send("add", 1, 2).get(timeout=20) == 3
    letters = wait_until(site.app.transport.dead, timeout=10)
    assert [letter.message.headers["id"] for letter in letters] == [rejected.id]
    assert "not for us" in letters[0].reason
    assert ignored.state == "PENDING"


def test_unknown_tasks_are_parked_and_run_once_replayed(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    result = site.app.send_task("site_app.not_yet_deployed", [1])
    site.worker("-c", "1")
    (letter,) = wait_until(site.app.transport.dead)
    assert letter.kind == "parked"
    assert "not_yet_deployed" in letter.reason
    assert result.state == "PENDING"


def test_a_task_revoked_while_no_worker_was_there_never_runs(site: Any) -> None:
    revoked, other = site.send("nap", 0.01), site.send("add", 2, 2)
    site.app.control.revoke(revoked.id)
    site.worker("-c", "1")
    assert other.get(timeout=20) == 4
    with pytest.raises(Exception, match="revoked"):
        revoked.get(timeout=20)
    assert revoked.state == "REVOKED"


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
def test_terminate_ends_a_running_task_and_no_other(
    site: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    site.worker("-P", pool, "-c", "2")
    # A thread other than the main one is only interrupted while it runs Python code.
    name = {"asyncio": "anap", "threads": "loops"}.get(pool, "tracked")
    long = site.send(name, 30)
    assert site.send("add", 1, 1).get(timeout=20) == 2
    wait_until(lambda: (site.app.control.inspect(timeout=2).active() or {"": []}).popitem()[1])
    site.app.control.revoke(long.id, terminate=True)
    with pytest.raises(Exception, match="terminated"):
        long.get(timeout=20)
    assert site.send("add", 1, 2).get(timeout=20) == 3


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_may_fork_and_its_child_may_send(
    site: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    site.worker("-P", pool, "-c", "2")
    forked = [site.send("forks", n) for n in range(20)]
    assert [r.get(timeout=20) for r in forked] == [0] * 20
    assert site.send("add", 1, 2).get(timeout=20) == 3
    wait_until(lambda: sum(q.ready + q.held for q in site.app.transport.stats()) == 0)


def test_expired_tasks_do_not_run(site: Any) -> None:
    expired = site.send("add", 1, 1, expires=-1)
    site.worker("-c", "1")
    with pytest.raises(Exception, match="expired"):
        expired.get(timeout=20)


def test_delay_lives_in_the_broker_and_survives_the_worker(site: Any) -> None:
    first = site.worker("-c", "1")
    site.send("add", 0, 0).get(timeout=20)
    sent = time.monotonic()
    late = site.send("add", 1, 2, countdown=1.5)
    first.terminate()
    first.wait(10)
    site.worker("-c", "1")
    assert late.get(timeout=20) == 3
    assert time.monotonic() - sent >= 1.5


def test_priority_nine_goes_before_zero(site: Any) -> None:
    low = [site.send("pid", priority=0) for _ in range(300)]
    high = site.send("pid", priority=9)
    site.worker("-c", "1")
    high.get(timeout=20)
    low[-1].get(timeout=20)
    assert high.date_done < low[1].date_done


def test_a_lane_is_replaced_after_its_number_of_tasks(site: Any) -> None:
    site.worker("-c", "1", "--max-tasks-per-child", "5")
    pids = [site.send("pid") for _ in range(20)]
    seen = [r.get(timeout=30) for r in pids]
    assert len(set(seen)) == 4
    assert all(seen.count(pid) == 5 for pid in seen)


def test_a_lane_that_has_grown_is_replaced(site: Any) -> None:
    site.worker("-c", "1", "--max-memory-per-child", str(150 * 1024))
    first = site.send("grows", 200).get(timeout=30)
    time.sleep(1.2)  # memory is looked at once a second
    site.send("add", 1, 1).get(timeout=30)
    second = site.send("pid").get(timeout=30)
    assert first != second


def test_a_rate_limit_spaces_the_runs(site: Any) -> None:
    site.worker("-c", "1")
    results = [site.send("limited", n) for n in range(21)]
    times = sorted(r.get(timeout=30) for r in results)
    # 20 a second: 20 gaps of 50 ms.
    assert times[-1] - times[0] >= 0.9


def test_started_and_progress_are_seen(site: Any, wait_until: Callable[..., Any]) -> None:
    site.worker("-c", "2")
    tracked = site.send("tracked", 0.5)
    wait_until(lambda: tracked.state == "STARTED")
    progress = site.send("progress")
    wait_until(lambda: progress.state == "PROGRESS")
    assert progress.info == {"done": 5}
    assert progress.get(timeout=20) == "end"


def test_a_long_task_holds_up_no_other(site: Any, wait_until: Callable[..., Any]) -> None:
    site.worker("-c", "2")
    warm = [site.send("add", n, n) for n in range(500)]
    warm[-1].get(timeout=20)
    long = site.send("nap", 4)
    others = [site.send("add", n, n) for n in range(200)]
    began = time.monotonic()
    assert [r.get(timeout=20) for r in others] == [2 * n for n in range(200)]
    assert time.monotonic() - began < 2.0
    assert long.get(timeout=20) == 4


def test_a_warm_stop_finishes_what_runs_and_gives_back_the_rest(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    worker = site.worker("-c", "1")
    running = site.send("tracked", 1.0)
    wait_until(lambda: running.state == "STARTED")
    queued = [site.send("nap", 0.5) for _ in range(3)]
    worker.terminate()
    assert worker.wait(10) == 0
    assert running.state == "SUCCESS"
    stats = site.app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.held) == (3, 0)
    site.worker("-c", "1")
    assert [r.get(timeout=20) for r in queued] == [0.5] * 3


def test_a_second_signal_gives_back_what_runs(site: Any, wait_until: Callable[..., Any]) -> None:
    worker = site.worker("-c", "1")
    running = site.send("tracked", 20)
    wait_until(lambda: running.state == "STARTED")
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    assert time.monotonic() - began < 5.0
    stats = site.app.transport.stats(["celery"])[0]
    assert (stats.ready, stats.held) == (1, 0)


def test_autoscale_grows_with_the_work(site: Any, wait_until: Callable[..., Any]) -> None:
    site.worker("--autoscale", "4,1")
    wait_until(lambda: _processes(site) == 1)
    naps = [site.send("nap", 0.5) for _ in range(20)]
    wait_until(lambda: _processes(site) == 4)
    assert [r.get(timeout=30) for r in naps] == [0.5] * 20


def test_the_pool_grows_and_shrinks_by_remote_control(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    site.worker("-c", "1")
    wait_until(lambda: _processes(site) == 1)
    site.app.control.pool_grow(2, reply=True)
    wait_until(lambda: _processes(site) == 3)
    site.app.control.pool_shrink(1, reply=True)
    wait_until(lambda: _processes(site) == 2)
    site.app.control.shutdown()
    assert site.workers[0].wait(10) == 0


def test_the_traceback_of_a_task_out_of_retries_is_the_tasks(site: Any) -> None:
    site.worker("-c", "1")
    failed = site.send("auto", 1)
    with pytest.raises(KeyError):
        failed.get(timeout=20)
    frames = re.findall(r'File "(.*?)"', failed.traceback)
    assert [name.rpartition("/")[2] for name in frames] == ["site_app.py"]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_counters_outlive_the_processes_that_counted(
    site: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    import urllib.request

    def metric(name: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
            found = re.search(rf"^caraway_{name} (\S+)$", page.read().decode(), re.MULTILINE)
        return float(found[1]) if found else -1.0

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    site.worker("-P", pool, "-c", "1", "--max-tasks-per-child", "4", "--health", str(port))
    for n in range(10):
        site.send("add", n, n).get(timeout=20)
    with pytest.raises(Exception, match="object"):
        site.send("unserializable").get(timeout=20)
    wait_until(lambda: (metric("done_total"), metric("failed_total")) == (11, 1))
    wait_until(lambda: metric("fetched_total") >= 11)


def test_limits_set_by_remote_control_hold_for_lanes_that_start_later(site: Any) -> None:
    worker = site.worker("-c", "1")
    before = site.send("pid").get(timeout=20)
    site.app.control.time_limit("site_app.nap", hard=0.3, reply=True)
    worker.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 20
    while site.send("pid").get(timeout=20) == before and time.monotonic() < deadline:
        time.sleep(0.02)
    with pytest.raises(Exception, match=r"TimeLimit|0\.3"):
        site.send("nap", 20).get(timeout=20)


def test_rate_limits_can_be_switched_off(site: Any, wait_until: Callable[..., Any]) -> None:
    site.worker("-c", "1", env={"CARAWAY_WORKER_DISABLE_RATE_LIMITS": "1"})
    site.app.control.rate_limit("site_app.limited", "1/m")
    wait_until(lambda: site.app.control.rate_limit("site_app.limited", "1/m", reply=True))
    for n in range(3):
        site.send("limited", n).get(timeout=20)


def test_solo_runs_on_whatever_is_asked_of_processes(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    worker = site.worker("-P", "solo", "--max-memory-per-child", "1", "--autoscale", "3,1")
    before = site.send("pid").get(timeout=20)
    assert site.log.count("has no effect in the pool solo") == 2
    worker.send_signal(signal.SIGHUP)
    assert site.send("pid").get(timeout=20) == before == worker.pid
    worker.terminate()
    assert worker.wait(10) == 0


def test_hup_replaces_every_lane(site: Any, wait_until: Callable[..., Any]) -> None:
    worker = site.worker("-c", "1")
    before = site.send("pid").get(timeout=20)
    worker.send_signal(signal.SIGHUP)
    wait_until(lambda: site.send("pid").get(timeout=20) != before)


def test_a_lost_fork_server_starts_the_worker_over(
    site: Any, wait_until: Callable[..., Any]
) -> None:
    import os
    from pathlib import Path

    worker = site.worker("-c", "1")
    before = site.send("pid").get(timeout=20)
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children")
    (server,) = [int(pid) for pid in children.read_text().split()]
    os.kill(server, signal.SIGKILL)
    wait_until(lambda: site.send("pid").get(timeout=20) != before)
    assert worker.poll() is None, "the process is the same"


def test_errors_of_the_settings_are_met_at_the_start(site: Any) -> None:
    worker = site.worker("-c", "1", env={"CARAWAY_RESULT_SERIALIZER": "msgpack-nope"})
    assert worker.wait(15) != 0
    assert re.search("msgpack-nope", site.log)


def _processes(site: Any) -> int:
    stats = site.app.control.inspect(timeout=2).stats()
    return len(stats.popitem()[1]["pool"]["processes"]) if stats else 0
