"""Compressors: both ways, damaged data, bombs."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.builtin import compression
from caraway.builtin.compression import (
    Bz2Compressor,
    GzipCompressor,
    LzmaCompressor,
    ZlibCompressor,
)
from caraway.errors import DecodeError
from caraway.interfaces import Compressor

ALL = [ZlibCompressor(), GzipCompressor(), Bz2Compressor(), LzmaCompressor()]
each = pytest.mark.parametrize("compressor", ALL, ids=lambda compressor: compressor.name)


@each
def test_what_it_compressed_comes_back(compressor: Compressor) -> None:
    for data in (b"", b"x", b"abc" * 10_000):
        assert compressor.decompress(compressor.compress(data)) == data


@each
def test_damaged_data_raises_decode_error(compressor: Compressor) -> None:
    good = compressor.compress(b"abc" * 1000)
    for data in (b"", b"nonsense", good[: len(good) // 2], b"\x00" * 100):
        with pytest.raises(DecodeError):
            compressor.decompress(data)


@each
def test_more_than_the_limit_is_refused(
    compressor: Compressor, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = compressor.compress(b"x" * 50_000)
    bomb = compressor.compress(b"x" * 50_001)
    if compressor.name != "lzma":  # its limit is on memory, too
        monkeypatch.setattr(compression, "MAX_SIZE", 50_000)
        assert len(compressor.decompress(exact)) == 50_000
        with pytest.raises(DecodeError, match="more than 50000"):
            compressor.decompress(bomb)
    else:
        monkeypatch.setattr(compression, "MAX_SIZE", 10_000_000)
        with pytest.raises(DecodeError, match="more than 10000000"):
            compressor.decompress(compressor.compress(b"x" * 10_000_001))


@given(st.binary())
def test_any_bytes_either_decompress_or_raise_decode_error(data: bytes) -> None:
    for compressor in ALL:
        try:
            compressor.decompress(data)
        except DecodeError:
            pass


def test_zlib_reads_what_the_standard_tools_write() -> None:
    assert ZlibCompressor().decompress(zlib.compress(b"a")) == b"a"
    assert GzipCompressor().decompress(gzip.compress(b"a")) == b"a"


def test_names_and_content_types_are_celerys() -> None:
    assert {(c.name, c.content_type) for c in ALL} == {
        ("zlib", "application/x-gzip"),
        ("gzip", "application/x-gzip"),
        ("bz2", "application/x-bz2"),
        ("lzma", "application/x-lzma"),
    }
