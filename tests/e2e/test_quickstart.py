"""The smallest example does what its text says."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TASKS = Path(__file__).parents[2] / "examples" / "quickstart" / "tasks.py"


@pytest.mark.slow
def test_a_worker_in_one_terminal_and_the_program_in_another(tmp_path: Path) -> None:
    shutil.copy(TASKS, tmp_path)
    worker = subprocess.Popen(
        [sys.executable, "-m", "caraway.cli", "-A", "tasks", "worker", "-c", "1"],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        done = subprocess.run(
            [sys.executable, "-W", "error", "tasks.py"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        worker.terminate()
        code = worker.wait(20)

    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(": 5\n")
    assert code == 0
