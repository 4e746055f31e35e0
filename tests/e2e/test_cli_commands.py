"""The command line as a user types it, with a worker that runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SHOP = """
import time

from caraway import Caraway

app = Caraway("shop")


@app.task(name="shop.add")
def add(x, y):
    return x + y


@app.task(name="shop.fail")
def fail():
    raise ValueError("on purpose")


@app.task(name="shop.nap", track_started=True)
def nap(seconds):
    time.sleep(seconds)
"""
WAIT = "20s"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("CARAWAY_", "CELERY_"))}


@pytest.fixture
def caraway(project: Path, environment: dict[str, str]) -> Run:
    def call(*args: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "caraway.cli", *args],
            cwd=more.pop("cwd", project),
            env={**environment, **more.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **more,
        )

    return call


@pytest.fixture
def start_worker(project: Path, environment: dict[str, str]) -> Iterator[Callable[..., Any]]:
    """Start a worker, and come back when it is ready; each is ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*args: str) -> subprocess.Popen[bytes]:
        said = project / f"worker{len(started)}.log"
        with said.open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "caraway.cli", *args],
                cwd=project,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        started.append(worker)
        end = time.monotonic() + 20
        while "is ready" not in said.read_text():
            assert worker.poll() is None, said.read_text()
            assert time.monotonic() < end, said.read_text()
            time.sleep(0.02)
        return worker

    yield start
    for worker in started:
        if worker.poll() is None:
            worker.send_signal(signal.SIGTERM)
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait(5)


@pytest.mark.parametrize(
    "args",
    [("-A", "shop", "worker", "-c", "1"), ("worker", "-A", "shop", "-c", "1")],
    ids=["as in Celery", "after the command"],
)
def test_a_worker_runs_what_is_called(
    caraway: Run, start_worker: Callable[..., Any], args: tuple[str, ...]
) -> None:
    start_worker(*args)
    done = caraway("-A", "shop", "call", "shop.add", "-a", "[2, 3]", "--wait", WAIT)
    assert (done.returncode, done.stdout) == (0, "5\n"), done.stderr
    task_id = done.stderr.strip()
    assert json.loads(caraway("result", task_id, "--json").stdout)["result"] == 5
    assert json.loads(caraway("explain", task_id, "--json").stdout)["verdict"] == "ended"
    failed = caraway("call", "shop.fail", "-A", "shop", "--wait", WAIT)
    assert failed.returncode == 1
    assert "ValueError: on purpose" in failed.stdout


def test_workers_are_seen_asked_and_stopped(caraway: Run, start_worker: Callable[..., Any]) -> None:
    worker = start_worker("-A", "shop", "worker", "-c", "1")
    (status,) = json.loads(caraway("status", "--ping", "-t", "10", "--json").stdout)
    assert (status["lanes"], status["queues"], status["answers"]) == (1, ["celery"], True)
    (known,) = json.loads(caraway("inspect", "registered", "-t", "10", "--json").stdout).values()
    assert "shop.add" in known
    assert caraway("doctor").returncode == 0
    stopped = caraway("control", "shutdown", "-t", "10")
    assert stopped.returncode == 0, stopped.stderr
    assert worker.wait(20) == 0
    assert caraway("status").returncode == 1


def test_a_running_task_is_explained_and_terminated(
    caraway: Run, start_worker: Callable[..., Any]
) -> None:
    start_worker("-A", "shop", "worker", "-c", "1")
    nap = caraway("-A", "shop", "call", "shop.nap", "-a", "[60]").stdout.strip()
    end = time.monotonic() + 20
    while time.monotonic() < end:
        answer = json.loads(caraway("explain", nap, "--json").stdout)
        if answer["verdict"] == "running":
            break
    assert answer["verdict"] == "running", answer
    assert caraway("revoke", nap, "--terminate").returncode == 0
    result = caraway("result", nap, "--wait", WAIT, "--json")
    assert json.loads(result.stdout)["state"] == "REVOKED", result.stdout
    assert result.returncode == 1


def test_a_task_nobody_knows_is_parked_and_replayed(
    caraway: Run, start_worker: Callable[..., Any], project: Path
) -> None:
    start_worker("-A", "shop", "worker", "-c", "1")
    new = caraway("call", "shop.new", "-a", "[4]").stdout.strip()
    end = time.monotonic() + 20
    letters: list[Any] = []
    while not letters and time.monotonic() < end:
        letters = json.loads(caraway("dead", "list", "--json").stdout)
    assert [(one["id"], one["kind"]) for one in letters] == [(new, "parked")]
    assert json.loads(caraway("explain", new, "--json").stdout)["verdict"] == "parked"
    caraway("control", "shutdown", "-t", "10")
    (project / "shop.py").write_text(
        SHOP + "\n@app.task(name='shop.new')\ndef new(x):\n    return x * 2\n"
    )
    assert caraway("dead", "replay", "--all", "--parked").returncode == 0
    start_worker("-A", "shop", "worker", "-c", "1")
    done = caraway("result", new, "--wait", WAIT)
    assert (done.returncode, done.stdout) == (0, "8\n"), done.stderr


def test_worker_and_client_meet_in_any_folder_of_the_project(
    caraway: Run, start_worker: Callable[..., Any], project: Path
) -> None:
    (project / "caraway.toml").write_text("app = 'shop'\n[worker]\nconcurrency = 1\n")
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    start_worker("worker")
    done = caraway("call", "shop.add", "-a", "[1, 1]", "--wait", WAIT, cwd=inner)
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    assert not (inner / ".caraway").exists()


def test_the_version_is_there_at_once(caraway: Run) -> None:
    def best(*args: str) -> float:
        times = []
        for _ in range(5):
            begin = time.perf_counter()
            subprocess.run([sys.executable, *args], check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
        return min(times)

    bare = best("-c", "pass")
    assert best("-m", "caraway.cli", "--version") - bare < 0.12
    assert best("-m", "caraway.cli", "--help") - bare < 0.5
