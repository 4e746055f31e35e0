"""The bench can be imported, explains itself, and is never collected as tests."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
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


@pytest.mark.parametrize("name", ["driver", "processes", "side", "work"])
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
        "from bench.suite import ROWS, jobs; keys = {job.key for job in jobs(quick=False)}\n"
        "assert len(keys) == len(jobs(quick=False))\n"
        "for row in ROWS: assert set(row.needs) <= keys, row.name"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr


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
