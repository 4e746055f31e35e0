"""What this plugin provides.  Imports `caraway.plugins` and nothing else."""

from __future__ import annotations

from caraway.plugins import Capability, PoolEntry, hookimpl


@hookimpl
def caraway_register_pools() -> list[PoolEntry]:
    return [
        PoolEntry(
            name="shelf",
            factory="caraway_shelf.pool:ShelfPool",
            summary="threads and one event loop",
            capabilities=frozenset({Capability.CONCURRENT}),  # same as on the class
            # preload="caraway_shelf.patch:patch",    # run before anything is imported
        )
    ]
