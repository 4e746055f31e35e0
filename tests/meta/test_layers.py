"""What the layer contracts in pyproject.toml can't say."""

from __future__ import annotations

import re
from pathlib import Path

LIMIT = 400
"""Lines a file may have, unless it stands below with its reason."""

_SUITE = "a suite is one class to inherit from, with a test per sentence of its contract"
LONGER: dict[str, tuple[int, str]] = {
    "testing/conformance/pool.py": (450, _SUITE),
}
"""File -> lines it may have at most, and why it isn't split.  Only ever shrink these."""


def sources(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "_template" not in path.parts)


def test_hooks_are_called_in_one_place_only(package: Path) -> None:
    calls = re.compile(r"\.hook\.")

    callers = [
        str(path.relative_to(package))
        for path in sources(package)
        if calls.search(path.read_text()) and path.parent != package / "plugins"
    ]

    assert callers == []


def test_no_file_grows_beyond_what_one_can_read_at_a_sitting(package: Path) -> None:
    lengths = {
        str(path.relative_to(package)): len(path.read_text().splitlines())
        for path in sources(package)
    }

    too_long = {
        name: lines for name, lines in lengths.items() if lines > LONGER.get(name, (LIMIT, ""))[0]
    }
    stale = [
        name for name, (most, _) in LONGER.items() if lengths.get(name, 0) <= min(most - 50, LIMIT)
    ]

    assert too_long == {}
    assert stale == [], "these got shorter: tighten or drop their line in LONGER"


def test_no_module_has_a_name_that_says_nothing(package: Path) -> None:
    empty = {"utils", "util", "common", "helpers", "misc", "base", "manager"}

    named = [path for path in sources(package) if path.stem in empty]

    assert named == [] or [p.name for p in named] == ["manager.py"]
    assert all(path.parent == package / "plugins" for path in named)


def test_every_module_says_what_it_is_for(package: Path) -> None:
    silent = [
        str(path.relative_to(package))
        for path in sources(package)
        if path.read_text().strip() and not path.read_text().lstrip().startswith(('"""', 'r"""'))
    ]

    assert silent == []
