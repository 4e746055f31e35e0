"""What is written to Redis and read from it, against what kombu and Celery wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from caraway.message import Message, Publication, Queue
from caraway.protocol.envelope import decode
from caraway_redis.fetching import delivery
from caraway_redis.results import GROUP_KEY, RESULT_KEY, record

VECTORS = Path(__file__).parents[3] / "tests" / "interop" / "vectors" / "redis-keys.json"
MOMENTS = {each["label"]: each["keys"] for each in json.loads(VECTORS.read_text())}
SENT = MOMENTS["sent"]
LISTS = {name: each["value"] for name, each in SENT.items() if each["type"] == "list"}
IDS = "11111111-2222-4333-8444-55555555555"


def everything(client: Redis) -> dict[str, Any]:
    """All keys, as in the vectors."""
    out: dict[str, Any] = {}
    for key in sorted(client.keys("*")):
        kind = client.type(key).decode()
        if kind == "list":
            value: Any = [each.decode() for each in client.lrange(key, 0, -1)]
        elif kind == "set":
            value = sorted(each.decode() for each in client.smembers(key))
        elif kind == "string":
            value = client.get(key).decode()
        else:
            continue
        out[key.decode()] = value
    return out


def _whole(payload: str) -> str:
    return json.dumps(json.loads(payload), sort_keys=True)


def put(client: Redis, moment: str) -> None:
    for name, each in MOMENTS[moment].items():
        value = each["value"]
        if each["type"] == "list":
            client.rpush(name, *value)
        elif each["type"] == "set":
            client.sadd(name, *value)
        elif each["type"] == "hash":
            client.hset(name, mapping=value)
        elif each["type"] == "zset":
            client.zadd(name, dict(value))
        else:
            client.set(name, value, ex=86400 if each["expires"] else None)


@pytest.mark.parametrize("payload", [each for values in LISTS.values() for each in values])
def test_an_envelope_of_kombu_s_is_read_whole(payload: str) -> None:
    written = json.loads(payload)
    got = delivery(7, "celery", payload.encode())
    assert not got.defect
    assert got.message.headers == written["headers"]
    assert got.message.content_type == "application/json"
    assert got.message.content_encoding == "utf-8"
    assert json.loads(got.message.body)[2] == dict.fromkeys(
        ("callbacks", "errbacks", "chain", "chord")
    )
    assert (got.tag, got.attempt, got.queue) == (7, 1, "celery")
    assert got.priority == written["properties"]["priority"]
    kept = {"correlation_id", "reply_to", "delivery_mode"}
    assert kept <= set(got.message.properties)


def test_the_same_messages_lie_in_the_same_keys_and_carry_the_same(
    url: str, opened: Any, client: Redis
) -> None:
    transport = opened.transport(url)
    transport.declare(
        [
            Queue(name="celery", exchange="celery", routing_key="celery"),
            Queue(name="mails", exchange="mails", exchange_type="topic", routing_key="mail.#"),
        ]
    )
    wanted = {name: each["value"] for name, each in SENT.items()}
    publications = []
    for name, payloads in LISTS.items():
        for payload in reversed(payloads):
            envelope = decode(payload.encode())
            info = envelope.properties["delivery_info"]
            properties = {
                name: value
                for name, value in envelope.properties.items()
                if name in ("correlation_id", "reply_to", "delivery_mode")
            }
            message = Message(
                envelope.body, envelope.headers or {}, "application/json", "utf-8", properties
            )
            publications.append(
                Publication(
                    message,
                    name.partition("\x06")[0],
                    priority=envelope.properties["priority"],
                    exchange=info["exchange"],
                    routing_key=info["routing_key"],
                )
            )
    transport.publish(publications)
    got = everything(client)
    assert [name.decode() for name in client.smembers("caraway:queues")]
    assert set(got) - {"caraway:queues"} == set(wanted)
    for name, value in wanted.items():
        if name.startswith("_kombu"):
            assert got[name] == value
            continue
        ours, theirs = [[json.loads(each) for each in some] for some in (got[name], value)]
        for each in (*ours, *theirs):
            assert each["properties"].pop("delivery_tag")
        for one, other in zip(ours, theirs, strict=True):
            for part in {*one, *other}:
                assert one.get(part) == other.get(part), part
    for queue in ("celery", "mails"):
        transport.delete(queue)
    assert everything(client) == {}


def test_every_envelope_has_a_tag_of_its_own(url: str, opened: Any, client: Redis) -> None:
    """Celery's workers keep what they hold under it."""
    for _ in range(2):
        opened.transport(url).publish([opened.publication(n) for n in range(100)])
    tags = [json.loads(each)["properties"]["delivery_tag"] for each in client.lrange("q", 0, -1)]
    assert len(set(tags)) == 200
    opened.transport(url).delete("q")


def test_what_a_worker_of_celery_s_abandoned_is_put_back_as_kombu_does_it(
    url: str, opened: Any, client: Redis
) -> None:
    put(client, "held")
    transport = opened.transport(url)
    client.zadd("unacked_index", {client.hkeys("unacked")[0]: 1000.0})
    transport.sweep()
    given = MOMENTS["given back"]
    got = everything(client)
    assert not client.exists("unacked", "unacked_index", "unacked_mutex")
    for name, payloads in given.items():
        if name in LISTS:
            # By time-out it goes to the head, by a reject (the vector) to the tail.
            assert sorted(_whole(each) for each in got[name]) == sorted(
                _whole(each) for each in payloads["value"]
            )
    for queue in ("celery", "mails"):
        transport.delete(queue)


def test_results_of_celery_s_are_read(url: str, opened: Any, client: Redis) -> None:
    put(client, "results")
    backend = opened.backend(url)
    (stored,) = backend.get([IDS + "1"]).values()
    assert (stored.state, json.loads(stored.payload)["result"]) == ("SUCCESS", 5)
    assert backend.wait([IDS + "1"], 5.0)
    group = backend.restore_group("99999999-2222-4333-8444-555555555551")
    assert json.loads(group)["result"][0][0] == "99999999-2222-4333-8444-555555555551"
    assert set(MOMENTS["results"]) == {
        f"{RESULT_KEY}{IDS}1", f"{GROUP_KEY}99999999-2222-4333-8444-555555555551",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "state"),
    [
        (b'{"status": "SUCCESS", "result": "FAILURE"}', "SUCCESS"),
        (b'{"result": "FAILURE", "status": "STARTED"}', "STARTED"),
        (b"status: RETRY\nresult: null\n", "RETRY"),
        (b"\x83\xa6status\xa7REVOKED\xa6result\xc0", "REVOKED"),
        (b"nothing of the kind", ""),
        (b"", ""),
    ],
)
def test_the_state_of_a_record_is_read_whatever_its_serializer(value: bytes, state: str) -> None:
    assert record("a", value).state == state


def test_what_can_not_be_read_is_delivered_with_its_defect() -> None:
    for payload in (b"", b"{", b"\xff\xfe", b'{"body": "abcde", "properties": {"body_encoding": '
                    b'"base64"}}', b"[1, 2]"):  # fmt: skip
        got = delivery(1, "q", payload)
        assert got.defect
        assert got.message.body == payload
