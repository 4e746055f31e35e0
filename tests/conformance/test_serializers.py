"""The built-in serializer and compressors keep their contracts."""

from __future__ import annotations

from caraway.testing.conformance import CompressorSuite, SerializerSuite


class TestJson(SerializerSuite):
    factory = "caraway.builtin.json:JsonSerializer"


class TestZlib(CompressorSuite):
    factory = "caraway.builtin.compression:ZlibCompressor"


class TestGzip(CompressorSuite):
    factory = "caraway.builtin.compression:GzipCompressor"


class TestBz2(CompressorSuite):
    factory = "caraway.builtin.compression:Bz2Compressor"


class TestLzma(CompressorSuite):
    factory = "caraway.builtin.compression:LzmaCompressor"
