"""The serializer keeps the contract of serializers."""

from __future__ import annotations

from typing import Any, ClassVar

from caraway.testing.conformance import SerializerSuite


class TestMsgpackSerializer(SerializerSuite):
    factory = "caraway_msgpack.serializer:MsgpackSerializer"
    values: ClassVar[tuple[Any, ...]] = (b"", b"\x00\xff", {1: "one", b"k": 2}, 2**64 - 1)
