"""The tasks of the demo: read pieces of files, report which words stand on which lines."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, TypedDict

from caraway import Caraway

app = Caraway("textindex")

WORD = re.compile(rb"[A-Za-z][A-Za-z_]{2,}")


class Piece(TypedDict):
    """What indexing one piece of a file gives."""

    path: str
    lines: int
    words: dict[str, list[int]]
    """Word -> lines it stands on, once per occurrence."""
    attempts: int
    """How many runs it took."""
    pid: int
    """Of the process that did it."""


def scan(data: bytes, first_line: int) -> dict[str, list[int]]:
    """The words of some text, and the lines they stand on."""
    words: dict[str, list[int]] = {}
    for number, line in enumerate(data.splitlines(), first_line):
        for match in WORD.finditer(line):
            words.setdefault(match.group().decode().lower(), []).append(number)
    return words


@app.task(bind=True, max_retries=5)
def index_piece(
    self: Any, path: str, offset: int, size: int, first_line: int, stumble: bool = False
) -> Piece:
    """Index ``size`` bytes of a file from ``offset`` on.

    With ``stumble`` the first run fails, as if the disk had hiccuped, and is retried.
    """
    if stumble and self.request.retries == 0:
        raise self.retry(exc=OSError(f"{path}: try again"), countdown=0.3)
    with Path(path).open("rb") as file:
        file.seek(offset)
        data = file.read(size)
    import os

    return {
        "path": path,
        "lines": len(data.splitlines()),
        "words": scan(data, first_line),
        "attempts": self.request.retries + 1,
        "pid": os.getpid(),
    }


@app.task
def tell_time() -> float:
    """When this ran (seconds since the epoch)."""
    return time.time()


@app.task
def erase(path: str) -> None:
    """Delete a file.  The demo revokes this one before it runs."""
    Path(path).unlink()


@app.task
def echo(value: int) -> int:
    """Give back what was given."""
    return value
