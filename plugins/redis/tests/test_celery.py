"""What Celery's workers hold on the same queues stays theirs, until they abandon it."""

from __future__ import annotations

import json
import time
from typing import Any

from redis import Redis


def envelope(task_id: str, **headers: Any) -> bytes:
    """A task message as Celery sends it."""
    return json.dumps(
        {
            "body": "W1tdLCB7fSwge31d",
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {"lang": "py", "task": "shop.add", "id": task_id, **headers},
            "properties": {
                "correlation_id": task_id,
                "delivery_info": {"exchange": "", "routing_key": "q"},
                "priority": 0,
                "body_encoding": "base64",
                "delivery_tag": f"tag-{task_id}",
            },
        }
    ).encode()


def hold(client: Redis, task_id: str, since: float, payload: bytes = b"") -> None:
    """As a worker of Celery's has it that took a message."""
    held = b'[%s, "", "q"]' % (payload or envelope(task_id))
    client.hset("unacked", f"tag-{task_id}", held)
    client.zadd("unacked_index", {f"tag-{task_id}": since})


def ids(payloads: list[bytes]) -> list[str]:
    return [json.loads(each)["headers"]["id"] for each in payloads]


def test_what_a_worker_of_celery_s_holds_stays_its_own(
    url: str, opened: Any, client: Redis
) -> None:
    hold(client, "a", time.time() - 3500)
    transport = opened.transport(url)
    transport.sweep()
    assert client.hlen("unacked") == client.zcard("unacked_index") == 1
    assert not client.exists("q", "unacked_mutex")
    client.delete("unacked", "unacked_index")


def test_what_it_abandoned_is_run_by_whoever_fetches_next(
    url: str, opened: Any, client: Redis
) -> None:
    for task_id in "abc":
        hold(client, task_id, time.time() - 3700)
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    taken: list[Any] = []
    while len(taken) < 3:
        taken += consumer.fetch(10, 5.0)
    assert {each.message.headers["id"] for each in taken} == set("abc")
    assert all(each.message.headers["redelivered"] for each in taken)
    assert not client.exists("unacked", "unacked_index", "unacked_mutex")
    transport.delete("q")


def test_the_time_after_which_it_counts_as_abandoned_is_an_option(
    url: str, opened: Any, client: Redis
) -> None:
    hold(client, "a", time.time() - 100)
    opened.transport(url, visibility_timeout=120).sweep()
    assert client.hlen("unacked") == 1
    opened.transport(url, visibility_timeout=0).sweep()
    assert client.hlen("unacked") == 1
    opened.transport(url, visibility_timeout=60).sweep()
    assert ids(client.lrange("q", 0, -1)) == ["a"]
    client.delete("q")


def test_no_more_than_the_limit_are_put_back_at_a_time(
    url: str, opened: Any, client: Redis
) -> None:
    for number in range(5):
        hold(client, str(number), 1000.0 + number)
    transport = opened.transport(url, unacked_restore_limit=2)
    transport.sweep()
    assert sorted(ids(client.lrange("q", 0, -1))) == ["0", "1"]
    transport.sweep()
    assert client.llen("q") == 4
    transport.sweep()
    assert not client.exists("unacked", "unacked_index")
    client.delete("q")


def test_while_another_one_puts_back_nobody_else_does(url: str, opened: Any, client: Redis) -> None:
    """The lock is that of Celery's workers."""
    hold(client, "a", 1000.0)
    client.set("unacked_mutex", "somebody", px=60000)
    transport = opened.transport(url)
    transport.sweep()
    assert client.hlen("unacked") == 1
    assert client.get("unacked_mutex") == b"somebody"
    client.delete("unacked_mutex")
    transport.sweep()
    assert client.llen("q") == 1
    client.delete("q")


def test_what_was_acknowledged_meanwhile_is_not_put_back(
    url: str, opened: Any, client: Redis
) -> None:
    client.zadd("unacked_index", {"tag-gone": 1000.0})
    opened.transport(url).sweep()
    assert not client.exists("q", "unacked_index")


def test_what_can_not_be_read_is_left_where_it_is_and_harms_nobody(
    url: str, opened: Any, client: Redis
) -> None:
    client.hset("unacked", "bad", "no JSON")
    client.zadd("unacked_index", {"bad": 900.0})
    hold(client, "a", 1000.0)
    opened.transport(url).sweep()
    assert client.hkeys("unacked") == [b"bad"]
    assert ids(client.lrange("q", 0, -1)) == ["a"]
    client.delete("unacked", "unacked_index", "q")


def test_priorities_and_exchanges_lead_back_where_they_came_from(
    url: str, opened: Any, client: Redis
) -> None:
    payload = json.loads(envelope("a"))
    payload["properties"]["priority"] = 7
    payload["properties"]["delivery_info"] = {"exchange": "shop", "routing_key": "new"}
    client.sadd("_kombu.binding.shop", "new\x06\x16\x06\x16orders")
    client.hset("unacked", "t", json.dumps([payload, "shop", "new"]))
    client.zadd("unacked_index", {"t": 1000.0})
    opened.transport(url).sweep()
    assert ids(client.lrange("orders\x06\x166", 0, -1)) == ["a"]
    client.delete("orders\x06\x166", "_kombu.binding.shop")


def test_names_of_celery_s_keys_are_options(url: str, opened: Any, client: Redis) -> None:
    client.hset("shop:u", "tag-a", b'[%s, "", "q"]' % envelope("a"))
    client.zadd("shop:i", {"tag-a": 1000.0})
    transport = opened.transport(
        url, global_keyprefix="shop:", unacked_key="u", unacked_index_key="i",
        unacked_mutex_key="m",
    )  # fmt: skip
    transport.sweep()
    assert ids(client.lrange("shop:q", 0, -1)) == ["a"]
    assert not client.exists("shop:u", "shop:i", "shop:m")
    client.delete("shop:q")


