"""What a plugin imports: entries, capabilities and the hook marker; nothing heavy.

A plugin module holds hooks and nothing else::

    from caraway.plugins import SerializerEntry, hookimpl

    @hookimpl
    def caraway_register_serializers():
        return [
            SerializerEntry(
                name="msgpack",
                content_type="application/x-msgpack",
                content_encoding="binary",
                factory="caraway_msgpack.serializer:MsgpackSerializer",
            )
        ]

What each hook is for stands in `caraway.plugins.specs`; read that first.  Public here:
the names below.  Not public: every other module of this package, `specs` apart.
"""

from __future__ import annotations

from caraway.interfaces.context import Capability
from caraway.plugins.entries import (
    BackendEntry,
    CommandEntry,
    CompressorEntry,
    Entry,
    IntegrationEntry,
    MiddlewareEntry,
    Option,
    PoolEntry,
    ScheduleEntry,
    SerializerEntry,
    TransportEntry,
)
from caraway.plugins.markers import hookimpl

__all__ = [
    "BackendEntry",
    "Capability",
    "CommandEntry",
    "CompressorEntry",
    "Entry",
    "IntegrationEntry",
    "MiddlewareEntry",
    "Option",
    "PoolEntry",
    "ScheduleEntry",
    "SerializerEntry",
    "TransportEntry",
    "hookimpl",
]
