"""Contracts of serializers and compressors: pure functions over bytes, thread-safe."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar


class Serializer(ABC):
    """Turns values into bytes and back.

    Attributes:
        name: what settings call it, e.g. ``json``.
        content_type: written to the message, e.g. ``application/json``.
        content_encoding: ``utf-8`` for text, else ``binary``.
        safe: False if loading hostile bytes can run code (pickle): such a one is
            only accepted where ``accept_content`` names it.
    """

    name: ClassVar[str]
    content_type: ClassVar[str]
    content_encoding: ClassVar[str] = "utf-8"
    safe: ClassVar[bool] = True

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Serialize.

        Raises:
            EncodeError: says which type it can't write; nothing else is raised,
                except `RecursionError` and `MemoryError`.
        """

    @abstractmethod
    def loads(self, data: bytes) -> Any:
        """Read back what `dumps` wrote.

        Raises:
            DecodeError: for any bytes that aren't such; nothing else is raised.
        """


class Compressor(ABC):
    """Makes bytes smaller and restores them.

    Attributes:
        name: what settings call it, e.g. ``zlib``.
        content_type: written to the header ``compression``.
    """

    name: ClassVar[str]
    content_type: ClassVar[str]

    @abstractmethod
    def compress(self, data: bytes) -> bytes:
        """Compress."""

    @abstractmethod
    def decompress(self, data: bytes) -> bytes:
        """Restore.

        Raises:
            DecodeError: for bytes that `compress` didn't write.
        """
