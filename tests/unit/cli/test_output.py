from __future__ import annotations

import json

import pytest

from caraway.cli import output
from caraway.message import QueueStats


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "-"),
        (0, "0ms"),
        (0.012, "12ms"),
        (1, "1s"),
        (3.44, "3.4s"),
        (310, "5m10s"),
        (7500, "2h05m"),
        (273600, "3d04h"),
        (-5, "-5s"),
    ],
)
def test_a_duration_is_short_and_readable(seconds: float | None, shown: str) -> None:
    assert output.span(seconds) == shown


def test_a_moment_says_how_far_away_it_is() -> None:
    assert output.when(1000.0, 990.0).endswith("(in 10s)")
    assert output.when(990.0, 1000.0).endswith("(10s ago)")


def test_rows_are_aligned_and_numbers_stand_to_the_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.table(["name", "#count"], [["a", 5], ["long name", None], ["c\nd", 1000]])
    assert capsys.readouterr().out.splitlines() == [
        "name       count",
        "a              5",
        "long name      -",
        "c d         1000",
    ]


def test_no_rows_are_said_to_be_none(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["name"], [], empty="no queues")
    assert capsys.readouterr().out == "no queues\n"


def test_json_takes_structs_bytes_and_sets(capsys: pytest.CaptureFixture[str]) -> None:
    output.emit_json([QueueStats(name="q", ready=1), {"b": b"\xffx", "s": {"b", "a"}}])
    first, second = json.loads(capsys.readouterr().out)
    assert first["name"] == "q"
    assert first["oldest"] is None
    assert second["s"] == ["a", "b"]
    assert second["b"].endswith("x")
