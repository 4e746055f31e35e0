"""What the tests of plugins share: distributions that aren't really installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from caraway.plugins import discovery, manager, scan

_VARIABLES = (
    "CARAWAY_DISABLE_PLUGINS",
    "CARAWAY_PLUGINS",
    "CARAWAY_PLUGIN_AUTOLOAD",
    "CARAWAY_PLUGINS_STRICT",
    "CARAWAY_TRACE_PLUGINS",
)

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def fresh_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if no plugin had been looked for in this process, and none were installed."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(manager, "_loaded", {})
    monkeypatch.setattr(manager, "_pluggy", None)
    monkeypatch.setattr(discovery, "_reported", set())
    # Real distributions with plugins may be in the environment that runs the tests.
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.setattr(sys, "path", [str(site), *(p for p in sys.path if "-packages" not in p)])
    monkeypatch.setattr(
        sys,
        "meta_path",
        [f for f in sys.meta_path if getattr(f, "__module__", "") == "_frozen_importlib_external"
         or not hasattr(f, "find_distributions")],
    )  # fmt: skip
    scan.candidates.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution with entry points and modules where Python finds it."""

    def put(dist: str, points: dict[str, str], *, version: str = "1.0", **modules: str) -> None:
        site = tmp_path / "site"
        info = site / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (info / "entry_points.txt").write_text(f"[caraway]\n{lines}")
        for name, source in modules.items():
            (site / f"{name}.py").write_text(_PRELUDE + dedent(source))
            monkeypatch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        scan.candidates.cache_clear()

    return put


_PRELUDE = """
from caraway.plugins import *
"""
