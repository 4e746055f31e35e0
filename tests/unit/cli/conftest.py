from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from caraway.settings import command_line


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project, the working directory, nothing of ours in the environment; what
    commands change in the process is put back."""
    for name in list(os.environ):
        if name.startswith(("CARAWAY_", "CELERY_")):
            monkeypatch.delenv(name)
    environ, modules, path = dict(os.environ), set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    command_line.clear()
    for name in set(os.environ) - set(environ):
        del os.environ[name]
    os.environ.update(environ)
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if not name.startswith(("caraway", "rich", "click")):
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(str(tmp_path)):
                del sys.modules[name]


@pytest.fixture
def caraway(project: Path) -> Callable[..., Answer]:
    """Run a command line in this process."""

    def call(*args: str, stdin: str = "", **program: Any) -> Answer:
        from caraway.cli.main import run
        from caraway.cli.program import Program

        state = Program()
        for name, value in program.items():
            setattr(state, name, value)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.MonkeyPatch.context() as patch,
        ):
            patch.setattr(sys, "stdin", io.StringIO(stdin))
            code = run(list(args), program=state)
        return Answer(code, out.getvalue(), err.getvalue())

    return call
