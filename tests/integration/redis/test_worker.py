"""A worker on a real Redis: what it does with Celery's delayed messages, what it leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from caraway import Caraway
from caraway.testing.servers import Server, server

APP = """
import os
import time
from caraway import Caraway

app = Caraway("site", broker=os.environ["SITE"], backend=os.environ["SITE"])

@app.task(name="site.add")
def add(x, y):
    return x + y

@app.task(name="site.nap")
def nap(seconds):
    time.sleep(seconds)
"""


def until(condition: Callable[[], Any], timeout: float = 20.0) -> Any:
    end = time.monotonic() + timeout
    while not (found := condition()):
        assert time.monotonic() < end, "it didn't happen in time"
        time.sleep(0.01)
    return found


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with server("redis") as running:
        yield running


@pytest.fixture
def client(redis: Server) -> Iterator[Redis]:
    with Redis(port=redis.port) as client:
        client.flushall()
        yield client


@pytest.fixture
def site(
    redis: Server, client: Redis, tmp_path: Path
) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes of the app."""
    (tmp_path / "site_app.py").write_text(APP)
    started: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        with open(tmp_path / "worker.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "caraway", "-A", "site_app", *arguments],
                cwd=tmp_path, env={**os.environ, "SITE": redis.url}, stdout=subprocess.DEVNULL,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def worker(site: Callable[..., subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
    return site("worker", "--concurrency", "2")


def envelope(number: int, eta: datetime) -> bytes:
    """As Celery sends it."""
    task_id = f"task-{number}"
    body = "W1sxLCAyXSwge30sIHt9XQ=="  # [[1, 2], {}, {}]
    return json.dumps(
        {
            "body": body,
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py", "task": "site.add", "id": task_id, "root_id": task_id,
                "parent_id": None, "eta": eta.isoformat(), "expires": None, "retries": 0,
                "timelimit": [None, None], "group": None,
            },
            "properties": {
                "correlation_id": task_id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": f"tag-{number}",
            },
        }
    ).encode()  # fmt: skip


def test_messages_of_celery_s_that_are_not_due_wait_in_redis_and_nothing_is_left_of_them(
    client: Redis, worker: subprocess.Popen[bytes]
) -> None:
    until(lambda: client.zcard("caraway:owners") == 2)
    count = 300
    due = datetime.now(UTC) + timedelta(seconds=2.5)
    client.lpush("celery", *[envelope(number, due) for number in range(count)])
    until(lambda: client.zcard("caraway:delayed:celery") == count)
    # No worker holds them, and none asks for them again and again.
    until(lambda: not client.keys("caraway:held:*"))
    client.config_resetstat()
    before = time.monotonic()
    until(lambda: time.monotonic() - before > 1.0)
    asked = client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
    assert asked < 40, f"{asked} scripts in a second in which nothing was due"
    assert client.zcard("caraway:delayed:celery") == count
    assert not client.keys("celery-task-meta-*")
    until(lambda: len(client.keys("celery-task-meta-*")) == count)
    assert datetime.now(UTC) >= due
    results = [json.loads(client.get(key)) for key in client.keys("celery-task-meta-*")]
    assert {result["result"] for result in results} == {3}
    assert {result["task_id"] for result in results} == {f"task-{n}" for n in range(count)}

    worker.terminate()
    assert worker.wait(20) == 0
    until(lambda: len(client.client_list()) == 1)
    assert client.pubsub_channels() == []
    left = {key.decode() for key in client.scan_iter() if client.ttl(key) == -1}
    assert left == {
        "caraway:queues", "caraway:seq", "_kombu.binding.celery",
        "_kombu.binding_permanent.celery",
    }  # fmt: skip


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_while_one_runs_something_long_nothing_waits_for_it(
    redis: Server, client: Redis, site: Callable[..., subprocess.Popen[bytes]], pool: str
) -> None:
    """Both wait for all four lists of the queue, and are sent what comes to them in turn."""
    one = ["worker", "--concurrency", "1", "--pool", pool]
    workers = [site(*one, "-n", "one@here"), site(*one, "-n", "other@here")]
    until(lambda: client.zcard("caraway:owners") == 2)
    with Caraway("site", broker=redis.url, backend=redis.url, set_as_current=False) as app:
        # Both learn that these are quick, and so go on waiting while they run one.
        for _ in range(40):
            app.send_task("site.add", (1, 2)).get(timeout=20)
        long = app.send_task("site.nap", (5.0,))
        until(lambda: client.keys("caraway:held:*"))
        begun = time.monotonic()
        for _ in range(3):
            sent = [app.send_task("site.add", (1, 2), priority=p) for p in (0, 3, 6, 9)]
            assert [each.get(timeout=20) for each in sent] == [3] * 4
        assert time.monotonic() - begun < 3.0
        assert not long.ready()
        app.control.shutdown()
        assert [each.wait(20) for each in workers] == [0, 0]
