"""The bench can be imported, explains itself, and is never collected as tests."""

from __future__ import annotations

import ast
import os
import random
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
PLAIN = sorted(path.stem for path in BENCH.glob("*.py") if not path.stem.startswith("__"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(os.environ, BENCH_MARKS=os.devnull),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_module_can_be_imported() -> None:
    code = f"import importlib; [importlib.import_module('bench.' + name) for name in {PLAIN}]"
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_app_of_caraway_can_be_imported() -> None:
    done = run("-c", "from bench.apps.caraway_app import app; assert 'bench.noop' in app.tasks")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["driver", "processes", "redis_wire", "side", "work"])
def test_what_peers_run_needs_only_the_standard_library(name: str) -> None:
    tree = ast.parse((BENCH / f"{name}.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        for module in modules:
            first = module.partition(".")[0]
            assert first == "bench" or first in sys.stdlib_module_names, module


def test_every_row_is_made_of_jobs_that_run() -> None:
    code = (
        "from bench.rows import ROWS\n"
        "from bench.suite import PEERS, jobs, peer_jobs\n"
        "every = [*jobs(quick=False), *(j for k in PEERS for j in peer_jobs(k, quick=False))]\n"
        "keys = {job.key for job in every}\n"
        "assert len(keys) == len(every)\n"
        "for row in ROWS: assert set(row.needs) <= keys, row.name"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_a_job_of_a_peer_that_a_row_needs_runs_right_after_ours_in_each_round() -> None:
    code = """
from bench.suite import choose, jobs, peer_jobs, plan
own, others = choose(
    jobs(quick=True), {"celery-redis": peer_jobs("celery-redis", quick=True)}, ["redis.single"]
)
order = [(turn, job.key) for turn, job in plan(own, others, 2)]
three = ["bare.redis", "redis.single", "celery-redis.single"]
assert order == [(turn, key) for turn in (1, 2) for key in three], order
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_rest_of_the_peers_run_once() -> None:
    code = """
from bench.suite import jobs, peer_jobs, plan
order = plan(jobs(quick=True), {"arq": peer_jobs("arq", quick=True)}, 3)
turns = [turn for turn, job in order if job.key == "arq.drain1"]
assert turns == [1], turns
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_table_of_peers_says_who_is_ahead() -> None:
    code = """
from bench.report import ahead
found = {
    "redis.drain1.rate": 900.0, "celery-redis.drain1.rate": 300.0, "arq.drain1.rate": 100.0,
    "redis.roundtrip.p50": 0.004, "huey-redis.roundtrip.p50": 0.002,
}
text, ratios, behind = ahead(found)
assert ratios["Redis: drain/s"] == {"celery-redis": 3.0, "arq": 9.0}, ratios
assert ratios["Redis: p50 ms"] == {"huey-redis": 0.5}, ratios
assert behind == ["Redis: p50 ms (huey-redis)"], behind
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_every_peer_has_an_app_and_an_environment() -> None:
    code = "from bench.suite import PEERS; print(*{peer.side for peer in PEERS.values()})"
    sides = run("-c", code).stdout.split()
    assert sides
    for side in sides:
        tree = ast.parse((BENCH / "apps" / f"{side}_app.py").read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert "make" in functions, side
    names = run("-c", "from bench.venvs import REQUIREMENTS; print(*REQUIREMENTS)").stdout.split()
    assert set(sides) == set(names)


def test_the_delay_proxy_passes_all_on_in_order_and_not_before_its_time() -> None:
    delay, size = 0.02, 1_000_000
    command = [sys.executable, "-m", "bench.delay_proxy", "127.0.0.1"]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        command += [str(listener.getsockname()[1]), "--delay", str(delay)]
        with subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as proxy:
            assert proxy.stdin is not None
            assert proxy.stdout is not None
            port = int(proxy.stdout.readline())
            with socket.create_connection(("127.0.0.1", port), timeout=30) as near:
                far, _ = listener.accept()
                with far:
                    far.settimeout(30)
                    begin = time.perf_counter()
                    near.sendall(b"ping")
                    assert far.recv(4) == b"ping"
                    far.sendall(b"pong")
                    assert near.recv(4) == b"pong"
                    assert time.perf_counter() - begin >= 2 * delay
                    sent = random.Random(1).randbytes(size)
                    sender = threading.Thread(target=near.sendall, args=(sent,))
                    sender.start()
                    received = b""
                    while len(received) < size:
                        received += far.recv(65536)
                    sender.join()
                    assert received == sent
                    near.shutdown(socket.SHUT_WR)
                    assert far.recv(1) == b""
                assert near.recv(1) == b""
            proxy.stdin.close()
            assert proxy.wait(30) == 0


def test_a_row_tells_reached_from_missed_and_from_absent() -> None:
    code = """
from bench.report import floors
good = {"caraway.drain1.rate": 300.0, "caraway.drain2.rate": 500.0, "bare.sqlite.drain": 500.0}
asked = {"caraway.drain1", "caraway.drain2", "bare.sqlite"}
bad = dict(good, **{"caraway.drain2.rate": 400.0})
two = "two lanes to one lane"
assert two not in floors(good, asked)[1] and "ok" in floors(good, asked)[0]
assert two in floors(bad, asked)[1] and "MISSED" in floors(bad, asked)[0]
del bad["caraway.drain2.rate"]
assert two in floors(bad, asked)[1] and "none" in floors(bad, asked)[0]
assert floors(good, set())[1] == []
"""
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_lists_its_jobs_without_running_any() -> None:
    done = run("-m", "bench", "--list", "--only", "caraway.drain", "--no-peers")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["bare.sqlite", "caraway.drain1", "caraway.drain2"]


def test_pytest_collects_nothing_of_the_bench() -> None:
    done = run("-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "bench")
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED, done.stdout + done.stderr
