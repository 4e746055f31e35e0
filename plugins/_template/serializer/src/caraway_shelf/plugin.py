"""What this plugin provides.  Imports `caraway.plugins` and nothing else."""

from __future__ import annotations

from caraway.plugins import SerializerEntry, hookimpl


@hookimpl
def caraway_register_serializers() -> list[SerializerEntry]:
    return [
        SerializerEntry(
            name="shelf",
            content_type="application/x-shelf",
            content_encoding="utf-8",
            factory="caraway_shelf.serializer:ShelfSerializer",
            summary="Python literals, as text",
        )
    ]
