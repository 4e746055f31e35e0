"""Processes of a worker: start, stop, processor time and memory of the whole tree."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

PROC = Path("/proc")


def has_proc() -> bool:
    """Whether this system tells about processes under ``/proc``."""
    return (PROC / "self" / "stat").exists()


def end_on_term() -> None:
    """Let SIGTERM unwind this process, so that what it started is stopped too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def finish(
    command: Sequence[str], *, cwd: Path, env: dict[str, str], timeout: float
) -> tuple[str, str]:
    """Run a driver to its end; its output and errors.  It is told to stop if it is late."""
    with subprocess.Popen(
        list(command),
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            return process.communicate(timeout=timeout)
        except BaseException as exc:
            process.terminate()  # it stops its worker
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
            if isinstance(exc, subprocess.TimeoutExpired):
                return "", f"took longer than {timeout:.0f} s"
            raise


class Worker:
    """A worker under measurement, with all its descendants.

    ``whole``: SIGTERM goes to all its processes, for one whose first doesn't pass it on.
    """

    def __init__(
        self, command: Sequence[str], *, cwd: Path, log: Path, whole: bool = False
    ) -> None:
        self._log = log
        self._whole = whole
        self.started = time.monotonic()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                list(command),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise if it ended by itself, with the end of its log."""
        code = self.process.poll()
        if code is not None:
            tail = self._log.read_text(errors="replace")[-3000:]
            raise RuntimeError(f"the worker ended with code {code}:\n{tail}")

    def pids(self) -> list[int]:
        """Its process, and every one that descends from it or shares its session."""
        parents: dict[int, int] = {}
        sessions: dict[int, int] = {}
        for entry in PROC.iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z":
                continue
            parents[int(entry.name)] = int(fields[1])
            sessions[int(entry.name)] = int(fields[3])
        root = self.process.pid
        found = {root} | {pid for pid, session in sessions.items() if session == root}
        grew = True
        while grew:
            more = {pid for pid, parent in parents.items() if parent in found} - found
            found |= more
            grew = bool(more)
        return sorted(found & parents.keys())

    def cpu_seconds(self) -> float:
        """Processor time used so far by all its living processes."""
        return sum(_cpu_seconds(pid) for pid in self.pids())

    def wakeups(self) -> int:
        """Voluntary context switches so far of all its living threads."""
        total = 0
        for pid in self.pids():
            for status in (PROC / str(pid) / "task").glob("*/status"):
                try:
                    text = status.read_text()
                except OSError:
                    continue
                total += int(text.partition("voluntary_ctxt_switches:")[2].split()[0])
        return total

    def memory(self) -> dict[str, float]:
        """MB of its processes together: ``pss``, ``rss``, ``private``; and how many."""
        totals = {"Pss:": 0, "Rss:": 0, "Private_Clean:": 0, "Private_Dirty:": 0}
        pids = self.pids()
        for pid in pids:
            try:
                text = (PROC / str(pid) / "smaps_rollup").read_text()
            except OSError:
                continue
            for line in text.splitlines():
                name, _, rest = line.partition(" ")
                if name in totals:
                    totals[name] += int(rest.split()[0])
        return {
            "pss": totals["Pss:"] / 1024,
            "rss": totals["Rss:"] / 1024,
            "private": (totals["Private_Clean:"] + totals["Private_Dirty:"]) / 1024,
            "processes": float(len(pids)),
        }

    def stop(self, timeout: float = 10.0) -> float:
        """End it warmly, then by force; return the seconds it took."""
        begin = time.monotonic()
        pids = self.pids() if has_proc() else [self.process.pid]
        if self.process.poll() is None:
            if self._whole:
                os.killpg(self.process.pid, signal.SIGTERM)
            else:
                self.process.terminate()
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                print("bench: the worker did not stop; killed", file=sys.stderr)
        took = time.monotonic() - begin
        # whatever is left of the tree, so that nothing disturbs the next measurement
        for pid in pids:
            try:
                if has_proc() and os.getsid(pid) != self.process.pid:
                    continue
                os.kill(pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):
                continue
        self.process.wait()
        return took


def _cpu_seconds(pid: int) -> float:
    """Of all threads; from schedstat (nanoseconds) where there is one, else in ticks."""
    total = 0
    try:
        for stat in (PROC / str(pid) / "task").glob("*/schedstat"):
            total += int(stat.read_text().split()[0])
        if total:
            return total / 1e9
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return total / 1e9
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
