"""``make demo`` does what it says, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "index" / "demo.py"

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small library: 40 files, one of them no text."""
    library = tmp_path / "library"
    library.mkdir()
    for number in range(40):
        lines = (f"the task {n} of queue {number} waits for a worker\n" for n in range(120))
        (library / f"book{number:02}.txt").write_text("".join(lines))
    (library / "picture").write_bytes(b"\0\1\2" * 100)
    return library


@pytest.fixture
def demo(tmp_path: Path, folder: Path) -> Callable[[], subprocess.Popen[str]]:
    """Start the demo over the library, its temporary files in a folder we can look at."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-W", "error", str(DEMO), str(folder)],
            env={**os.environ, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Who starts tests in a shell's background has them ignore it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    return start


def left_over(scratch: Path) -> list[str]:
    return [path.name for path in scratch.iterdir() if path.name.startswith("caraway-demo")]


def workers_in(scratch: Path) -> list[int]:
    """Processes whose working directory is the demo's project."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(str(scratch)):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_the_demo_builds_a_right_index_and_leaves_nothing(
    demo: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = demo()
    output = process.communicate(timeout=100)[0]

    assert process.returncode == 0, output
    assert "40 files" in output
    assert "4,800 lines" in output
    assert re.search(r"^commonest: .*\btask 4,800", output, re.MULTILINE)
    assert "all equal" in output
    assert "\x1b[" not in output, "control codes where no terminal is"
    assert left_over(tmp_path / "scratch") == []
    assert workers_in(tmp_path / "scratch") == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_stopped_takes_its_worker_with_it(
    number: signal.Signals, demo: Callable[[], subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = demo()
    assert process.stdout is not None
    for line in process.stdout:
        if "is up" in line:
            break
    time.sleep(0.3)
    process.send_signal(number)
    output = process.communicate(timeout=40)[0]

    assert process.returncode in {130, 143}, output
    assert "Traceback" not in output
    assert left_over(tmp_path / "scratch") == []
    assert workers_in(tmp_path / "scratch") == []


def test_a_folder_that_is_none_is_a_clear_error() -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO), "/nowhere/at/all"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 2
    assert "is not a folder" in done.stderr
