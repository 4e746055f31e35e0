"""JSON exactly as kombu writes and reads it."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.builtin import json as codec
from caraway.errors import DecodeError, EncodeError

VECTORS = json.loads(
    (Path(__file__).parents[2] / "interop" / "vectors" / "kombu-json.json").read_text()
)
NAMES = {"datetime": datetime, "decimal": decimal, "uuid": uuid, "float": float}

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
special = (
    st.datetimes(timezones=st.none() | st.just(datetime.UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.binary()
)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["value"])
def test_it_writes_what_kombu_writes(vector: dict[str, str]) -> None:
    value = eval(vector["value"], dict(NAMES))

    written = codec.dumps(value)

    assert json.loads(written) == json.loads(vector["json"])


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["value"])
def test_it_reads_what_kombu_wrote(vector: dict[str, str]) -> None:
    value = eval(vector["value"], dict(NAMES))

    read = codec.loads(vector["json"].encode())

    if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
        assert list(read.values()) == list(value.values())  # keys become text, as in kombu
    else:
        assert read == value
        assert type(read) is type(value)


@given(plain)
def test_plain_values_come_back_as_the_standard_library_would_give_them(value: Any) -> None:
    assert codec.loads(codec.dumps(value)) == json.loads(json.dumps(value))


@given(st.lists(plain | special))
def test_special_values_come_back(values: list[Any]) -> None:
    back = codec.loads(codec.dumps(values))

    assert back == json.loads(json.dumps(values, default=codec._encode_special),
                              object_hook=codec._decode_special)  # fmt: skip
    for value, same in zip(values, back, strict=True):
        if isinstance(value, (datetime.date, datetime.time, uuid.UUID, bytes)):
            assert same == value


@given(st.binary())
def test_bytes_that_are_not_json_raise_decode_error_only(data: bytes) -> None:
    try:
        codec.loads(data)
    except DecodeError:
        pass


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"\xef\xbb\xbf1",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"__type__":"nothing","__value__":1}',
        b'{"__type__":["list"],"__value__":1}',
        b'{"__type__":"datetime","__value__":"yesterday"}',
        b'{"__type__":"datetime","__value__":{}}',
        b'{"__type__":"uuid","__value__":{"hex":"x"}}',
        b'{"__type__":"uuid","__value__":{"evil":1}}',
        b'{"__type__":"base64","__value__":"%%%"}',
        b'{"__type__":"base64","__value__":7}',
        b'{"__type__":"decimal","__value__":"one"}',
        b"9" * 5_000 + b"x",
    ],
    ids=lambda data: repr(data[:30]),
)
def test_hostile_bytes_raise_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.loads(data)


@pytest.mark.parametrize("value", [object(), {1, 2}, 1j, bytearray(b"x"), [object()], {"a": {1}}])
def test_what_json_cannot_hold_raises_encode_error_with_its_type(value: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        codec.dumps(value)

    assert caught.value.hint


def test_a_cycle_raises_encode_error() -> None:
    value: list[Any] = []
    value.append(value)

    with pytest.raises((EncodeError, RecursionError)):
        codec.dumps(value)


def test_not_a_number_is_written_as_celery_writes_it() -> None:
    assert codec.dumps([math.nan, math.inf]) == b"[NaN, Infinity]"
    assert math.isnan(codec.loads(b"NaN"))


def test_enums_travel_as_their_values() -> None:
    class Colour(str, enum.Enum):
        RED = "red"

    class Number(enum.IntEnum):
        ONE = 1

    assert codec.loads(codec.dumps([Colour.RED, Number.ONE])) == ["red", 1]


def test_lone_surrogates_survive() -> None:
    assert codec.loads(codec.dumps("\ud800")) == "\ud800"


def test_a_class_may_say_itself_how_it_travels() -> None:
    class Money:
        def __json__(self) -> dict[str, int]:
            return {"cents": 5}

    assert codec.loads(codec.dumps([Money()])) == [{"cents": 5}]


def test_an_error_inside_such_a_method_is_an_encode_error() -> None:
    class Broken:
        def __json__(self) -> Any:
            raise RuntimeError("no")

    with pytest.raises(EncodeError, match="no"):
        codec.dumps(Broken())


def test_a_registered_type_goes_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "_extra_encoders", [])
    monkeypatch.setattr(codec, "_extra_decoders", {})

    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    codec.register_type(Point, "point", lambda point: point.x, Point)

    assert codec.loads(codec.dumps([Point(3)]))[0].x == 3


def test_a_mapping_with_other_keys_beside_type_and_value_stays_a_mapping() -> None:
    value = {"__type__": "datetime", "__value__": "x", "more": 1}

    assert codec.loads(codec.dumps(value)) == value


@pytest.mark.parametrize("name", ["json"])
def test_the_serializer_says_what_it_is(name: str) -> None:
    serializer = codec.JsonSerializer()

    assert (serializer.name, serializer.content_type) == (name, "application/json")
    assert serializer.content_encoding == "utf-8"
    assert serializer.safe
