"""Hooks: called from one package, each documented with its signature, each tested."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from caraway.plugins import specs
from caraway.plugins.entries import ROLES

HOOKS = sorted(name for name in vars(specs) if name.startswith("caraway_"))


def test_only_the_package_of_plugins_calls_hooks(package: Path) -> None:
    calling = re.compile(r"\.hook\.|get_hookimpls|import pluggy|from pluggy")
    found = {
        path.relative_to(package).parts[0]
        for path in package.rglob("*.py")
        if calling.search(path.read_text())
    }
    assert found == {"plugins"}


def test_every_registration_hook_has_its_role() -> None:
    registering = {name for name in HOOKS if name.startswith("caraway_register_")}
    assert registering == {role.hook for role in ROLES.values()}


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_is_documented_with_its_exact_signature(root: Path, name: str) -> None:
    function = getattr(specs, name)
    arguments = ", ".join(function.__code__.co_varnames[: function.__code__.co_argcount])
    page = (root / "docs/reference/hooks.md").read_text()
    assert page.count(f"\n### `{name}({arguments})`\n") == 1
    assert function.__doc__


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_has_a_test(root: Path, name: str) -> None:
    tests = "".join(path.read_text() for path in (root / "tests/unit/plugins").glob("*.py"))
    assert f"def {name}" in tests


def test_the_documented_hooks_are_those_that_there_are(root: Path) -> None:
    page = (root / "docs/reference/hooks.md").read_text()
    assert sorted(re.findall(r"^### `(\w+)\(", page, re.MULTILINE)) == HOOKS


def test_the_page_of_hooks_is_up_to_date(root: Path) -> None:
    tool = root / "core/tools/hooks_doc.py"
    assert subprocess.run([sys.executable, tool, "--check"], check=False).returncode == 0


HEAVY = (
    "asyncio", "click", "concurrent.futures", "dataclasses", "difflib", "email",
    "importlib.metadata", "logging", "multiprocessing", "pluggy", "rich", "socket",
    "sqlite3", "subprocess", "tomllib", "urllib.parse",
)  # fmt: skip


def modules_after(code: str) -> set[str]:
    """What is imported after this code, in a fresh process."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import caraway.plugins",
        "import caraway.builtin.plugin",
        "import caraway.url; caraway.url.Url.parse('redis://u:p@h:1/0?x=y')",
        "from caraway.plugins.registry import Registry; Registry.discover().serializer('json')",
    ],
)
def test_what_is_on_every_start_s_way_imports_nothing_heavy(code: str) -> None:
    assert not modules_after(code) & set(HEAVY)
