"""Messages of both protocols: written as Celery writes them, read whatever they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caraway.builtin.compression import ZlibCompressor
from caraway.builtin.json import JsonSerializer
from caraway.errors import CarawayError, DecodeError, InvalidTaskError, Retry, SecurityError
from caraway.message import Delivery, Message
from caraway.protocol import body as bodies
from caraway.protocol import v2
from caraway.protocol.codec import body_loader
from caraway.protocol.decode import normalize

VECTORS = json.loads(
    (Path(__file__).parents[2] / "interop" / "vectors" / "celery-messages.json").read_text()
)


class Codecs:
    """The registry, with what is built in."""

    def serializer(self, name: str) -> Any:
        assert name in ("json", "application/json")
        return JsonSerializer()

    def compressor(self, name: str) -> Any:
        if name not in ("zlib", "application/x-gzip"):
            raise DecodeError(f"no compressor {name}")
        return ZlibCompressor()


load = body_loader(Codecs(), ["json"])
read = bodies.content_loader(Codecs(), ["json"])


def message(vector: dict[str, Any]) -> Message:
    return Message(vector["body"].encode(), vector["headers"], properties=vector["properties"])


def label(vector: dict[str, Any]) -> str:
    return f"{vector['label']}-v{vector['protocol']}"


# -- reading ---------------------------------------------------------------------------


@pytest.mark.parametrize("vector", VECTORS, ids=label)
def test_celerys_messages_are_read_in_either_protocol(vector: dict[str, Any]) -> None:
    found = normalize(message(vector), read)
    args, kwargs, embed = load(found)

    assert found.headers["task"] == "shop.add"
    assert found.headers["id"] == "11111111-2222-4333-8444-555555555555"
    assert found.headers["root_id"] == found.headers["id"]
    assert (args, kwargs) == ([1, 2], {"z": 3})
    if vector["label"] == "links":
        assert [link["task"] for link in embed["callbacks"]] == ["shop.add"]
        assert embed["errbacks"][0]["immutable"] is True
    else:
        assert embed == {}
    if vector["label"] == "times":
        assert found.headers["retries"] == 2
        assert found.headers["timelimit"] == [10, 5]
        assert found.headers["eta"].startswith("2026-01-02T03:04:05")


def test_a_message_of_protocol_2_is_not_copied() -> None:
    one = message(VECTORS[0])

    assert normalize(one, read) is one


def test_a_hybrid_message_is_read_with_the_header_task_and_a_body_of_protocol_1() -> None:
    hybrid = Message(b'{"args": [7], "kwargs": {"a": 1}}', {"task": "t", "id": "i"})

    assert load(normalize(hybrid, read)) == ([7], {"a": 1}, {})


@pytest.mark.parametrize(
    "data",
    [
        b"null", b"1", b'"text"', b"[]", b"[1,2]", b"[1,2,3,4]", b"[[],[],{}]", b"[{},{},{}]",
        b'["ab",{},{}]', b"[[],null,{}]", b"[[],{},[]]", b"[[],{},1]", b'{"args":3}',
        b'{"kwargs":[]}', b"[" * 50_000, b"\xff\xfe", b"",
        b'[[],{"a":{"__type__":"no","__value__":0}},{}]',
    ],
)  # fmt: skip
def test_a_hostile_body_raises_an_error_of_ours(data: bytes) -> None:
    with pytest.raises((DecodeError, InvalidTaskError)):
        load(Message(data, {"task": "t", "id": "i"}))


@pytest.mark.parametrize(
    ("headers", "data"),
    [
        ({}, b"[[],{},{}]"),
        ({}, b'{"id":"x"}'),
        ({}, b'{"task":1,"id":"x"}'),
        ({}, b'{"task":"t","id":["x"]}'),
        ({"task": 7, "id": "x"}, b"[[],{},{}]"),
        ({"task": "t"}, b"[[],{},{}]"),
        ({"task": "t", "id": None}, b"[[],{},{}]"),
    ],
)
def test_what_is_no_task_message_says_so(headers: dict[str, Any], data: bytes) -> None:
    with pytest.raises(InvalidTaskError):
        normalize(Message(data, headers), read)


@given(st.binary(max_size=200), st.sampled_from([{}, {"task": "t", "id": "i"}]))
def test_no_bytes_raise_anything_else(data: bytes, headers: dict[str, Any]) -> None:
    try:
        load(normalize(Message(data, headers), read))
    except CarawayError:
        pass


def test_a_content_type_that_is_not_accepted_is_refused_unread() -> None:
    with pytest.raises(SecurityError, match="x-python-serialize"):
        load(Message(b"cos\nsystem\n", {}, content_type="application/x-python-serialize"))


def test_a_compressed_body_is_read() -> None:
    data = ZlibCompressor().compress(b"[[1],{},{}]")

    assert load(Message(data, {"compression": "application/x-gzip"}))[0] == [1]


@pytest.mark.parametrize("compression", ["nothing", 7, ["x"], {"a": 1}])
def test_an_unknown_compression_raises_an_error_of_ours(compression: object) -> None:
    with pytest.raises(CarawayError):
        load(Message(b"[[1],{},{}]", {"compression": compression}))


# -- writing ---------------------------------------------------------------------------


def test_the_headers_are_those_that_celery_writes() -> None:
    celerys = VECTORS[0]["headers"].keys() - {"argsrepr", "kwargsrepr"}

    ours = v2.header_template("shop.add", origin="gen1@host")

    assert ours.keys() == celerys | {"origin"}
    for name in celerys - {"id", "root_id", "task"}:
        assert ours[name] == VECTORS[0]["headers"][name], name


@given(
    st.lists(st.none() | st.integers() | st.text() | st.binary()),
    st.dictionaries(st.text(), st.none() | st.integers()),
)
def test_the_short_way_to_a_body_writes_what_the_long_one_does(
    args: list[Any], kwargs: dict[str, Any]
) -> None:
    serializer = JsonSerializer()

    short = bodies.body_encoder(serializer)(tuple(args), kwargs)

    assert serializer.loads(short) == serializer.loads(
        bodies.encode_body(serializer, args, kwargs, {})
    )
    assert load(Message(short)) == (args, kwargs, {})


# -- retrying --------------------------------------------------------------------------


class Run:
    def __init__(self) -> None:
        self.args = [1, 2]
        self.kwargs = {"z": 3}
        self.embed: dict[str, Any] = {"callbacks": [{"task": "after"}]}


def again(when: Any = None, before: dict[str, Any] | None = None, **changes: Any) -> Any:
    original = Message(
        b"as it was", {"task": "t", "id": "i", "retries": 1, **(before or {})},
        properties={"correlation_id": "i", "expiration": "10"},
    )  # fmt: skip
    delivery = Delivery(original, tag=1, queue="q", priority=3, expires=500.0)
    retry = Retry(when=when, sig=changes)
    return v2.retry_publication(delivery, Run(), retry, now=100.0, registry=Codecs())


def test_a_retry_keeps_id_body_queue_priority_and_expiry() -> None:
    found = again(when=10.0)

    assert found.message.headers["id"] == "i"
    assert found.message.headers["retries"] == 2
    assert found.message.body == b"as it was"
    assert found.message.properties["expiration"] == "10"
    assert (found.queue, found.priority, found.due, found.expires) == ("q", 3, 110.0, 500.0)
    assert found.message.headers["eta"] == "1970-01-01T00:01:50+00:00"


def test_a_retry_at_once_is_not_delayed() -> None:
    found = again(when=0)

    assert (found.due, found.message.headers["eta"]) == (0.0, None)


def test_a_retry_with_other_arguments_keeps_the_links() -> None:
    found = again(args=[9])

    assert load(found.message) == ([9], {"z": 3}, {**bodies.EMPTY_EMBED, **Run().embed})


def test_a_retry_compresses_again_what_was_compressed() -> None:
    found = again(args=[9], before={"compression": "application/x-gzip"})

    assert load(found.message)[0] == [9]
    assert not found.message.body.startswith(b"[")


def test_a_retry_may_change_its_options() -> None:
    found = again(queue="other", priority=9, expires=60, time_limit=5, headers={"k": 1}, shadow="s")

    assert (found.queue, found.priority, found.expires) == ("other", 9, 160.0)
    assert found.message.headers["timelimit"] == [5, None]
    assert found.message.headers["shadow"] == "s"
    assert found.message.headers["k"] == 1
    assert found.message.properties["expiration"] == "60000"
    assert found.message.properties["priority"] == 9
