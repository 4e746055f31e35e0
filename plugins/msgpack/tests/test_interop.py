"""Bytes as kombu 5.7 writes and reads them, and what MessagePack can't carry."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from caraway.errors import DecodeError, EncodeError
from caraway.plugins.registry import Registry
from caraway_msgpack.serializer import MsgpackSerializer

SERIALIZER = MsgpackSerializer()

# Each line: a value, and kombu.serialization.dumps(value, "msgpack").
VECTORS: list[tuple[Any, str]] = [
    ([[2, 3], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
     "9392020380"
     "84a963616c6c6261636b73c0a86572726261636b73c0a5636861696ec0a563686f7264c0"),
    ("é", "a2c3a9"),
    (b"\xff", "c401ff"),
    ({"a": 1.5}, "81a161cb3ff8000000000000"),
    ([None, True, False, -1, 2**63], "95c0c3c2ffcf8000000000000000"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "written"), VECTORS)
def test_the_bytes_are_those_of_celery(value: Any, written: str) -> None:
    assert SERIALIZER.dumps(value).hex() == written
    assert SERIALIZER.loads(bytes.fromhex(written)) == value


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime"),
        ({1, 2}, "set"),
        (2**64, "64 bits"),
        ("\ud800", "Unicode"),
    ],
)
def test_what_can_not_be_carried_is_named(value: Any, said: str) -> None:
    with pytest.raises(EncodeError, match=said):
        SERIALIZER.dumps(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x92\x01",
        b"\x01\x02",
        b"\xa1\xff",
        b"\x81\x90\x01",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" * 100,
        b"\x91" * 5000 + b"\xc0",
        b"\x81\x81\x01\x02\x03",
    ],
)
def test_hostile_bytes_are_decode_errors(data: bytes) -> None:
    with pytest.raises(DecodeError):
        SERIALIZER.loads(data)


def test_the_installed_plugin_provides_it_by_name_and_content_type() -> None:
    registry = Registry.discover()
    assert registry.plugin_of("serializer", "msgpack").distribution == "caraway-msgpack"
    for name in ("msgpack", "application/x-msgpack"):
        assert type(registry.serializer(name)) is MsgpackSerializer
    assert registry.content_types(["msgpack"]) == {"application/x-msgpack"}
