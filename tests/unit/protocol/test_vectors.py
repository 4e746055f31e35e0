"""What the real Celery and kombu write is read, and what we write for the same is equal.

The vectors: tests/interop/vectors/README.md.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway import Caraway, states
from caraway.control.rounds import requests
from caraway.events import State
from caraway.message import Message, new_owner_id
from caraway.outcome import Outcome
from caraway.protocol.codec import body_loader
from caraway.protocol.decode import normalize
from caraway.protocol.envelope import decode, encode, message_of
from caraway.protocol.result import decode_exception, decode_meta
from caraway.request import Request
from caraway.task.publication import build

VECTORS = Path(__file__).parents[2] / "interop" / "vectors"
ID = "11111111-2222-4333-8444-555555555555"


def vectors(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


LISTS = {
    key: payloads
    for key, payloads in vectors("redis-queues").items()
    if not key.startswith("_kombu")
}
PAYLOADS = [payload for payloads in LISTS.values() for payload in payloads]
AMQP = vectors("amqp-messages")
TALK = vectors("remote-control")


def name_of(payload: str) -> str:
    return str(json.loads(payload)["properties"]["correlation_id"])


@pytest.fixture
def app() -> Iterator[Caraway]:
    url = f"memory://vectors-{new_owner_id()}"
    made = Caraway("shop", broker=url, backend=url, set_as_current=False, task_send_argsrepr=True)

    @made.task(name="shop.add")
    def add(x: int, y: int, z: int = 0) -> int:
        return x + y + z

    @made.task(name="shop.total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    yield made
    made.close()


def read(app: Caraway, message: Message) -> Any:
    return body_loader(app.registry, ["json"])(message)


# -- task messages ---------------------------------------------------------------------


@pytest.mark.parametrize("payload", PAYLOADS, ids=name_of)
def test_an_envelope_of_kombus_is_read_and_written_as_it_was(payload: str) -> None:
    envelope = decode(payload.encode())
    properties = json.loads(payload)["properties"]
    message = message_of(envelope)

    again = encode(
        message,
        properties["delivery_tag"],
        properties["delivery_info"]["exchange"],
        properties["delivery_info"]["routing_key"],
        properties["priority"],
    )

    assert json.loads(again) == json.loads(payload)


@pytest.mark.parametrize("payload", PAYLOADS, ids=name_of)
def test_the_arguments_in_an_envelope_are_read(app: Caraway, payload: str) -> None:
    message = message_of(decode(payload.encode()))
    from caraway.protocol.body import content_loader

    found = normalize(message, content_loader(app.registry, ["json"]))
    args, kwargs, embed = read(app, found)

    name = name_of(payload)
    assert found.headers["task"] == "shop.add"
    assert found.headers["id"] == name
    assert kwargs == ({"z": 3} if name in (ID, "protocol-1") else {})
    if name.startswith(("group", "chord")):
        assert args == [int(name[-1])] * 2
        assert found.headers["group_index"] == int(name[-1])
    else:
        assert len(args) == 2
    assert bool(embed.get("chord")) == name.startswith("chord")
    assert bool(embed.get("chain")) == name.startswith("chain")
    assert bool(embed.get("callbacks")) == (name == "links")


CALLS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    ID: ({"z": 3}, {}),
    "urgent": ({}, {"priority": 9}),
    "limits": ({}, {"time_limit": 10, "soft_time_limit": 5, "headers": {"x": "y"}}),
    "packed": ({}, {"compression": "zlib"}),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wire", ["redis", "amqp"])
def test_our_message_of_the_same_call_is_equal(app: Caraway, name: str, wire: str) -> None:
    if wire == "redis":
        (payload,) = (each for each in PAYLOADS if name_of(each) == name)
        theirs = message_of(decode(payload.encode()))
        headers, properties, body = theirs.headers, theirs.properties, theirs.body
    else:
        (vector,) = (v for v in AMQP if v["properties"]["correlation_id"] == name)
        headers, properties = vector["headers"], vector["properties"]
        body = base64.b64decode(vector["body"])
        properties = {k: v for k, v in properties.items() if not k.startswith("content_")}
    kwargs, options = CALLS[name]

    ours = build(app, "shop.add", (1, 2), kwargs, {"task_id": name, **options}).publication
    message = ours.message

    # Celery says "not ignored" in two ways, depending on where the task is called.
    same = {"origin", "ignore_result"}
    assert message.headers.keys() == headers.keys()
    for key in headers.keys() - same:
        assert message.headers[key] == headers[key], key
    assert read(app, message) == read(app, Message(body, headers))
    if wire == "amqp":
        assert ours.priority == properties.pop("priority")
    wanted = {k: v for k, v in message.properties.items() if k != "priority"}
    assert wanted.keys() == properties.keys()
    assert wanted["correlation_id"] == properties["correlation_id"]
    assert wanted["delivery_mode"] == properties["delivery_mode"]


def test_times_are_written_as_celery_writes_them(app: Caraway) -> None:
    (payload,) = (each for each in PAYLOADS if name_of(each) == "later")
    theirs = message_of(decode(payload.encode()))
    from datetime import UTC, datetime

    eta = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    ours = build(app, "shop.add", (1, 2), {}, {"eta": eta, "expires": 86400}).publication.message

    assert ours.headers["eta"] == theirs.headers["eta"]
    assert len(ours.headers["expires"]) == len(theirs.headers["expires"])
    # Milliseconds as text; of ours some have passed since the clock was read.
    assert abs(int(ours.properties["expiration"]) - int(theirs.properties["expiration"])) < 5000


def test_the_next_step_of_a_chain_of_celerys_is_what_celery_would_send(app: Caraway) -> None:
    from caraway.canvas import follow

    (payload,) = (each for each in PAYLOADS if name_of(each) == "chain-first")
    message = message_of(decode(payload.encode()))
    args, kwargs, embed = read(app, message)

    (sent,), starts = follow.publications(
        app, Request(message.headers, args, kwargs, embed), Outcome(states.SUCCESS, 2), "callbacks"
    )

    (step,) = embed["chain"]
    headers = sent.message.headers
    assert (headers["id"], headers["task"]) == (step["options"]["task_id"], "shop.add")
    assert (headers["root_id"], headers["parent_id"]) == ("chain-first", "chain-first")
    assert sent.message.properties["reply_to"] == step["options"]["reply_to"]
    assert read(app, sent.message)[0] == [2, 10]
    assert starts == ()


# -- results ---------------------------------------------------------------------------


RESULTS = vectors("redis-results")


@pytest.mark.parametrize(
    ("task_id", "state", "value"),
    [
        ("ok", states.SUCCESS, {"a": [1]}),
        ("bad", states.FAILURE, ValueError("x", 1)),
        ("on", states.STARTED, {"pid": 1, "hostname": "h"}),
        ("again", states.RETRY, ValueError("x")),
    ],
)
def test_a_record_in_redis_is_read(app: Caraway, task_id: str, state: str, value: Any) -> None:
    record = decode_meta(app.result_serializer, RESULTS[f"celery-task-meta-{task_id}"].encode())

    found = record["result"]
    if state in states.EXCEPTION_STATES:
        found, value = repr(decode_exception(found)), repr(value)
        assert record["traceback"] == "Traceback: x"
    assert (record["status"], found, record["task_id"]) == (state, value, task_id)


def test_a_chords_member_reports_as_celerys_does(app: Caraway) -> None:
    from caraway.worker.chords import workflow_of

    group = next(key for key in RESULTS if key.endswith(".j"))[len("celery-taskset-meta-") : -2]
    ((theirs, score),) = RESULTS[f"celery-taskset-meta-{group}.j"]
    (member,) = RESULTS[f"celery-taskset-meta-{group}.d"]
    size = int(RESULTS[f"celery-taskset-meta-{group}.s"])
    headers = {"id": "member-0", "task": "shop.add", "group": group, "group_index": 0}
    body = {"task": "shop.total", "options": {"task_id": "body"}, "chord_size": size}
    request = Request(headers, (0, 0), {}, {"chord": body})

    flow = workflow_of(app, request, Outcome(states.SUCCESS, 0), 60.0, ())

    assert flow is not None
    assert flow.end is not None
    part = flow.end.part
    assert json.loads(part.payload) == json.loads(theirs)
    assert (float(part.index), f"{part.task_id}:{part.index}", part.size) == (score, member, 2)


# -- remote control and events ---------------------------------------------------------


def said(channel: str) -> list[tuple[dict[str, Any], Any]]:
    """Headers and bodies of what went through channels that begin so."""
    found = []
    for each in TALK:
        if each["channel"].startswith(channel):
            message = message_of(decode(each["payload"].encode()))
            found.append((message.headers, json.loads(message.body)))
    return found


def test_our_requests_are_what_celerys_are(app: Caraway) -> None:
    asked = {body["method"]: body for _, body in said("/0.celery.pidbox")}
    channel = app.transport.broadcast()
    subscription = channel.subscribe([requests(app)])
    try:
        app.control.broadcast("revoke", {**asked["revoke"]["arguments"]})
        app.control.broadcast("ping", reply=True, timeout=0.01)
        notices = list(subscription.receive(5.0))
        while len(notices) < 2:
            notices += subscription.receive(5.0)
    finally:
        subscription.close()
    for notice in notices:
        ours = json.loads(notice.message.body)
        theirs = asked[ours["method"]]
        assert ours.keys() == theirs.keys()
        assert {"clock", "expires"} <= notice.message.headers.keys()
        for key in ("arguments", "destination", "pattern", "matcher"):
            assert ours[key] == theirs[key], key
        if "reply_to" in theirs:
            assert ours["reply_to"]["exchange"] == theirs["reply_to"]["exchange"]


def test_a_reply_is_one_node_and_its_answer() -> None:
    read = [message_of(decode(each.encode())) for each in vectors("replies")]

    assert [json.loads(each.body) for each in read] == [
        {"w@here": {"ok": "pong"}}, {"w@here": {"error": "no"}},
    ]  # fmt: skip
    assert all(each.headers["ticket"] == ID for each in read)


def test_celerys_events_make_a_picture() -> None:
    state = State()
    *events, good_bye = said("/0.celeryev")
    for _, body in events:
        for event in body if isinstance(body, list) else [body]:
            state.event(event)
    worker = state.workers["w@here"]
    assert (worker.sw_ident, worker.sw_ver) == ("py-celery", "5.7.0")
    state.event(good_bye[1])
    assert "w@here" not in state.workers
    by_state = {task.state: task for task in state.tasks.values()}
    assert {"SUCCESS", "FAILURE", "REVOKED"} <= by_state.keys()
    assert by_state["SUCCESS"].result == "3"
    assert by_state["FAILURE"].exception == "ValueError('x')"


def test_the_routing_key_of_an_event_is_its_type() -> None:
    from caraway.events.wire import key_of

    for each in TALK:
        if each["channel"].startswith("/0.celeryev/worker"):
            message = message_of(decode(each["payload"].encode()))
            kind = json.loads(message.body)["type"]
            assert each["channel"] == f"/0.celeryev/{key_of(kind)}"
