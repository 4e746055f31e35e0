"""Threads of a worker."""

from __future__ import annotations

import ast
import threading
from pathlib import Path

import caraway

SOURCES = Path(caraway.__file__).parent


def test_no_thread_of_ours_takes_a_private_name_of_pythons_threads() -> None:
    """`Thread` gets new ones with each version of Python: ``_handle`` came with 3.13."""
    theirs = {
        name for name in {*dir(threading.Thread), *vars(threading.Thread())} if name[0] == "_"
    }
    seen = 0
    for path in SOURCES.rglob("*.py"):
        for cls in ast.walk(ast.parse(path.read_text())):
            if isinstance(cls, ast.ClassDef) and "Thread" in map(_last_name, cls.bases):
                seen += 1
                ours = {
                    node.name if isinstance(node, ast.FunctionDef) else node.attr
                    for node in ast.walk(cls)
                    if isinstance(node, ast.FunctionDef)
                    or (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
                }
                assert {name for name in ours & theirs if name != "__init__"} == set(), path
    assert seen >= 3


def _last_name(base: ast.expr) -> str:
    return base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "")
