"""Write (or with ``--check`` compare) what is generated from extras-matrix.toml.

Generated: the extras of core/pyproject.toml, core/src/caraway/plugins/known.py,
docs/reference/bundles.md, the heads of plugins' READMEs, and the template of plugins
inside the core package.
"""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

ROLES = (
    "transport", "backend", "serializer", "compressor", "pool", "schedule", "middleware",
    "integration", "command",
)  # fmt: skip
KEYS: dict[str, type] = {
    "dist": str,
    "path": str,
    "summary": str,
    "roles": dict,
    "requires": list,
    "server": str,
    "python": str,
    "platforms": list,
    "status": str,
    "since": str,
}
STATUSES = ("shipped", "planned")
BEGIN = "generated from extras-matrix.toml: begin"
END = "generated from extras-matrix.toml: end"

CLUTTER = {"__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache"}

Bundles = dict[str, dict[str, Any]]


class MatrixError(Exception):
    """The table itself is wrong."""


def read(root: Path = ROOT) -> Bundles:
    """The table, checked.

    Raises:
        MatrixError: an unknown key, a wrong type, a scheme of two bundles.
    """
    table = tomllib.loads((root / "extras-matrix.toml").read_text(encoding="utf-8"))
    if set(table) != {"bundle"}:
        raise MatrixError(f"only [bundle.*] tables belong here, not {sorted(set(table))}")
    homes: dict[tuple[str, str], str] = {}
    for name, row in table["bundle"].items():
        _check(name, row, homes)
    return dict(table["bundle"])


def _check(name: str, row: dict[str, Any], homes: dict[tuple[str, str], str]) -> None:
    unknown, missing = sorted(set(row) - set(KEYS)), sorted(set(KEYS) - set(row))
    if unknown or missing:
        raise MatrixError(f"bundle {name}: unknown keys {unknown}, missing keys {missing}")
    for key, kind in KEYS.items():
        if not isinstance(row[key], kind):
            raise MatrixError(f"bundle {name}: {key} must be a {kind.__name__}")
    if row["status"] not in STATUSES:
        raise MatrixError(f"bundle {name}: status is one of {', '.join(STATUSES)}")
    if (row["status"] == "shipped") != bool(row["since"]):
        raise MatrixError(f"bundle {name}: shipped bundles, and only those, say since when")
    if row["dist"] != f"caraway-{name}" or row["path"] != f"plugins/{name}":
        raise MatrixError(f"bundle {name}: it is caraway-{name} in plugins/{name}")
    if not row["roles"]:
        raise MatrixError(f"bundle {name}: it has no role")
    for role, keys in row["roles"].items():
        if role not in ROLES:
            raise MatrixError(f"bundle {name}: no role {role!r}; roles: {', '.join(ROLES)}")
        for key in keys:
            other = homes.setdefault((role, key), name)
            if other != name:
                raise MatrixError(f"{role} {key!r} is claimed by {other} and {name}")


def shipped(bundles: Bundles) -> Bundles:
    return {name: row for name, row in bundles.items() if row["status"] == "shipped"}


# -- what is generated -----------------------------------------------------------------


def extras(bundles: Bundles, root: Path) -> str:
    """core/pyproject.toml with its extras."""
    lines = [
        f'{name} = ["{row["dist"]}>={row["since"]}"]' for name, row in shipped(bundles).items()
    ]
    return _between(root / "core/pyproject.toml", "# ", "", "\n".join(lines))


def known(bundles: Bundles) -> str:
    """The module `caraway.plugins.known`."""
    out = [
        '"""The bundles of the project, for the error that says what to install.\n\n'
        "Generated from extras-matrix.toml by core/tools/matrix.py.  Do not edit.\n"
        '"""\n\n'
        "from __future__ import annotations\n\n"
        "from typing import Final\n\n"
        "from msgspec import Struct\n\n\n"
        "class Bundle(Struct, frozen=True):\n"
        '    """A bundle: the name of its extra, its distribution, what it provides.\n\n'
        "    Attributes:\n"
        "        name: of the extra, as in ``caraway[redis]``.\n"
        "        dist: distribution.\n"
        "        status: ``shipped`` or ``planned``.\n"
        "        summary: one line.\n"
        "        roles: schemes or names by role.\n"
        '    """\n\n'
        "    name: str\n"
        "    dist: str\n"
        "    status: str\n"
        "    summary: str\n"
        "    roles: dict[str, tuple[str, ...]]\n\n\n"
        "# fmt: off\n"
        "BUNDLES: Final[tuple[Bundle, ...]] = (\n"
    ]
    for name, row in bundles.items():
        out.append(
            f'    Bundle(\n        "{name}", "{row["dist"]}", "{row["status"]}",\n'
            f'        "{row["summary"]}",\n        {{\n'
        )
        for role, keys in row["roles"].items():
            out.append(f'            "{role}": (\n')
            out.extend(f'                "{key}",\n' for key in keys)
            out.append("            ),\n")
        out.append("        },\n    ),\n")
    out.append(")\n# fmt: on\n")
    return "".join(out)


