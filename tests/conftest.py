"""What all tests share: a run that is told to end tidies up first, and CI has everything."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import pytest


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


@pytest.fixture(scope="session")
def missing() -> Callable[[str], NoReturn]:
    """Skip what needs something that can be installed, saying how; in CI it fails."""

    def give_up(text: str) -> NoReturn:
        if os.environ.get("CI", "").lower() in ("true", "1"):
            pytest.fail(text)
        pytest.skip(text)

    return give_up
