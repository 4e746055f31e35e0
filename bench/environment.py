"""What a reader of the figures must know of the machine."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from importlib import metadata
from pathlib import Path


def describe(directory: Path) -> dict[str, str]:
    """Name and value of each fact; ``directory`` is where the stores lie."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "processors": f"{len(_affinity())} ({_processor()})",
        "load before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "clients": ", ".join(f"{name} {_version(name)}" for name in ("redis", "hiredis", "amqp")),
        "file system": _file_system(directory),
        "write and fsync": f"{_fsync(directory) * 1e6:.0f} us",
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file_system(directory: Path) -> str:
    best, kind = "", "unknown"
    try:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, mount, name, *_ = line.split()
            inside = str(directory.resolve()).startswith(mount.rstrip("/") + "/")
            if inside and len(mount) >= len(best):
                best, kind = mount, name
    except OSError:
        pass
    return kind


def _fsync(directory: Path) -> float:
    """Seconds to append 4 KiB and have it on the disk; the median of 50."""
    path = directory / "fsync.probe"
    times = []
    with path.open("wb", buffering=0) as file:
        for _ in range(50):
            begin = time.perf_counter()
            file.write(b"x" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - begin)
    path.unlink()
    return sorted(times)[25]
