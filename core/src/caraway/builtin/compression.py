"""Compressors of the standard library, under Celery's names and content types.

Each refuses to inflate more than `MAX_SIZE` bytes: a message of a few kilobytes must not
be able to fill a worker's memory.
"""

from __future__ import annotations

from typing import Any, ClassVar

from caraway.errors import DecodeError
from caraway.interfaces.serializer import Compressor

MAX_SIZE = 1 << 30
"""Largest result of a decompression, in bytes (1 GiB)."""


class ZlibCompressor(Compressor):
    """``zlib``, also called ``gzip``: zlib's format, under the name Celery gave it."""

    name: ClassVar[str] = "zlib"
    content_type: ClassVar[str] = "application/x-gzip"

    def compress(self, data: bytes) -> bytes:
        import zlib

        return zlib.compress(data)

    def decompress(self, data: bytes) -> bytes:
        import zlib

        # 32 accepts the headers of both zlib and gzip
        return _inflate(zlib.decompressobj(zlib.MAX_WBITS | 32), data, zlib.error)


class GzipCompressor(ZlibCompressor):
    """The same under its other name."""

    name: ClassVar[str] = "gzip"


class Bz2Compressor(Compressor):
    """``bz2``."""

    name: ClassVar[str] = "bz2"
    content_type: ClassVar[str] = "application/x-bz2"

    def compress(self, data: bytes) -> bytes:
        import bz2

        return bz2.compress(data)

    def decompress(self, data: bytes) -> bytes:
        import bz2

        return _inflate(bz2.BZ2Decompressor(), data, OSError)


class LzmaCompressor(Compressor):
    """``lzma``."""

    name: ClassVar[str] = "lzma"
    content_type: ClassVar[str] = "application/x-lzma"

    def compress(self, data: bytes) -> bytes:
        import lzma

        return lzma.compress(data)

    def decompress(self, data: bytes) -> bytes:
        import lzma

        return _inflate(
            lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_SIZE), data, lzma.LZMAError
        )


def _inflate(decompressor: Any, data: bytes, error: type[Exception]) -> bytes:
    try:
        # one more than allowed tells "exactly the limit" from "cut off at the limit"
        result: bytes = decompressor.decompress(data, MAX_SIZE + 1)
    except (error, EOFError, ValueError) as exc:
        raise DecodeError(f"damaged compressed data: {exc}") from exc
    if len(result) > MAX_SIZE:
        raise DecodeError(f"compressed data holds more than {MAX_SIZE} bytes")
    if not decompressor.eof:
        raise DecodeError("compressed data is cut off")
    return result
