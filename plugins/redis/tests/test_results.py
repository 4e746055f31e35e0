"""Waiting for results: many at a time, through broken connections, leaving nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from redis import Redis

from caraway import Caraway
from caraway.message import ChordPart, Completion, Settlement, StoredResult
from caraway.testing.servers import server
from caraway.waking import readable

KEY = "celery-task-meta-"


def payload(state: str = "SUCCESS", value: object = None) -> bytes:
    return msgspec.json.encode({"status": state, "result": value, "traceback": None})


def stored(task_id: str, state: str = "SUCCESS", ttl: float = 60.0) -> StoredResult:
    return StoredResult(task_id, state, payload(state), ttl)


def channels(client: Redis) -> set[bytes]:
    return set(client.pubsub_channels())


def test_what_is_stored_while_the_connection_is_cut_is_seen(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    """The cut and the result are one transaction: its publication reaches nobody."""
    backend = opened.backend(url)
    with ThreadPoolExecutor() as pool:
        for number in range(5):
            task_id = f"t{number}"
            waiting = pool.submit(backend.wait, [task_id], 10.0)
            until(lambda: KEY.encode() + task_id.encode() in channels(client))  # noqa: B023
            with client.pipeline(transaction=True) as both:
                both.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                both.set(KEY + task_id, payload(), ex=60)
                both.publish(KEY + task_id, payload())
                assert both.execute()[2] == 0
            assert set(waiting.result(10.0)) == {task_id}
    assert channels(client) == set()


def test_a_wait_lives_through_a_restart_of_the_server(
    opened: Any, until: Callable[..., Any]
) -> None:
    with server("redis", config=["--appendonly", "yes", "--appendfsync", "always"]) as own:
        backend = opened.backend(own.url)
        with ThreadPoolExecutor() as pool, Redis(port=own.port) as client:
            waiting = pool.submit(backend.wait, ["a", "b"], 20.0)
            until(lambda: len(channels(client)) == 2)
            for hard in (False, True):
                own.restart(hard=hard)
                until(lambda: len(channels(client)) == 2)
            opened.backend(own.url).store([stored("b")])
            assert set(waiting.result(20.0)) == {"b"}
        opened.close()


def test_two_hundred_threads_that_wait_use_few_connections(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    app = Caraway("shop", broker=url, backend=url)
    before = client.info("clients")["connected_clients"]
    results = [app.AsyncResult(f"t{number}") for number in range(200)]
    with ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(result.get, timeout=20.0) for result in results]
        until(lambda: len(channels(client)) == 200)
        backend = opened.backend(url)
        most = 0
        for begin in range(0, 200, 20):
            backend.store([stored(f"t{n}") for n in range(begin, begin + 20)])
            most = max(most, client.info("clients")["connected_clients"] - before)
        assert [each.result(20.0) for each in waiting] == [None] * 200
        most = max(most, client.info("clients")["connected_clients"] - before)
    assert most <= 13, f"{most} connections: one listens, ten are pooled, and the test's own"
    assert channels(client) == set()
    app.close()


def test_many_threads_that_read_share_the_pool(url: str, opened: Any, client: Redis) -> None:
    backend = opened.backend(url, {"broker_pool_limit": 4})
    backend.store([stored("a")])
    before = client.info("clients")["connected_clients"]
    with ThreadPoolExecutor(50) as pool:
        found = list(pool.map(lambda _: set(backend.get(["a"])), range(500)))
    assert found == [{"a"}] * 500
    assert client.info("clients")["connected_clients"] - before <= 4


def test_no_subscription_is_left_behind_whatever_ends_a_wait(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    backend = opened.backend(url)
    assert backend.wait(["never"], 0.05) == {}
    until(lambda: channels(client) == set())
    backend.store([stored("a")])
    assert set(backend.wait(["a", "never"], 5.0)) == {"a"}
    # Those of a group that are waited for again and again stay for a moment.
    assert channels(client) <= {KEY.encode() + b"never"}
    backend.close()
    until(lambda: channels(client) == set())


def test_a_wait_that_a_signal_ends_does_not_stop_the_others(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    """The one that reads for all may be the one that is interrupted."""
    backend = opened.backend(url)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        with ThreadPoolExecutor() as pool:
            others: list[Any] = []

            def join_in() -> None:
                until(lambda: len(channels(client)) == 1)
                others.append(pool.submit(backend.wait, ["b"], 10.0))
                until(lambda: len(channels(client)) == 2)
                signal.setitimer(signal.ITIMER_REAL, 0.01)

            pool.submit(join_in)
            with pytest.raises(KeyboardInterrupt):
                backend.wait(["a"], 10.0)
            backend.store([stored("b")])
            assert set(others[0].result(10.0)) == {"b"}
            # And waiting works as before.
            threading.Timer(0.05, backend.store, ([stored("a")],)).start()
            assert set(backend.wait(["a"], 10.0)) == {"a"}
    finally:
        signal.signal(signal.SIGALRM, old)


def test_states_that_are_not_final_wake_nobody(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    backend, other = opened.backend(url), opened.backend(url)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(backend.wait, ["a"], 10.0)
        until(lambda: channels(client))
        for state in ("STARTED", "RETRY", "PROGRESS"):
            other.store([stored("a", state)])
        assert not waiting.done()
        other.store([stored("a")])
        assert waiting.result(10.0)["a"].state == "SUCCESS"


def test_many_members_of_a_chord_report_at_once_and_the_last_one_completes_it(
    url: str, opened: Any, client: Redis
) -> None:
    backend = opened.backend(url)
    parts = [ChordPart("g", f"t{n}", n, "SUCCESS", payload(value=n), 100, 60.0) for n in range(100)]
    backend.chord_parts(parts[:1])
    client.script_flush()
    answers = backend.chord_parts(parts)
    assert [answer is None for answer in answers] == [True] * 99 + [False]
    assert list(answers[-1] or ()) == [part.payload for part in parts]
    backend.chord_sent(["g"])
    assert [key for key in client.scan_iter() if client.ttl(key) < 0] == []
    assert backend.chord_parts(parts[:1]) == [None]


def test_every_key_of_a_chord_ends_by_itself(url: str, opened: Any, client: Redis) -> None:
    backend = opened.backend(url)
    backend.chord_parts([ChordPart("g", "t", 0, "SUCCESS", payload(), 2, 60.0)])
    backend.join("g", "m", 2, 60.0)
    backend.save_group("g", b"{}", 60.0)
    assert len(client.keys()) == 4
    assert all(0 < client.ttl(key) <= 60 for key in client.scan_iter())


def test_a_result_that_is_to_vanish_at_once_does_not_stay(
    url: str, opened: Any, client: Redis, until: Callable[..., Any]
) -> None:
    opened.backend(url).store([stored("a", ttl=0.0001)])
    until(lambda: not client.exists(KEY + "a"))


def test_a_shorter_revocation_does_not_end_a_longer_one(
    url: str, opened: Any, client: Redis
) -> None:
    transport = opened.transport(url)
    transport.revoke(["long"], ttl=1000.0)
    transport.revoke(["short"], ttl=1.0)
    assert client.ttl("caraway:revoked") > 900
    transport.revoke(["long"], ttl=1.0)
    assert client.zscore("caraway:revoked", "long") > time.time() + 900


def test_queues_are_served_in_the_order_that_is_asked_for(url: str, opened: Any) -> None:
    wanted = {
        "round_robin": {b"a", b"b"}, "priority": {b"b"}, "sorted": {b"a"},
    }  # fmt: skip
    for strategy, first in wanted.items():
        transport = opened.transport(url, queue_order_strategy=strategy)
        for queue in "ba":
            transport.publish([opened.publication(queue, queue) for _ in range(10)])
        consumer = opened.consumer(transport, "b", "a")
        assert {each.message.body for each in consumer.fetch(10, 5.0)} == first
        consumer.close()
        for queue in "ab":
            transport.delete(queue)


def test_of_two_settlements_of_one_tag_the_first_holds_whatever_they_are(
    url: str, opened: Any, client: Redis
) -> None:
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    for first, second in (("release", "ack"), ("ack", "release"), ("reject", "ack")):
        transport.publish([opened.publication()])
        (one,) = consumer.fetch(1, 5.0)
        assert list(consumer.settle([Settlement(one.tag, first), Settlement(one.tag, second)])) == [
            one.tag
        ]
        assert client.llen("q") == (first == "release")
        transport.purge("q")
    transport.publish([opened.publication()])
    (one,) = consumer.fetch(1, 5.0)
    twice = [
        Completion(Settlement(one.tag, "reject", reason="no"), stored("r", "FAILURE")),
        Completion(Settlement(one.tag), stored("r")),
    ]
    assert list(consumer.commit(twice)) == [one.tag]
    assert backend.get(["r"])["r"].state == "FAILURE"
    transport.delete("q")


def test_a_connection_that_was_idle_for_long_is_asked_whether_it_lives(
    url: str, opened: Any, client: Redis
) -> None:
    transport = opened.transport(url, health_check_interval=0.001)
    transport.ping()
    (wire,) = transport.link._idle
    wire.used -= 10.0
    client.config_resetstat()
    transport.ping()
    assert client.info("commandstats")["cmdstat_ping"]["calls"] == 1
    assert transport.link._idle == [wire]
    # One whose other side is gone is replaced, and nobody notices.
    wire.used -= 10.0
    client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    transport.ping()
    assert transport.link._idle != [wire]


def test_results_may_have_a_prefix_of_their_own_and_are_committed_with_the_rest(
    url: str, opened: Any, client: Redis
) -> None:
    transport = opened.transport(url, global_keyprefix="shop:")
    backend = opened.backend(url, global_keyprefix="results")
    assert transport.shares_store(backend)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication()])
    (one,) = consumer.fetch(1, 5.0)
    assert not consumer.commit([Completion(Settlement(one.tag), stored("a"))])
    assert client.exists("results_celery-task-meta-a")
    assert set(backend.get(["a"])) == {"a"}
    transport.delete("q")
    consumer.close()
    client.delete("shop:caraway:seq")


@pytest.mark.parametrize(("there", "options"), [("/1", {"hash_tag": "x"}), ("/2", {})])
def test_what_lies_elsewhere_is_not_committed_with_the_rest(
    url: str, opened: Any, there: str, options: dict[str, Any]
) -> None:
    backend = opened.backend(url.removesuffix("/1") + there, **options)
    assert not opened.transport(url).shares_store(backend)


def test_closing_a_connection_ends_another_thread_s_wait_for_it(url: str, opened: Any) -> None:
    """As when a thread that joins the waiting finds that it can't send any more."""
    wire = opened.backend(url).link.wire()
    wire.connect(5.0)
    number = wire.fileno()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(readable, (number,), 10.0)
        time.sleep(0.05)
        assert not waiting.done()
        wire.close()
        assert waiting.result(1.0) == {number}


def test_a_child_process_that_closes_its_copy_leaves_the_parent_s_alone(
    url: str, opened: Any
) -> None:
    link = opened.backend(url).link
    link.call("PING")
    (wire,) = link._idle
    child = os.fork()
    if child == 0:
        wire.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert not wire.is_stale()
    assert link.call("PING") == b"PONG"
    assert link._idle == [wire]
