"""What all tests share: a run that is told to end tidies up first."""

from __future__ import annotations

import os
import signal
from types import FrameType


def _end(signum: int, frame: FrameType | None) -> None:
    if os.getpid() != _pid:  # a child forked by a test
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)
    raise KeyboardInterrupt


# SIGTERM, as of `timeout` and CI systems, would end pytest at once, and the workers that
# tests have started would run on.
_pid = os.getpid()
if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
    signal.signal(signal.SIGTERM, _end)
