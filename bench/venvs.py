"""An environment for each peer, made once under ``.bench/`` and kept."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

REQUIREMENTS: dict[str, tuple[str, ...]] = {
    "huey": ("huey>=3,<4", "redis[hiredis]"),
    "celery": (
        "celery[redis,sqlalchemy]>=5.7,<5.8",
        "hiredis",
    ),
    "dramatiq": ("dramatiq[redis]>=2,<3", "hiredis"),
    "taskiq": ("taskiq>=0.13,<0.14", "taskiq-redis>=1.2,<2", "uvloop"),
    "rq": ("rq>=3,<4", "hiredis"),
    "streaq": ("streaq>=7.2,<8", "uvloop"),
    "saq": ("saq[redis,hiredis]>=0.26,<0.27", "typing_extensions", "uvloop"),
    "arq": ("arq>=0.28,<0.29", "hiredis", "uvloop"),
}
"""What to install, by the name of its module in ``bench.apps``."""


def ready(name: str, root: Path) -> Path:
    """The interpreter of a peer's environment; installs it if it isn't there.

    Raises:
        RuntimeError: it can't be installed; says why.
    """
    home = root / "venvs" / name
    python = home / "bin" / "python"
    stamp = home / "installed.json"
    wanted = json.dumps([sys.version_info[:2], REQUIREMENTS[name]])
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(home)],
        [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS[name]],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode:
            lines = (done.stderr or done.stdout).strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"code {done.returncode}")
    stamp.write_text(wanted)
    return python


def version(name: str, python: Path) -> str:
    """Of the installed peer, as its metadata says."""
    code = f"from importlib.metadata import version; print(version({name!r}))"
    done = subprocess.run(
        [str(python), "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or "?"
