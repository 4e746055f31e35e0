"""Writes every public name with its signature to ``core/public-api.txt``.

A change of what others build on then shows as a change of that file, in the same commit,
where nobody can overlook it.  ``--check`` compares and tells instead.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

TARGET = Path(__file__).parents[1] / "public-api.txt"
MODULES = (
    "caraway",
    "caraway.control",
    "caraway.errors",
    "caraway.events",
    "caraway.interfaces",
    "caraway.message",
    "caraway.plugins",
    "caraway.plugins.specs",
    "caraway.testing",
    "caraway.waking",
)
HEAD = """\
# Every public name with its signature.  Written by core/tools/public_api.py; to change it,
# change the code and run: nox -s matrix
"""


class Plain:
    """Prints as its text, without quotes."""

    def __init__(self, text: object) -> None:
        self.text = str(text)

    def __repr__(self) -> str:
        return self.text


def signature(value: Any) -> str:
    """How it is called; types as they are written in the source."""
    fields = getattr(value, "__struct_fields__", None)
    if fields is not None:
        hints = {k: v for c in reversed(value.__mro__) for k, v in annotations(c).items()}
        optional = len(value.__struct_defaults__)
        must = len(fields) - optional
        parts = [f"{f}: {hints[f]}" + " = ..." * (n >= must) for n, f in enumerate(fields)]
        return f"({', '.join(parts)})"
    try:
        found = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    parameters = [
        p.replace(
            annotation=p.annotation if p.annotation is p.empty else Plain(p.annotation),
            # The text of some defaults holds an address, which differs from run to run.
            default=Plain("...") if " at 0x" in repr(p.default) else p.default,
        )
        for p in found.parameters.values()
    ]
    returned = found.return_annotation
    if returned is not found.empty:
        found = found.replace(return_annotation=Plain(returned))
    return str(found.replace(parameters=parameters))


def annotations(cls: type) -> dict[str, str]:
    """A class's own annotations, as text."""
    return {k: str(v) for k, v in inspect.get_annotations(cls).items()}


def public(module: ModuleType) -> list[str]:
    """The names a module offers."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    )


def members(cls: type) -> Iterator[str]:
    """The public members that a class itself defines."""
    for name, value in sorted(vars(cls).items()):
        if name.startswith("_"):
            continue
        plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(plain, property):
            yield f"    .{name}"
        elif inspect.isfunction(plain):
            yield f"    .{name}{signature(plain)}"


def describe() -> Iterator[str]:
    """The file's lines."""
    yield from HEAD.splitlines()
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        yield ""
        yield module_name
        for name in public(module):
            value = getattr(module, name)
            if isinstance(value, ModuleType):
                yield f"  module {name}"
            elif inspect.isclass(value):
                bases = ", ".join(b.__name__ for b in value.__bases__ if b is not object)
                yield f"  class {name}({bases}){signature(value)}"
                yield from members(value)
            elif callable(value):
                yield f"  {name}{signature(value)}"
            else:
                yield f"  {name}"


def main() -> int:
    """Write, or with ``--check`` compare; return the exit code."""
    text = "\n".join(describe()) + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text)
        return 0
    before = TARGET.read_text() if TARGET.exists() else ""
    if before == text:
        return 0
    name = str(TARGET.name)
    changes = difflib.unified_diff(
        before.splitlines(), text.splitlines(), name, "the code", lineterm="", n=1
    )
    print("\n".join(changes))
    print("The public API changed.  If it is meant to: nox -s matrix, and tell in changelog.d/.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