def table(bundles: Bundles) -> str:
    """docs/reference/bundles.md."""
    out = [
        "# Bundles\n\n"
        "<!-- Generated from extras-matrix.toml by core/tools/matrix.py.  Do not edit. -->\n\n"
        "Everything that needs a library or a server of its own is a bundle: a distribution\n"
        "beside `caraway`, installed as an extra. Built in are the broker, backend and schedule\n"
        "store `sqlite` and `memory`, the serializer `json`, the compression methods of the\n"
        "standard library, and the pools `prefork`, `threads`, `asyncio` and `solo`.\n\n"
        "*Shipped* bundles can be installed. *Planned* ones are not released yet; asking for one\n"
        "is an error that says so.\n\n"
        "| bundle | what it is | provides | needs | runs on | status |\n"
        "| --- | --- | --- | --- | --- | --- |\n"
    ]
    for name, row in bundles.items():
        state = f"shipped since {row['since']}" if row["since"] else "planned"
        label = f'`pip install "caraway[{name}]"`' if row["since"] else f"`{name}`"
        needs = ", ".join(f"`{r}`" for r in row["requires"]) or "nothing"
        out.append(
            f"| {label} | {row['summary']} | {_provides(row)} | {needs} |"
            f" {', '.join(row['platforms'])} | {state} |\n"
        )
    return "".join(out)


def _provides(row: dict[str, Any]) -> str:
    return "; ".join(
        f"{role} {', '.join(f'`{key}`' for key in keys)}" for role, keys in row["roles"].items()
    )


def readme(name: str, row: dict[str, Any], root: Path) -> str:
    """A plugin's README with its head."""
    head = (
        f"# {row['dist']}\n\n{row['summary']} A bundle of Caraway.\n\n"
        f'```console\n$ pip install "caraway[{name}]"\n```\n\n'
        "| | |\n| --- | --- |\n"
        f"| provides | {_provides(row)} |\n"
        f"| needs | {', '.join(f'`{r}`' for r in row['requires']) or 'nothing else'} |\n"
        f"| Python | {row['python']} |\n"
        f"| runs on | {', '.join(row['platforms'])} |\n"
        f"| since | {row['since']} |"
    )
    return _between(root / row["path"] / "README.md", "<!-- ", " -->", head)


def template(root: Path) -> str:
    """plugins/_template as one file that the core's wheel carries."""
    home = root / "plugins/_template"
    parts: dict[str, dict[str, str]] = {}
    for path in sorted(home.rglob("*")):
        part, *rest = path.relative_to(home).parts
        if path.is_file() and rest and not CLUTTER & set(path.parts):
            parts.setdefault(part, {})["/".join(rest)] = path.read_text(encoding="utf-8")
    return json.dumps(parts, indent=1, ensure_ascii=False) + "\n"


def _between(path: Path, before: str, after: str, body: str) -> str:
    """The file with what stands between its two marks replaced."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    begin, end = f"{before}{BEGIN}{after}\n", f"{before}{END}{after}\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise MatrixError(f"{path}: it needs the two lines {begin.strip()!r} and {end.strip()!r}")
    start, stop = text.index(begin) + len(begin), text.index(end)
    return f"{text[:start]}{body}\n{text[stop:]}"


def generate(root: Path = ROOT) -> dict[Path, str]:
    """All generated files with what belongs in them."""
    bundles = read(root)
    files = {
        root / "core/pyproject.toml": extras(bundles, root),
        root / "core/src/caraway/plugins/known.py": known(bundles),
        root / "docs/reference/bundles.md": table(bundles),
        root / "core/src/caraway/cli/template.json": template(root),
    }
    for name, row in shipped(bundles).items():
        files[root / row["path"] / "README.md"] = readme(name, row, root)
    return files


def main(arguments: list[str]) -> int:
    try:
        files = generate()
    except MatrixError as exc:
        print(f"extras-matrix.toml: {exc}", file=sys.stderr)
        return 2
    stale = [
        path
        for path, text in files.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run nox -s matrix", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path], encoding="utf-8")
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
