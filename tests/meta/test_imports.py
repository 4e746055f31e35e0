"""Importing is cheap, and every module stands on its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "core" / "src" / "caraway"

MODULES = sorted(
    ".".join(("caraway", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    )
    for path in PACKAGE.rglob("*.py")
    if path.name != "__main__.py" and "_template" not in path.parts
)

HEAVY = (
    "asyncio",
    "click",
    "concurrent.futures",
    "dataclasses",
    "email",
    "http",
    "importlib.metadata",
    "inspect",
    "logging",
    "multiprocessing",
    "pluggy",
    "rich",
    "socket",
    "sqlite3",
    "ssl",
    "subprocess",
    "tomllib",
    "unittest",
)
"""What a program that only sends tasks must not pay for at ``import caraway``."""

LOADED = """
import sys
before = set(sys.modules)
{code}
print(*sorted(set(sys.modules) - before))
"""


@pytest.mark.parametrize("module", MODULES)
def test_each_module_imports_alone_and_without_a_warning(
    module: str, fresh: Callable[..., str]
) -> None:
    fresh(f"import {module}")


def test_import_caraway_loads_nothing_heavy(fresh: Callable[..., str]) -> None:
    loaded = fresh(LOADED.format(code="import caraway")).split()

    assert [name for name in HEAVY if name in loaded] == []
    assert len(loaded) <= 25, loaded


def test_the_app_and_its_tasks_load_no_command_line_and_no_event_loop(
    fresh: Callable[..., str],
) -> None:
    code = """
from caraway import Caraway
app = Caraway("shop")
@app.task
def add(x, y):
    return x + y
"""
    loaded = fresh(LOADED.format(code=code)).split()

    assert [
        name for name in ("asyncio", "click", "rich", "multiprocessing") if name in loaded
    ] == []


def test_a_module_of_hooks_loads_only_what_plugins_may(fresh: Callable[..., str]) -> None:
    loaded = fresh(LOADED.format(code="import caraway.builtin.plugin")).split()

    ours = {name for name in loaded if name.startswith("caraway")}
    floors = ("caraway.builtin", "caraway.plugins", "caraway.interfaces", "caraway.errors")
    values = ("caraway.message", "caraway.url", "caraway.states", "caraway._deprecated")
    assert [n for n in ours if n != "caraway" and not n.startswith(floors + values)] == []
    assert [
        n for n in ours if n.startswith("caraway.builtin.") and n != "caraway.builtin.plugin"
    ] == []
    assert [n for n in ("asyncio", "sqlite3", "multiprocessing", "click") if n in loaded] == []
