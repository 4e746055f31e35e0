"""The suites of serializers and compressors.

::

    from caraway.testing.conformance import SerializerSuite


    class TestShelfSerializer(SerializerSuite):
        factory = "caraway_shelf.serializer:ShelfSerializer"

The factory is called without arguments.  Each sentence of
`caraway.interfaces.serializer` has a test here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from caraway.errors import DecodeError, EncodeError
from caraway.interfaces.context import Context
from caraway.interfaces.serializer import Compressor, Serializer
from caraway.testing.conformance.suite import Suite, load, raises, skip

PLAIN: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    2**31,
    2**53,
    -(2**63),
    2**63 - 1,
    0.5,
    -1e300,
    5e-324,
    "",
    "text",
    "Ünïcödé 名前 \U0001f33f",
    'quotes " \\ / \b\f\n\r\t\x01',
    [],
    {},
    [1, [2, [3, [None]]]],
    {"a": {"b": {"c": [1.5, "x", None, True]}}},
    {"": 0, "ключ": [], "__type__": "mine"},
    [[], {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
    list(range(1000)),
    "x" * 100_000,
)


class _Thing:
    """Something that no serializer of plain values knows."""


class _Plain(Suite):
    def make(self, tmp_path: Path) -> Callable[[Context], Any]:  # noqa: ARG002 - nothing is stored
        factory = load(self.plain("factory"))
        return lambda _context: factory()


class SerializerSuite(_Plain):
    """All duties of a serializer.

    Attributes:
        values: what must come back equal, besides the plain ones.
        unwritable: something that it can't write; None if there is no such thing.
    """

    kind = "serializer"
    values: ClassVar[tuple[Any, ...]] = ()
    unwritable: ClassVar[Any] = _Thing()

    @property
    def serializer(self) -> Serializer:
        """The one that is tested."""
        found: Serializer = self.subject
        return found

    def test_it_says_what_it_is(self) -> None:
        assert isinstance(self.serializer, Serializer)
        assert self.serializer.name
        kind, slash, subtype = self.serializer.content_type.partition("/")
        assert kind
        assert slash
        assert subtype
        assert self.serializer.content_encoding in ("utf-8", "binary")

    def test_plain_values_come_back_equal(self) -> None:
        for value in (*PLAIN, *self.values):
            data = self.serializer.dumps(value)
            assert type(data) is bytes
            back = self.serializer.loads(data)
            assert back == value
            assert type(back) is type(value)

    def test_tuples_come_back_as_sequences(self) -> None:
        assert list(self.serializer.loads(self.serializer.dumps((1, (2, 3))))) in (
            [1, [2, 3]],
            [1, (2, 3)],
        )

    def test_text_is_what_its_encoding_says(self) -> None:
        if self.serializer.content_encoding != "utf-8":
            raise skip("binary")
        for value in PLAIN:
            self.serializer.dumps(value).decode("utf-8")

    def test_what_can_not_be_written_is_an_encode_error_that_says_what(self) -> None:
        if self.unwritable is None:
            raise skip("writes everything")
        for value in (self.unwritable, [self.unwritable], {"deep": [{"x": self.unwritable}]}):
            with raises(EncodeError) as caught:
                self.serializer.dumps(value)
            assert type(self.unwritable).__name__ in str(caught[0])

    def test_odd_values_are_written_or_refused_properly(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        deep: Any = None
        for _ in range(100_000):
            deep = [deep]
        odd = (
            loop, deep, 2**2000, float("nan"), math.inf, "\ud800", {1: "int key"}, {(1, 2): 3},
            {None: 1}, {1, 2}, b"\xff", object, len, type(None), Ellipsis,
        )  # fmt: skip
        for value in odd:
            try:
                data = self.serializer.dumps(value)
            except (EncodeError, RecursionError, MemoryError):
                continue
            assert type(data) is bytes
        # Taken apart by hand: letting go of it at once would recurse as deep.
        while deep:
            deep = deep.pop()

    def test_hostile_bytes_are_decode_errors(self) -> None:
        if not self.serializer.safe:
            raise skip("hostile bytes may run code: only trusted ones are loaded")
        good = self.serializer.dumps([[1, "two"], {"three": [4.5, None]}, {"x": "y" * 50}])
        source = random.Random(20251)  # noqa: S311 - reproducible noise
        noise = [source.randbytes(source.randrange(60)) for _ in range(1500)]
        cut = [good[:length] for length in range(len(good))]
        flipped = []
        for _ in range(1500):
            changed = bytearray(good)
            changed[source.randrange(len(changed))] = source.randrange(256)
            flipped.append(bytes(changed))
        nested = [b"[" * 100_000, b'{"a":' * 50_000, b"[" * 500 + b"]" * 500, b"\x91" * 100_000]
        named = [b'{"__type__": "datetime", "__value__": 7}', b'{"__type__": [], "__value__": {}}']
        for data in (b"", b"\x00", b"\xff\xfe", *noise, *cut, *flipped, *nested, *named):
            try:
                self.serializer.loads(data)
            except DecodeError:
                continue
            except BaseException as exc:
                raise AssertionError(
                    f"loads raised {type(exc).__name__} instead of DecodeError "
                    f"for {data[:60]!r}: {exc}"
                ) from exc

    def test_cut_bytes_do_not_load_as_the_whole(self) -> None:
        if not self.serializer.safe:
            raise skip("hostile bytes may run code: only trusted ones are loaded")
        value = [["argument"], {"key": "value"}]
        good = self.serializer.dumps(value)
        for length in range(len(good)):
            try:
                assert self.serializer.loads(good[:length]) != value
            except DecodeError:
                continue

    def test_threads_may_share_one(self) -> None:
        def work(index: int) -> None:
            for number in range(200):
                value = {"thread": index, "numbers": [number] * 20}
                assert self.serializer.loads(self.serializer.dumps(value)) == value

        self.serializer.dumps(None)
        self.at_once(work, 8)

    def test_dumping_changes_nothing_in_the_value(self) -> None:
        value = {"list": [1, {"a": "b"}], "text": "x"}
        self.serializer.dumps(value)
        assert value == {"list": [1, {"a": "b"}], "text": "x"}


class CompressorSuite(_Plain):
    """All duties of a compressor."""

    kind = "compressor"

    @property
    def compressor(self) -> Compressor:
        """The one that is tested."""
        found: Compressor = self.subject
        return found

    def test_it_says_what_it_is(self) -> None:
        assert isinstance(self.compressor, Compressor)
        assert self.compressor.name
        assert "/" in self.compressor.content_type

    def test_bytes_are_restored(self) -> None:
        source = random.Random(20252)  # noqa: S311 - reproducible noise
        for data in (b"", b"x", bytes(range(256)), b"abc" * 100_000, source.randbytes(100_000)):
            small = self.compressor.compress(data)
            assert type(small) is bytes
            assert self.compressor.decompress(small) == data

    def test_what_repeats_becomes_smaller(self) -> None:
        assert len(self.compressor.compress(b"caraway " * 10_000)) < 40_000

    def test_hostile_bytes_are_decode_errors(self) -> None:
        good = self.compressor.compress(b"some text that repeats, some text that repeats")
        source = random.Random(20253)  # noqa: S311 - reproducible noise
        noise = [source.randbytes(source.randrange(1, 60)) for _ in range(1000)]
        cut = [good[:length] for length in range(len(good) - 1)]
        for data in (b"", b"\x00", b"plain text", *noise, *cut):
            with raises(DecodeError):
                self.compressor.decompress(data)

    def test_threads_may_share_one(self) -> None:
        def work(index: int) -> None:
            for number in range(50):
                data = b"%d:%d" % (index, number) * 50
                assert self.compressor.decompress(self.compressor.compress(data)) == data

        self.compressor.compress(b"")
        self.at_once(work, 8)
