"""From text to typed options."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.plugins import Option
from caraway.plugins.options import convert, parse_duration, resolve_options


@pytest.mark.parametrize(
    ("kind", "given_", "wanted"),
    [
        ("int", "7", 7),
        ("int", -7, -7),
        ("float", "0.5", 0.5),
        ("float", 2, 2.0),
        ("bool", "true", True),
        ("bool", "OFF", False),
        ("bool", "1", True),
        ("bool", 0, False),
        ("str", "x", "x"),
        ("duration", "90", 90.0),
        ("duration", "1.5", 1.5),
        ("duration", "500ms", 0.5),
        ("duration", "1h30m", 5400.0),
        ("duration", "1d 2h", 93600.0),
        ("duration", 3, 3.0),
        ("duration", datetime.timedelta(minutes=1), 60.0),
        ("size", "64k", 65536),
        ("size", "16MiB", 16 << 20),
        ("size", "16 MB", 16 << 20),
        ("size", 12, 12),
        ("list", "a, b,,c", ("a", "b", "c")),
        ("list", ["a", 1], ("a", "1")),
    ],
)
def test_a_value_gets_its_type(kind: Any, given_: Any, wanted: Any) -> None:
    result = convert(Option("x", kind), given_)
    assert result == wanted
    assert type(result) is type(wanted)


@pytest.mark.parametrize(
    ("kind", "given_"),
    [
        ("int", "7.0"),
        ("int", ""),
        ("int", True),
        ("int", 7.0),
        ("float", "nan"),
        ("float", "inf"),
        ("float", "x"),
        ("float", False),
        ("bool", "maybe"),
        ("bool", ""),
        ("str", 7),
        ("duration", "-1"),
        ("duration", "5x"),
        ("duration", "5 m m"),
        ("duration", ""),
        ("duration", "inf"),
        ("duration", "nan"),
        ("duration", None),
        ("duration", True),
        ("size", "-1"),
        ("size", -1),
        ("size", "1.5k"),
        ("size", True),
        ("list", 7),
    ],
)
def test_what_is_not_of_the_type_is_refused(kind: Any, given_: Any) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        convert(Option("x", kind), given_)


@given(st.one_of(st.text(max_size=20), st.integers(), st.floats(), st.none(), st.binary()))
def test_any_value_is_converted_or_refused(value: Any) -> None:
    for kind in ("int", "float", "bool", "str", "duration", "size", "list"):
        with contextlib.suppress(ValueError):
            convert(Option("x", kind), value)  # type: ignore[arg-type]


@given(st.floats(min_value=0, max_value=1e12))
def test_a_number_of_seconds_stays_that_number(seconds: float) -> None:
    assert parse_duration(seconds) == seconds
    assert parse_duration(repr(seconds)) == seconds


def test_an_option_set_to_none_is_not_set() -> None:
    table = (Option("limit", "int", 5), Option("name", "str"))
    values = resolve_options(table, ("settings", {"limit": None, "name": None}), what="it")
    assert values == {"limit": 5, "name": None}
