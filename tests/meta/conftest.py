"""What the tests about the repository itself share."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "core" / "src" / "caraway"


class Rooms:
    """Counts how many rooms of ours a piece of work walks through.

    Attributes:
        calls: Python calls of functions of the package.
        files: distinct files of the package that were entered.
        hops: how often a call lands in another file than the call before it.
        path: the calls in order, for the message of a failing test.
    """

    def __init__(self, package: Path) -> None:
        self._prefix = str(package)
        self.calls = 0
        self.hops = 0
        self.seen: set[str] = set()
        self.path: list[str] = []
        self._last = ""

    @property
    def files(self) -> int:
        return len(self.seen)

    def _event(self, frame: Any, event: str, arg: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        file = code.co_filename
        if not file.startswith(self._prefix):
            return
        self.calls += 1
        self.seen.add(file)
        if self._last and file != self._last:
            self.hops += 1
        self._last = file
        self.path.append(f"{file[len(self._prefix) + 1 :]}:{code.co_qualname}")

    def walk(self, work: Callable[[], object]) -> Rooms:
        """Do the work once, in this thread, and count."""
        # What other tests left is cleaned up before, or its finalizers would be counted.
        gc.collect()
        gc.disable()
        sys.setprofile(self._event)
        try:
            work()
        finally:
            sys.setprofile(None)
            gc.enable()
        return self


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def package() -> Path:
    """The folder of the package ``caraway``."""
    return PACKAGE


@pytest.fixture
def rooms() -> Callable[[Callable[[], object]], Rooms]:
    """Walk through a piece of work and count its rooms."""

    def walk(work: Callable[[], object]) -> Rooms:
        return Rooms(PACKAGE).walk(work)

    return walk


@pytest.fixture(scope="session")
def tracked() -> list[Path]:
    """Every file that git would carry to a clone, new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    paths = (ROOT / name for name in listed.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


@pytest.fixture(scope="session")
def fresh() -> Callable[..., str]:
    """Run code in an interpreter of its own, warnings as errors; return what it printed."""

    def run(code: str, *options: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", *options, "-c", code],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
