"""The plugins that register what is built in.

One small plugin per component, so that each can be blocked, except those that the rest
can't do without (`caraway.plugins.selection.ESSENTIAL`).
"""

from __future__ import annotations

from typing import Final

from caraway.plugins import (
    BackendEntry,
    Capability,
    CompressorEntry,
    Option,
    PoolEntry,
    ScheduleEntry,
    SerializerEntry,
    TransportEntry,
    hookimpl,
)

_SQLITE_OPTIONS: Final = (
    Option(
        "synchronous",
        "str",
        "full",
        "How far a write must have reached the disk before it counts.",
        choices=("full", "normal", "off"),
    ),
    Option("busy_timeout", "duration", 5.0, "How long to wait for another writer.", "seconds"),
    Option(
        "poll_interval",
        "duration",
        1.0,
        "How long a waiter sleeps if nothing wakes it.",
        "seconds",
    ),
    Option("cache_size", "int", 8, "Pages that a connection may keep.", "MiB"),
    Option("mmap_size", "int", 0, "How much of the file to map for reading.", "MiB"),
    Option(
        "network",
        "str",
        "refuse",
        "Whether to take a file on a network file system, which one machine alone may open.",
        choices=("refuse", "allow"),
    ),
)


class Memory:
    """Everything in one process's memory: tests and eager scripts."""

    @hookimpl
    def caraway_register_transports(self) -> list[TransportEntry]:
        return [
            TransportEntry(
                name="memory",
                factory="caraway.builtin.memory:MemoryTransport",
                summary="in this process's memory, for tests",
                capabilities=frozenset(
                    {
                        Capability.DELAY,
                        Capability.PRIORITY,
                        Capability.EXPIRY,
                        Capability.BROADCAST,
                        Capability.DEAD_LETTERS,
                        Capability.LEASE,
                        Capability.ADOPT,
                        Capability.REVOKE,
                        Capability.INSPECT,
                        Capability.ATOMIC_COMMIT,
                    }
                ),
            )
        ]

    @hookimpl
    def caraway_register_backends(self) -> list[BackendEntry]:
        return [
            BackendEntry(
                name="memory",
                factory="caraway.builtin.memory:MemoryBackend",
                summary="in this process's memory, for tests",
                capabilities=frozenset(
                    {Capability.PUSH, Capability.TTL, Capability.GROUPS, Capability.CHORDS}
                ),
            )
        ]

    @hookimpl
    def caraway_register_schedules(self) -> list[ScheduleEntry]:
        return [
            ScheduleEntry(
                name="memory",
                factory="caraway.builtin.memory:MemoryScheduleStore",
                summary="in this process's memory, for tests",
                capabilities=frozenset({Capability.LEADER}),
            )
        ]


class Sqlite:
    """One file, many processes, no server: the default."""

    @hookimpl
    def caraway_register_transports(self) -> list[TransportEntry]:
        return [
            TransportEntry(
                name="sqlite",
                factory="caraway.builtin.sqlite:SqliteTransport",
                summary="one file, many processes, no server",
                options=_SQLITE_OPTIONS,
                capabilities=frozenset(
                    {
                        Capability.DELAY,
                        Capability.PRIORITY,
                        Capability.EXPIRY,
                        Capability.BROADCAST,
                        Capability.DEAD_LETTERS,
                        Capability.LEASE,
                        Capability.ADOPT,
                        Capability.REVOKE,
                        Capability.INSPECT,
                        Capability.PERSISTENT,
                        Capability.SHARED,
                        Capability.ATOMIC_COMMIT,
                    }
                ),
            )
        ]

    @hookimpl
    def caraway_register_backends(self) -> list[BackendEntry]:
        return [
            BackendEntry(
                name="sqlite",
                factory="caraway.builtin.sqlite:SqliteBackend",
                summary="one file, many processes, no server",
                options=_SQLITE_OPTIONS,
                capabilities=frozenset(
                    {
                        Capability.PUSH,
                        Capability.TTL,
                        Capability.GROUPS,
                        Capability.PERSISTENT,
                        Capability.SHARED,
                    }
                ),
            )
        ]

    @hookimpl
    def caraway_register_schedules(self) -> list[ScheduleEntry]:
        return [
            ScheduleEntry(
                name="sqlite",
                factory="caraway.builtin.sqlite:SqliteScheduleStore",
                summary="one file, many processes, no server",
                options=_SQLITE_OPTIONS,
                capabilities=frozenset(
                    {Capability.LEADER, Capability.PERSISTENT, Capability.SHARED}
                ),
            )
        ]


class Json:
    """JSON as Celery writes it."""

    @hookimpl
    def caraway_register_serializers(self) -> list[SerializerEntry]:
        return [
            SerializerEntry(
                name="json",
                content_type="application/json",
                content_encoding="utf-8",
                factory="caraway.builtin.json:JsonSerializer",
                summary="JSON, with dates, decimals, UUIDs and bytes as Celery writes them",
            )
        ]


class Compression:
    """What the standard library compresses with, under kombu's names."""

    @hookimpl
    def caraway_register_compressors(self) -> list[CompressorEntry]:
        return [
            CompressorEntry(
                name="zlib",
                content_type="application/x-gzip",
                aliases=("gzip",),
                factory="caraway.builtin.compression:ZlibCompressor",
                summary="zlib",
            ),
            CompressorEntry(
                name="bz2",
                content_type="application/x-bz2",
                aliases=("bzip2",),
                factory="caraway.builtin.compression:Bz2Compressor",
                summary="bzip2",
            ),
            CompressorEntry(
                name="lzma",
                content_type="application/x-lzma",
                aliases=("xz",),
                factory="caraway.builtin.compression:LzmaCompressor",
                summary="LZMA",
            ),
        ]


class Prefork:
    """Processes, one task each at a time."""

    @hookimpl
    def caraway_register_pools(self) -> list[PoolEntry]:
        return [
            PoolEntry(
                name="prefork",
                aliases=("processes",),
                factory="caraway.builtin.pools.prefork:PreforkPool",
                summary="one process for each task that runs at a time",
                capabilities=frozenset({Capability.PROCESSES}),
            )
        ]


class Threads:
    """Threads of one process."""

    @hookimpl
    def caraway_register_pools(self) -> list[PoolEntry]:
        return [
            PoolEntry(
                name="threads",
                factory="caraway.builtin.pools.threads:ThreadsPool",
                summary="threads of one process",
                capabilities=frozenset({Capability.CONCURRENT}),
            )
        ]


class Asyncio:
    """Coroutines of one process."""

    @hookimpl
    def caraway_register_pools(self) -> list[PoolEntry]:
        return [
            PoolEntry(
                name="asyncio",
                factory="caraway.builtin.pools.asyncio:AsyncioPool",
                summary="coroutines on one event loop",
                capabilities=frozenset({Capability.CONCURRENT}),
            )
        ]


class Solo:
    """The calling process, one task at a time."""

    @hookimpl
    def caraway_register_pools(self) -> list[PoolEntry]:
        return [
            PoolEntry(
                name="solo",
                factory="caraway.builtin.pools.solo:SoloPool",
                summary="in the worker's own process, one task at a time",
            )
        ]


PLUGINS: Final[dict[str, object]] = {
    "memory": Memory(),
    "sqlite": Sqlite(),
    "json": Json(),
    "compression": Compression(),
    "prefork": Prefork(),
    "threads": Threads(),
    "asyncio": Asyncio(),
    "solo": Solo(),
}
"""By name, in the order in which they are registered."""
