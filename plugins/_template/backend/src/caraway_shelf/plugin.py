"""What this plugin provides.  Imports `caraway.plugins` and nothing else."""

from __future__ import annotations

from caraway.plugins import BackendEntry, Capability, Option, hookimpl


@hookimpl
def caraway_register_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="shelf",
            schemes=("shelf",),
            factory="caraway_shelf.backend:ShelfBackend",
            summary="results in memory, an example",
            # driver="shelf-client",     # the distribution of the client library
            capabilities=frozenset({Capability.PUSH}),  # same as on the class
            options=(Option("prefix", "str", "", "Put before every key."),),
        )
    ]
