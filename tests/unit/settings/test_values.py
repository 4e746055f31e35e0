from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.settings import values


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        ("30", 30.0),
        ("0.25", 0.25),
        ("250ms", 0.25),
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5h", 5400.0),
        ("2D", 172800.0),
        ("1w", 604800.0),
        (timedelta(minutes=2), 120.0),
    ],
)
def test_a_duration_is_read_as_seconds(written: Any, expected: float) -> None:
    assert values.seconds(written) == pytest.approx(expected)


@pytest.mark.parametrize(
    "written",
    ["", "5x", "m", "5m3", "-1", -1, float("nan"), "nan", "inf", float("inf"), True, None, [],
     "1h-2m", "٣s", timedelta(seconds=-1)],
)  # fmt: skip
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="duration"):
        values.seconds(written)


@given(st.text())
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        result = values.seconds(text)
    except ValueError:
        return
    assert result >= 0


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (values.BOOL, "yes", True),
        (values.BOOL, "OFF", False),
        (values.BOOL, "", False),
        (values.INT, "1_000", 1000),
        (values.optional(values.INT), "none", None),
        (values.optional(values.INT), "", None),
        (values.NAMES, "a, b,,c", ("a", "b", "c")),
        (values.NAMES, '["a", "b"]', ("a", "b")),
        (values.TABLE, '{"a": {"b": 1}}', {"a": {"b": 1}}),
        (values.ANY, "[1, 2]", [1, 2]),
        (values.ANY, "plain", "plain"),
        (values.AUTOSCALE, "10,3", (10, 3)),
        (values.AUTOSCALE, "10", (10, 0)),
        (values.RATE, "10/m", "10/m"),
        (values.DELIVERY_MODE, "persistent", 2),
        (values.DELIVERY_MODE, "1", 1),
    ],
)
def test_text_is_read_as_its_kind(kind: values.Kind[Any], text: str, expected: Any) -> None:
    assert kind.read(text) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (values.BOOL, 1),
        (values.BOOL, "yes"),
        (values.INT, True),
        (values.INT, 1.0),
        (values.POSITIVE, 0),
        (values.integer(0, 9), 10),
        (values.number(0), float("nan")),
        (values.STR, 1),
        (values.NAMES, "abc"),
        (values.NAMES, [1]),
        (values.ITEMS, {"a"}),
        (values.TABLE, [("a", 1)]),
        (values.TABLE, {1: 2}),
        (values.AUTOSCALE, (3, 10)),
        (values.AUTOSCALE, (1, 2, 3)),
        (values.AUTOSCALE, ()),
        (values.RATE, "10/x"),
        (values.RATE, "many"),
        (values.RATE, -1),
        (values.DELIVERY_MODE, 3),
        (values.DELIVERY_MODE, []),
        (values.choice("a", "b"), "c"),
    ],
)
def test_a_value_of_another_kind_is_refused(kind: values.Kind[Any], value: Any) -> None:
    with pytest.raises(ValueError, match=r"wants|must be"):
        kind.check(value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@host:6379/0",
        "redis://:hunter2@host/0",
        "amqp://u:p@hunter2@host//",
        "amqp://u:a/hunter2@host//",
        "sentinel://h1;redis://u:hunter2@h2/0",
        "sqs://?secret_access_key=hunter2&region=x",
        "db+postgresql://u:hunter2@h/d?sslpassword=hunter2",
    ],
)
def test_a_password_in_a_url_is_never_shown(url: str) -> None:
    shown = values.redact(url)
    assert "hunter2" not in shown
    assert shown != url


def test_secrets_in_tables_are_never_shown_and_the_rest_is() -> None:
    shown = values.redact({"password": "hunter2", "urls": ["redis://:hunter2@h"], "db": 3})
    assert "hunter2" not in repr(shown)
    assert shown["db"] == 3


@pytest.mark.parametrize("text", ["sqlite:///a/b@c.db", "redis://h:6379/0", "plain", "a=b"])
def test_what_holds_no_secret_is_shown_as_it_is(text: str) -> None:
    assert values.redact(text) == text
