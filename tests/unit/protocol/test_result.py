"""Records of results, and exceptions as data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from caraway import errors, states
from caraway.builtin.json import JsonSerializer
from caraway.errors import DecodeError, SecurityError
from caraway.protocol import result as codec
from caraway.protocol.codec import success_encoder

VECTORS = json.loads(
    (Path(__file__).parents[2] / "interop" / "vectors" / "celery-metas.json").read_text()
)
SERIALIZER = JsonSerializer()


class Custom(Exception):
    """An exception with a constructor of its own."""

    def __init__(self, first: int, *, needed: str) -> None:
        super().__init__(first, needed)


class Outer:
    class Inner(Exception):
        pass


# -- records ---------------------------------------------------------------------------


def test_the_fast_way_writes_what_the_long_one_does() -> None:
    encode = success_encoder(SERIALIZER, clock=lambda: 1_700_000_000.25)

    fast = encode("id-1", {"a": [1, "x"]})

    assert SERIALIZER.loads(fast) == SERIALIZER.loads(
        codec.encode_meta(
            SERIALIZER, "id-1", states.SUCCESS, {"a": [1, "x"]}, done=1_700_000_000.25
        )
    )


def test_the_date_of_the_fast_way_follows_the_clock() -> None:
    times = iter([10.0, 10.999999, 11.5])
    encode = success_encoder(SERIALIZER, clock=lambda: next(times))

    dates = [SERIALIZER.loads(encode("i", None))["date_done"] for _ in range(3)]

    assert dates == [
        "1970-01-01T00:00:10.000000+00:00",
        "1970-01-01T00:00:10.999999+00:00",
        "1970-01-01T00:00:11.500000+00:00",
    ]


def test_an_id_with_quotes_stays_one_text() -> None:
    encode = success_encoder(SERIALIZER)

    assert SERIALIZER.loads(encode('a"b\n', 1))["task_id"] == 'a"b\n'


@pytest.mark.parametrize("text", VECTORS, ids=lambda text: json.loads(text)["status"])
def test_celerys_records_are_read(text: str) -> None:
    meta = codec.decode_meta(SERIALIZER, text.encode())

    ours = codec.encode_meta(SERIALIZER, meta["task_id"], meta["status"], meta["result"])
    written = SERIALIZER.loads(ours)

    assert written.keys() == meta.keys()
    assert (written["date_done"] is None) == (meta["date_done"] is None)
    if meta["status"] in states.EXCEPTION_STATES:
        exc = codec.decode_exception(meta["result"])
        if meta["task_id"] != "t4":  # a class of the script that made the vector
            again = codec.encode_exception(exc)
            assert again == meta["result"]


@pytest.mark.parametrize("data", [b"1", b"[]", b"{}", b'{"status":1}', b"\xff"])
def test_what_is_no_record_raises_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        codec.decode_meta(SERIALIZER, data)


# -- exceptions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "exc", [ValueError("x", 1), KeyError("k"), Outer.Inner("in"), errors.TaskRevokedError("gone")]
)
def test_an_exception_comes_back_as_its_own_class(
    exc: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())

    back = codec.decode_exception(json.loads(json.dumps(codec.encode_exception(exc))))

    assert type(back) is type(exc)
    assert back.args == exc.args


def _this_module() -> Any:
    from types import ModuleType

    module = ModuleType(__name__)
    module.__dict__.update(globals())
    return module


def test_a_class_that_is_not_loaded_here_is_made_up() -> None:
    back = codec.decode_exception(
        {"exc_type": "Lost", "exc_message": ["a", 1], "exc_module": "nowhere.at.all"}
    )

    assert type(back).__name__ == "Lost"
    assert type(back).__module__ == "nowhere.at.all"
    assert isinstance(back, Exception)
    assert back.args == ("a", 1)
    assert "nowhere" not in sys.modules


def test_nothing_but_exceptions_is_built() -> None:
    with pytest.raises(SecurityError):
        codec.decode_exception({"exc_type": "system", "exc_message": ["true"], "exc_module": "os"})


@pytest.mark.parametrize("record", [None, 1, "text", [], {}, {"exc_type": 3}])
def test_what_is_no_exception_record_raises_decode_error(record: object) -> None:
    with pytest.raises(DecodeError):
        codec.decode_exception(record)


@pytest.mark.parametrize(
    "record",
    [
        {"exc_type": "", "exc_module": ""},
        {"exc_type": "...", "exc_module": "builtins"},
        {"exc_type": "x" * 10_000, "exc_module": None},
        {"exc_type": "UnicodeDecodeError", "exc_message": ["few"], "exc_module": "builtins"},
        {"exc_type": "ValueError", "exc_message": {"a": 1}, "exc_module": "builtins"},
    ],
)
def test_odd_records_still_give_an_exception(record: dict[str, Any]) -> None:
    assert isinstance(codec.decode_exception(record), BaseException)


def test_a_constructor_with_a_signature_of_its_own_is_passed_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())

    back = codec.decode_exception(codec.encode_exception(Custom(1, needed="n")))

    assert isinstance(back, Custom)
    assert back.args == (1, "n")


def test_arguments_that_json_cannot_hold_travel_as_their_text() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    record = codec.encode_exception(ValueError({1: object}, Broken(), [[[[[1]]]]]))

    assert record["exc_message"][0] == {"1": "<class 'object'>"}
    assert record["exc_message"][1] == "<Broken>"
    SERIALIZER.dumps(record)


def test_our_errors_travel_under_the_names_that_celery_knows() -> None:
    def module(exc: BaseException) -> str:
        return str(codec.encode_exception(exc)["exc_module"])

    assert module(errors.WorkerLostError()) == "billiard.exceptions"
    assert module(errors.MaxRetriesExceededError()) == "celery.exceptions"
    assert module(errors.EncodeError()) == "kombu.exceptions"
    assert module(errors.StoreFull()) == "caraway.errors"
