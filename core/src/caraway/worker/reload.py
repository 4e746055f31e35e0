"""``--reload``: starts the worker anew when a source file changed.  For development.

The command runs twice: the outer process watches the files and owns the inner one, which
is the worker.  So a worker that doesn't even import (a syntax error was saved) is no end
of the session: the next change starts it again.  Files are looked at every half second;
that needs no dependency, works on every file system, and costs a few milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

CHILD: Final = "CARAWAY_RELOAD_CHILD"
"""Set in the environment of the inner process."""
_SKIPPED: Final = frozenset(
    {"__pycache__", "node_modules", "site-packages", "dist-packages", "build", "dist"}
)
_MOST_FILES: Final = 20_000

Stamps = dict[str, tuple[int, int]]


class Watcher:
    """Tells which source files changed since it last looked.

    Args:
        directories: looked through for ``*.py`` and ``caraway.toml``; hidden ones and
            virtual environments are left out.
        files: looked at besides.
    """

    def __init__(self, directories: Iterable[str], files: Iterable[str] = ()) -> None:
        self._directories = [os.path.abspath(each) for each in directories]
        self._files = [os.path.abspath(each) for each in files]
        self._stamps = self._scan()

    def changed(self) -> list[str]:
        """Files that were written, created or removed since the last call, by name."""
        before, self._stamps = self._stamps, self._scan()
        return sorted(
            path
            for path in before.keys() | self._stamps.keys()
            if before.get(path) != self._stamps.get(path)
        )

    def _scan(self) -> Stamps:
        stamps: Stamps = {}
        for path in self._files:
            with contextlib.suppress(OSError):
                status = os.stat(path)
                stamps[path] = (status.st_mtime_ns, status.st_size)
        for directory in self._directories:
            for entry in _walk(directory):
                if len(stamps) >= _MOST_FILES:
                    return stamps
                with contextlib.suppress(OSError):
                    status = entry.stat()
                    stamps[entry.path] = (status.st_mtime_ns, status.st_size)
        return stamps


def _walk(directory: str) -> Iterator[os.DirEntry[str]]:
    pending = [directory]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                found = list(entries)
        except OSError:
            continue
        if any(entry.name == "pyvenv.cfg" for entry in found):
            continue
        for entry in found:
            if entry.name.startswith("."):
                continue
            try:
                is_directory = entry.is_dir(follow_symlinks=False)
            except OSError:
                continue
            if is_directory:
                if entry.name not in _SKIPPED:
                    pending.append(entry.path)
            elif entry.name.endswith(".py") or entry.name in ("caraway.toml", "pyproject.toml"):
                yield entry


def is_child() -> bool:
    """True in the inner process, which must not watch again; forgets it, so that its own
    children don't think so too."""
    return os.environ.pop(CHILD, "") == "1"


def broken(paths: Iterable[str]) -> str:
    """The first syntax error in these files as text, empty if there is none."""
    for path in paths:
        if not path.endswith(".py"):
            continue
        try:
            with open(path, "rb") as file:
                compile(file.read(), path, "exec")
        except OSError:
            continue  # removed, or half saved: the next look will tell
        except (SyntaxError, ValueError) as exc:
            return f"{path}:{getattr(exc, 'lineno', 0) or 0}: {exc}"
    return ""


def run(
    directories: Iterable[str],
    *,
    command: list[str] | None = None,
    interval: float = 0.5,
    patience: float = 10.0,
    say: Callable[[str], None] = print,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run the worker's command and start it anew at each change, until interrupted.

    Args:
        directories: see `Watcher`.
        command: to run; None is this process's own command.
        interval: seconds between two looks at the files.
        patience: seconds that a worker gets to stop before it is killed.
        say: prints a line for the person who waits.
        environment: of the command; None is this process's own.

    Returns:
        An exit code: 0 after an interrupt.
    """
    command = command or [*sys.orig_argv]
    command[0] = sys.executable
    environ = {**(os.environ if environment is None else environment), CHILD: "1"}
    watcher = Watcher(directories)
    _end_by_signal()
    child = subprocess.Popen(command, env=environ)  # noqa: S603 - our own command again
    told_end = False
    try:
        while True:
            time.sleep(interval)
            if not told_end and child.poll() is not None:
                told_end = True
                say(f"the worker ended with code {child.returncode}; waiting for a change")
            changed = watcher.changed()
            if not changed:
                continue
            error = broken(changed)
            if error:
                say(f"not restarted, {error}")
                continue
            shown = ", ".join(os.path.relpath(path) for path in changed[:3])
            say(f"changed: {shown}{' ...' if len(changed) > 3 else ''}; restarting")
            end(child, patience)
            child = subprocess.Popen(command, env=environ)  # noqa: S603 - as above
            told_end = False
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to the worker too: it is stopping, and another signal now
        # would make it stop hard.
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            child.wait(patience)
        return 0
    finally:
        end(child, patience)


def _end_by_signal() -> None:
    # Without this, a SIGTERM would leave the worker behind.
    import signal
    import threading

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))


def end(child: subprocess.Popen[bytes], patience: float) -> None:
    """Stop a worker: warmly at first, by force after ``patience`` seconds."""
    if child.poll() is not None:
        return
    child.terminate()
    try:
        child.wait(patience)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()
