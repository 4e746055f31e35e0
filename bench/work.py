"""What the measured tasks do: the same functions in every task queue.  Standard library only.

Tasks leave marks (a line with the time) in one file, so that a drain is timed by the tasks
themselves, with the same clock and at the same cost for every queue.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

MARKS = "BENCH_MARKS"
"""Environment variable: path of the file of marks."""
NAP = 0.010
"""Seconds that a waiting task waits."""
BURN = 0.002
"""Seconds of processor time that a computing task takes."""

_fds: dict[int, int] = {}


def leave_mark(label: str) -> None:
    """Append ``label`` and the time to the file of marks; one short write."""
    pid = os.getpid()
    fd = _fds.get(pid)
    if fd is None:
        fd = os.open(os.environ[MARKS], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        _fds.clear()
        _fds[pid] = fd
    os.write(fd, f"{label} {time.monotonic():.6f} {pid}\n".encode())


def read_marks(path: Path) -> list[tuple[str, float, int]]:
    """All marks so far: label, time (monotonic seconds), process id."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return []
    marks: list[tuple[str, float, int]] = []
    for line in lines:
        parts = line.split()
        if len(parts) == 3:  # the last line may be half there
            marks.append((parts[0], float(parts[1]), int(parts[2])))
    return marks


def noop() -> None:
    """Do nothing."""


def nap(edge: str) -> None:
    """Wait `NAP` seconds; ``edge`` is a label to mark before the wait, or empty."""
    if edge:
        leave_mark(edge)
    time.sleep(NAP)


def burn(edge: str) -> None:
    """Use `BURN` seconds of processor time of this thread; mark before if ``edge``."""
    if edge:
        leave_mark(edge)
    end = time.thread_time() + BURN
    while time.thread_time() < end:
        # Most of it in the interpreter: the clock is the kernel's, under its locks.
        _spin(200)


def _spin(turns: int) -> int:
    number = 1
    for _ in range(turns):
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF
    return number
