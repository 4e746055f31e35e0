"""The documentation names every option, key and right."""

from __future__ import annotations

import re
from pathlib import Path

from caraway_redis.keys import Keys
from caraway_redis.options import IGNORED, Options

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "redis.md").read_text()
FORMAT = (ROOT / "docs" / "reference" / "wire-format.md").read_text()


def test_every_option_has_its_row_and_no_row_is_of_another() -> None:
    table = PAGE.partition("## Options")[2].partition("Taken, so that")[0]
    rows = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(Options.__struct_fields__)
    silent = PAGE.partition("Taken, so that")[2].partition("### ")[0]
    assert set(re.findall(r"`(\w+)`", silent)) >= IGNORED


def test_every_key_is_described() -> None:
    keys = Keys(Options())
    tables = PAGE.partition("## Keys")[2] + FORMAT.partition("## Redis")[2]
    described = re.findall(r"`([^`]+)`", tables)
    begins = {text.partition("<")[0] for text in described}
    for name in vars(keys).values():
        # What exists for a millisecond isn't worth a row.
        if name in ("", keys.sep, keys.bell, keys.ping):
            continue
        assert name in begins, name


def test_the_rights_of_the_documentation_are_those_that_are_tested() -> None:
    tested = re.search(
        r"RIGHTS = \((.*?)\n\)", (Path(__file__).parent / "test_faults.py").read_text(), re.DOTALL
    )
    assert tested is not None
    rights = "".join(re.findall(r'"(.*?)"', tested[1]))
    assert f"~* &* {rights}\n" in PAGE
