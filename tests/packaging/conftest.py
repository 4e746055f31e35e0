"""Wheels of this checkout, and environments that hold nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
UNREACHABLE = ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "ProxyError")
"""What pip says of an index that isn't there; of one that lacks something it says otherwise."""


class Environment:
    """A virtual environment, made for these tests."""

    def __init__(self, folder: Path, wheels: Path, missing: Callable[[str], NoReturn]) -> None:
        self.folder = folder
        self.wheels = wheels
        self._missing = missing
        scripts = folder / ("Scripts" if os.name == "nt" else "bin")
        self.python = scripts / "python"
        self.caraway = scripts / "caraway"
        subprocess.run(
            [sys.executable, "-m", "virtualenv", "-q", "--no-periodic-update", str(folder)],
            check=True,
        )

    def install(self, *requirements: str) -> None:
        """pip install, with our wheels at hand.  Without an index it is `missing`."""
        done = subprocess.run(
            [self.python, "-m", "pip", "install", "-q", "--disable-pip-version-check",
             "--find-links", self.wheels, *requirements],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return
        if os.environ.get("PIP_NO_INDEX") or any(text in done.stderr for text in UNREACHABLE):
            self._missing(f"no package index to install {' '.join(requirements)} from")
        pytest.fail(done.stderr)

    def run(self, *command: object, cwd: Path | None = None) -> str:
        """Run a command in a clean environment; return what it printed."""
        keep = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT", "LANG")
        done = subprocess.run(
            [str(part) for part in command],
            cwd=cwd or self.folder,
            env={name: os.environ[name] for name in keep if name in os.environ},
            capture_output=True, text=True, check=False, timeout=110,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every wheel of this repository."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, ROOT / "core/tools/wheelhouse.py", folder], check=True)
    return folder


@pytest.fixture(scope="session")
def environment(
    wheels: Path, tmp_path_factory: pytest.TempPathFactory, missing: Callable[[str], NoReturn]
) -> Callable[..., Environment]:
    """Make an environment with these requirements; the same one for the same ones."""
    made: dict[tuple[str, ...], Environment] = {}

    def make(*requirements: str) -> Environment:
        if requirements not in made:
            new = Environment(tmp_path_factory.mktemp("env"), wheels, missing)
            new.install(*requirements)
            made[requirements] = new
        return made[requirements]

    return make
