"""What this plugin provides.  Imports `caraway.plugins` and nothing else."""

from __future__ import annotations

from caraway.plugins import Option, TransportEntry, hookimpl


@hookimpl
def caraway_register_transports() -> list[TransportEntry]:
    return [
        TransportEntry(
            name="shelf",
            schemes=("shelf",),
            factory="caraway_shelf.transport:ShelfTransport",
            summary="messages in memory, an example",
            # driver="shelf-client",     # the distribution of the client library
            # capabilities=frozenset({Capability.PRIORITY}),    # same as on the class
            options=(
                Option("capacity", "int", 1_000_000, "How many messages there is room for."),
            ),
        )
    ]
