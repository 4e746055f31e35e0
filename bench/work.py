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
"""Seconds that a computing task takes on an idle processor."""
TURNS = int(os.environ.get("BENCH_TURNS", "17000"))
"""Of `spin`, that take `BURN` seconds here; measured before a run (`calibrated`)."""

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
    """Compute for about `BURN` seconds; mark before if ``edge``."""
    if edge:
        leave_mark(edge)
    spin(TURNS)


def spin(turns: int) -> int:
    """Turns of a generator of random numbers: plain bytecode, no call of the system."""
    number = 1
    for _ in range(turns):
        number = (number * 1103515245 + 12345) & 0x7FFFFFFF
    return number


def calibrated() -> int:
    """The turns of `spin` that take `BURN` seconds at this machine's best.

    All sides then do the same work.  A task that looks at its own processor time would not
    do: it spends that in the kernel, and a task queue that slows it down goes unnoticed.
    """
    turns, best = 20_000, BURN * 100
    for _ in range(100):
        begin = time.perf_counter()
        spin(turns)
        best = min(best, time.perf_counter() - begin)
    return max(int(turns * BURN / best), 1)
