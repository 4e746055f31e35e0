"""What ``caraway new-plugin`` writes: it builds, installs, and its tests pass as they come."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", ["transport", "backend", "serializer", "pool"])
def test_a_new_plugin_is_a_working_distribution(
    environment: Callable[..., Any], kind: str, tmp_path: Path
) -> None:
    env = environment("caraway[testing]")
    name = f"fresh-{kind}"
    env.run(env.caraway, "new-plugin", name, "--kind", kind, "--output", tmp_path)
    folder = tmp_path / f"caraway-{name}"
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", folder],
        check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (folder / "dist").glob("*.whl")
    env.run(env.python, "-m", "pip", "install", "-q", "--no-deps", "--no-index", wheel)
    env.run(env.python, "-m", "pytest", "-q", cwd=folder)
    listed = json.loads(env.run(env.caraway, "plugins", "show", name, "--json"))
    assert [plugin["state"] for plugin in listed] == ["active"]


@pytest.mark.parametrize("kind", ["transport", "backend", "serializer", "pool"])
def test_a_new_plugin_passes_the_strict_type_checker(kind: str, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "caraway.cli", "new-plugin", "typed", "--kind", kind],
        check=True, cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "src"],
        cwd=tmp_path / "caraway-typed", capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
