"""Write (or with ``--check`` compare) docs/reference/hooks.md, from the hook specifications."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from caraway.plugins import specs

ROOT = Path(__file__).parents[2]
TARGET = ROOT / "docs/reference/hooks.md"

HEAD = """\
# Hooks

<!-- Generated from caraway.plugins.specs by core/tools/hooks_doc.py.  Do not edit. -->

A plugin implements some of these, as functions marked with `caraway.plugins.hookimpl`. How
to write one is told in [Writing plugins](../plugin-authors/index.md).

"""


def hooks() -> dict[str, Any]:
    """The specified functions by name, in the order they are written in."""
    return {name: f for name, f in vars(specs).items() if name.startswith("caraway_")}


def signature(name: str, function: Any) -> str:
    """``caraway_child_start(worker, index)``."""
    return f"{name}({', '.join(inspect.signature(function).parameters)})"


def rules() -> str:
    """The rules for all hooks, from the module's docstring."""
    text = inspect.cleandoc(specs.__doc__ or "")
    start = text.index("Rules for all hooks:")
    return _markdown(text[start : text.index("\n\nOnly types are imported")])


def page() -> str:
    out = [HEAD, rules(), "\n"]
    groups = {"Registration": "caraway_register_", "Life-cycle": "caraway_"}
    seen: set[str] = set()
    for title, prefix in groups.items():
        out.append(f"\n## {title}\n")
        for name, function in hooks().items():
            if not name.startswith(prefix) or name in seen:
                continue
            seen.add(name)
            out.append(f"\n### `{signature(name, function)}`\n\n")
            out.append(_markdown(inspect.getdoc(function) or "") + "\n")
            returns = str(function.__annotations__["return"])
            if returns != "None":
                out.append(f"\nReturns: `{returns}`.\n")
    return "".join(out)


def _markdown(text: str) -> str:
    text = re.sub(r"``(.+?)``", r"`\1`", text)
    text = text.replace("`caraway.Caraway`", "`Caraway`")

    def arguments(match: re.Match[str]) -> str:
        lines = re.findall(r"^    (\w+): (.+)$", match[1], re.MULTILINE)
        return "".join(f"- `{name}`: {what}\n" for name, what in lines).rstrip()

    return re.sub(r"Args:\n((?:    .+\n?)+)", arguments, text)


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" in arguments:
        if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
            print("docs/reference/hooks.md is stale: run nox -s matrix", file=sys.stderr)
            return 1
        return 0
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
