"""What a plugin imports: entries, capabilities and the hook marker; nothing heavy.

A plugin module holds hooks and nothing else::

    from caraway.plugins import Capability, SerializerEntry, hookimpl

    @hookimpl
    def caraway_register_serializers():
        return [SerializerEntry(name="msgpack", ...)]
"""
