"""``caraway worker`` as a process: what it says, serves, writes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="signals and prefork are POSIX"),
]

SHOP = """
import asyncio, logging, os, time
from caraway import Caraway
from caraway.errors import SoftTimeLimitExceeded
app = Caraway("shop")
@app.task
def add(x, y): return x + y
@app.task
def shout(text): print(text); logging.getLogger("shop").warning("said %s", text)
@app.task(soft_time_limit=0.2)
def spin():
    n = 0
    try:
        # Python 3.11 takes an exception at the head of a loop for one before it: a `while`
        # that is the first statement of a `try` can let it out.
        n += 1
        while True: n += 1
    except SoftTimeLimitExceeded: return "interrupted"
@app.task(soft_time_limit=0.2)
def block():
    try: time.sleep(30)
    except SoftTimeLimitExceeded: return "interrupted"
@app.task(soft_time_limit=0.2)
async def await_long():
    try: await asyncio.sleep(30)
    except SoftTimeLimitExceeded: return "interrupted"
@app.task
def name(): return __import__("multiprocessing").current_process().pid
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "caraway.toml").write_text('app = "shop"\n')
    return tmp_path


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("CARAWAY_", "CELERY_"))}
    return {**kept, "NO_COLOR": "1"}


@pytest.fixture
def worker(folder: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a worker and waits until it says that it is ready."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str, ready: bool = True) -> subprocess.Popen[str]:
        with (folder / "stderr").open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "caraway.cli", "worker", *options],
                cwd=folder,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        started.append(process)
        process.said = ""  # type: ignore[attr-defined]
        while ready and "is ready." not in process.said:  # type: ignore[attr-defined]
            line = process.stdout.readline()  # type: ignore[union-attr]
            assert line, (folder / "stderr").read_text()
            process.said += line  # type: ignore[attr-defined]
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()  # type: ignore[union-attr]


@pytest.fixture
def client(folder: Path) -> Callable[[str], Any]:
    """Evaluates an expression with ``shop`` imported, in a process of its own."""

    def run(expression: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-c", f"import json, shop; print(json.dumps({expression}))"],
            cwd=folder,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def stop(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(30)


def test_the_banner_tells_what_runs_where_and_why(worker, folder, client):
    process = worker("-c", "2", "-Q", "mail,celery", "-n", "one@%h")
    said = process.said
    assert re.search(r"^caraway \S+  one@\S+  pid \d+$", said, re.MULTILINE)
    assert str(folder / ".caraway" / "caraway.db") in said
    assert "mail, celery" in said
    assert "prefork, 2 processes" in said
    assert "shop.add" in said
    assert client("shop.add.delay(2, 3).get(timeout=20)") == 5
    assert stop(process) == 0, (folder / "stderr").read_text()


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "solo"])
def test_soft_limits_reach_tasks_of_both_kinds_in_every_pool(worker, client, pool):
    worker("-P", pool, "-c", "2")
    assert client("shop.spin.delay().get(timeout=20)") == "interrupted"
    assert client("shop.await_long.delay().get(timeout=20)") == "interrupted"
    if pool in ("prefork", "solo"):  # threads can't be woken out of a system call
        assert client("shop.block.delay().get(timeout=20)") == "interrupted"
    assert client("shop.add.delay(2, 3).get(timeout=20)") == 5


def test_health_and_metrics_are_served_and_the_file_is_kept(worker, client, folder):
    worker("-c", "1", "--health", "127.0.0.1:0", "--health-file", "health", ready=True)
    deadline = time.monotonic() + 20
    while not (folder / "health").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert json.loads((folder / "health").read_text())["status"] == "ok"


def test_a_suspended_process_turns_health_red_and_a_continued_one_green(worker, client, folder):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    worker("-c", "1", "--health", f"127.0.0.1:{port}")
    pid = client("shop.name.delay().get(timeout=20)")

    def status() -> int:
        try:
            return urlopen(f"http://127.0.0.1:{port}/health", timeout=10).status
        except HTTPError as error:
            with error:
                return error.code

    def wait_for(wanted: int) -> None:
        deadline = time.monotonic() + 20
        while status() != wanted:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    wait_for(200)
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(503)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(200)
    deadline = time.monotonic() + 20
    wanted = 'caraway_tasks_total{task="shop.name",outcome="success"} 1'
    while True:  # the counts of a lane come once a second
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            if wanted in answer.read().decode():
                break
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_json_logs_are_one_object_a_line_with_the_task_and_no_banner(worker, client, folder):
    process = worker("-c", "1", "--log-json", "-l", "warning", ready=False)
    assert client("shop.shout.delay('hi').get(timeout=20)") is None
    assert stop(process) == 0
    assert process.stdout.read() == ""
    rows = [json.loads(line) for line in (folder / "stderr").read_text().splitlines()]
    spoken = [row for row in rows if row.get("task_name") == "shop.shout"]
    assert [row["message"] for row in spoken] == ["hi", "said hi"]
    assert len({row["task_id"] for row in spoken}) == 1


def test_purge_empties_the_queues_first(worker, client):
    client("[shop.add.delay(1, n).id for n in range(3)]")
    process = worker("-c", "1", "--purge")
    assert "purged 3 message(s)" in process.said


def test_a_second_worker_with_the_same_pidfile_is_refused(worker, folder):
    first = worker("-c", "1", "--pidfile", "worker.pid")
    assert (folder / "worker.pid").read_text() == f"{first.pid}\n"
    second = worker("-c", "1", "--pidfile", "worker.pid", ready=False)
    assert second.wait(30) == 3
    assert f"process {first.pid}" in (folder / "stderr").read_text()
    assert stop(first) == 0
    assert not (folder / "worker.pid").exists()


def test_an_unknown_pool_or_level_is_told_before_anything_starts(worker, folder):
    assert worker("-P", "threds", ready=False).wait(30) == 3
    assert "threads" in (folder / "stderr").read_text()
    assert worker("-l", "loud", ready=False).wait(30) == 3
    assert "debug, info" in (folder / "stderr").read_text()


def test_reload_starts_the_new_code_and_survives_broken_code(worker, client, folder):
    process = worker("-c", "1", "--reload")
    assert client("shop.add.delay(2, 3).get(timeout=20)") == 5
    (folder / "shop.py").write_text(SHOP + "def (:\n")
    wait_for_text(folder / "stderr", "not restarted")
    (folder / "shop.py").write_text(SHOP.replace("return x + y", "return 'new code'"))
    wait_for_text(folder / "stderr", "restarting")
    assert client("shop.add.delay(2, 3).get(timeout=20)") == "new code"
    assert stop(process) == 0


def wait_for_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 20
    while text not in path.read_text():
        assert time.monotonic() < deadline, path.read_text()
        time.sleep(0.05)
