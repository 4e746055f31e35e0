"""How much memory a process takes, without a dependency.

Linux is read from ``/proc``; macOS and the BSDs are asked through ``getrusage`` (the
calling process: its peak) or ``ps``; Windows through ``GetProcessMemoryInfo``.
"""

from __future__ import annotations

import os
import sys
from time import monotonic


def resident(pid: int | None = None) -> int:
    """Resident memory of a process in bytes, what it shares included; 0 if unknown.

    Args:
        pid: of the process; None is the calling one.
    """
    try:
        with open(f"/proc/{pid or 'self'}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    return _ask_system(pid)


def proportional(pid: int | None = None) -> int:
    """Memory of a process in bytes with each shared page divided among those who share
    it (PSS); `resident` where the platform can't tell; 0 if unknown.

    The sum over the processes of a worker is what the worker takes.
    """
    try:
        with open(f"/proc/{pid or 'self'}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return resident(pid)


class Watch:
    """Looks once a second whether the calling process has grown too large.

    Args:
        limit: bytes of resident memory.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._looked = 0.0

    def too_large(self) -> bool:
        """True if it has, as far as was looked."""
        now = monotonic()
        if now - self._looked < 1.0:
            return False
        self._looked = now
        return resident() > self._limit


if sys.platform == "win32":

    def _ask_system(pid: int | None) -> int:
        import ctypes
        from ctypes import wintypes

        # PROCESS_MEMORY_COUNTERS of psapi.h: two 32-bit fields, then sizes; WorkingSetSize
        # is the second of the sizes.
        class Counters(ctypes.Structure):
            _fields_ = (
                ("cb", wintypes.DWORD),
                ("PageFaultCount", wintypes.DWORD),
                ("sizes", ctypes.c_size_t * 8),
            )

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.OpenProcess.restype = wintypes.HANDLE
        kernel.K32GetProcessMemoryInfo.argtypes = (
            wintypes.HANDLE,
            ctypes.POINTER(Counters),
            wintypes.DWORD,
        )
        kernel.CloseHandle.argtypes = (wintypes.HANDLE,)
        limited_query = 0x1000
        handle = kernel.OpenProcess(limited_query, False, pid or os.getpid())  # noqa: FBT003 - C
        if not handle:
            return 0
        try:
            counters = Counters(cb=ctypes.sizeof(Counters))
            if kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.cb):
                return int(counters.sizes[1])
            return 0
        finally:
            kernel.CloseHandle(handle)

else:

    def _ask_system(pid: int | None) -> int:
        if pid is None or pid == os.getpid():
            import resource

            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            return peak if sys.platform == "darwin" else peak * 1024
        import subprocess

        try:
            answer = subprocess.run(  # noqa: S603 - a number, and no shell
                ["ps", "-o", "rss=", "-p", str(int(pid))],  # noqa: S607 - its place differs
                capture_output=True,
                timeout=5.0,
                check=False,
            )
            return int(answer.stdout.strip() or 0) * 1024
        except (OSError, ValueError, subprocess.SubprocessError):
            return 0
