"""What this bundle provides."""

from __future__ import annotations

from caraway.plugins import SerializerEntry, hookimpl


@hookimpl
def caraway_register_serializers() -> list[SerializerEntry]:
    return [
        SerializerEntry(
            name="msgpack",
            content_type="application/x-msgpack",
            content_encoding="binary",
            factory="caraway_msgpack.serializer:MsgpackSerializer",
            summary="MessagePack: small, fast, binary",
            driver="msgpack",
        )
    ]