def test_of_a_whole_fleet_one_at_a_time_looks(url: str, opened: Any, client: Redis) -> None:
    consumers = [opened.consumer(opened.transport(url)) for _ in range(5)]
    client.config_resetstat()
    for _ in range(10):
        for consumer in consumers:
            consumer.fetch(1, 0)
    # Each sweep asks once for what Celery's workers abandoned.
    looks = client.info("commandstats").get("cmdstat_zrangebyscore", {}).get("calls", 0)
    sweeps = looks / 3  # owners, deadlines of bindings, unacked_index
    assert sweeps <= 2, f"{sweeps} sweeps in a moment"
    opened.transport(url).delete("q")


def test_what_is_given_back_for_later_lies_in_the_delayed_set_and_is_not_fetched_meanwhile(
    url: str, opened: Any, client: Redis
) -> None:
    """So a lane does it with a message of Celery's that has an ``eta``."""
    from caraway.message import Settlement

    client.lpush("q", *[envelope(str(number), eta="2099-01-01T00:00:00") for number in range(50)])
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    taken = consumer.fetch(100, 0)
    assert len(taken) == 50
    later = [Settlement(each.tag, "release", delay=1000.0, counted=False) for each in taken]
    assert not consumer.settle(later)
    assert client.zcard("caraway:delayed:q") == 50
    assert not client.exists("q")
    client.config_resetstat()
    assert not consumer.fetch(10, 0.3)
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls <= 3, "waiting for what is due much later asks again and again"
    # It is not held, and so survives the death of every worker.
    assert not client.exists(f"caraway:held:{consumer.owner.id}")
    client.zadd("caraway:delayed:q", dict.fromkeys(client.zrange("caraway:delayed:q", 0, -1), 1))
    again = consumer.fetch(100, 5.0)
    assert [each.attempt for each in again] == [1] * 50
    transport.delete("q")


def test_a_task_for_later_goes_to_celery_s_workers_where_only_they_are(
    url: str, opened: Any, client: Redis
) -> None:
    """They would never look into our delayed set."""
    due = time.time() + 60
    transport = opened.transport(url)
    transport.publish([_later(opened, "a", due)])
    (payload,) = client.lrange("q", 0, -1)
    assert "due" not in json.loads(payload)
    assert json.loads(payload)["headers"]["eta"] == "soon"
    # Whatever else is delayed says it in no header: a worker of Celery's would run it now.
    transport.publish([opened.publication("b", due=due)])
    assert client.zcard("caraway:delayed:q") == 1
    client.delete("q", "caraway:delayed:q", "caraway:queues")


def test_a_task_for_later_is_delayed_where_a_worker_of_ours_is(
    url: str, opened: Any, client: Redis
) -> None:
    opened.consumer(opened.transport(url))
    transport = opened.transport(url)
    transport.publish([_later(opened, "a", time.time() + 60)])
    assert (client.llen("q"), client.zcard("caraway:delayed:q")) == (0, 1)
    transport.delete("q")


def _later(opened: Any, name: str, due: float) -> Any:
    made = opened.publication(name, due=due)
    made.message.headers["eta"] = "soon"
    return made


def test_bindings_of_reply_queues_that_nobody_took_away_end_with_their_deadline(
    url: str, opened: Any, client: Redis
) -> None:
    """As kombu has it: a table goes as a whole, unless a queue that stays is bound there."""
    from caraway.message import Topic

    transport = opened.transport(url)
    exchanges = ("reply.celery.pidbox", "stays")
    topics = [Topic(exchange, "me", "direct") for exchange in exchanges]
    subscription = transport.broadcast().subscribe(topics)
    client.sadd("_kombu.binding_permanent.stays", "a\x06\x16\x06\x16b")
    assert set(client.zrange("_kombu.binding_deadlines", 0, -1)) == {
        each.encode() for each in exchanges
    }
    transport.sweep()
    assert client.scard("_kombu.binding.reply.celery.pidbox") == 1
    client.zadd("_kombu.binding_deadlines", dict.fromkeys(exchanges, 1.0))
    transport.sweep()
    assert not client.exists("_kombu.binding.reply.celery.pidbox", "_kombu.binding_deadlines")
    assert client.scard("_kombu.binding.stays") == 1
    subscription.close()
    client.delete("_kombu.binding_permanent.stays")


def test_what_comes_to_the_inbox_of_an_owner_that_ended_is_not_lost(
    url: str, opened: Any, client: Redis
) -> None:
    """The server may answer its wait after its end: nobody reads that."""
    transport = opened.transport(url)
    gone = opened.consumer(transport)
    transport.reclaim(gone.owner.id)
    client.lpush(f"caraway:inbox:{gone.owner.id}:0:q", envelope("late"))
    transport.sweep()
    assert ids(client.lrange("q", 0, -1)) == ["late"]
    # It is looked after until its time is over, and no longer.
    (entry,) = client.zrange("caraway:orphans", 0, -1)
    client.zadd("caraway:orphans", {entry: 1.0})
    # Not even a list that can't take it just now loses it.
    client.rename("q", "aside")
    client.set("q", "a text")
    client.lpush(f"caraway:inbox:{gone.owner.id}:0:q", envelope("later"))
    transport.sweep()
    client.delete("q")
    transport.sweep()
    assert ids(client.lrange("q", 0, -1)) == ["later"]
    assert not client.exists("caraway:orphans")
    client.delete("aside")
    transport.delete("q")
