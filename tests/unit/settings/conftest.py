from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caraway.settings import Settings, command_line, load


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project, the working directory, and an environment without our variables."""
    for name in list(os.environ):
        if name.startswith(("CARAWAY_", "CELERY_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    command_line.clear()


@pytest.fixture
def from_text(project: Path) -> Callable[[str], Settings]:
    def read(text: str) -> Settings:
        (project / "caraway.toml").write_text(text, encoding="utf-8")
        return load(environ={})

    return read
