"""Other processes that tests start, and kill.

They run `caraway.testing.conformance.victim` with the same factory and URL, and are ended
by SIGKILL (on Windows: TerminateProcess).
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from caraway.testing.conformance.suite import Suite, skip


class Victim:
    """A process that works on the store until it is killed.

    Its lines on standard output go to a file, so that nothing it said before its death
    is lost in a pipe.
    """

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command, stdin=subprocess.PIPE, stdout=out, stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )  # fmt: skip

    def said(self) -> list[str]:
        """The whole lines that it printed."""
        return self.log.read_text().split("\n")[:-1]

    def wait_for(self, lines: int, timeout: float) -> None:
        """Wait until it printed so many lines."""
        deadline = time.monotonic() + timeout
        while len(self.said()) < lines:
            if self.process.poll() is not None:
                errors = self.process.stderr.read() if self.process.stderr else b""
                raise AssertionError(f"the victim died by itself:\n{errors.decode()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the victim printed {self.said()}, not {lines} lines")
            time.sleep(0.005)

    def tell(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n".encode())
        self.process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL.  Idempotent."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stderr):
            if pipe is not None:
                pipe.close()


class ProcessCase(Suite):
    """Base of tests that need other processes: the factory must be named by a text."""

    def victim_options(self) -> dict[str, Any]:
        """What this kind of component tells its victims besides factory and URL."""
        return {}

    def victim(self, script: str, **options: Any) -> Victim:
        """Start a process that does ``script`` with this test's store."""
        if self.probing:
            raise skip("a store that isn't declared persistent isn't tried by killing")
        self.use_real_time()
        factory = self.plain("factory")
        if not isinstance(factory, str):
            raise skip("a victim needs factory as 'package.module:Class'")
        values = {
            "script": script,
            "factory": factory,
            "url": self.url(self.tmp_path),
            "prefix": self.unique,
            **self.victim_options(),
            **options,
        }
        command = [sys.executable, "-m", "caraway.testing.conformance.victim"]
        command += [f"{name}={value}" for name, value in values.items()]
        victim = Victim(command, self.tmp_path / f"victim-{random.randrange(10**9)}.log")  # noqa: S311 - a file's name
        self._cleanups.append(victim.kill)
        return victim

    def race(self, script: str, options: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Start a process for each of these options, let all go at the same moment and kill
        them when they are done; what each has said since."""
        victims = [self.victim(script, **each) for each in options]
        for victim in victims:
            victim.wait_for(1, self.patience)
        for victim in victims:
            victim.tell("go")
        deadline = time.monotonic() + self.patience
        while not all(victim.said()[-1] == "done" for victim in victims):
            assert time.monotonic() < deadline, "they did not end"
            time.sleep(0.01)
        for victim in victims:
            victim.kill()
        return [victim.said()[1:-1] for victim in victims]
