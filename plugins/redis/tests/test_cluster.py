"""A Redis that is a cluster: which node has our keys, and what happens when they move."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from caraway.errors import ImproperlyConfigured, TransportError, TransportUnavailable
from caraway.message import Settlement
from caraway.testing.servers import KINDS, Server, ServerFailed, find_program, free_port, server

from .test_places import AT_ONCE, done, tried, works


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[Server]]:
    """Three masters, and a replica of the one that has the slot of ``{shop}``, which comes
    first, and its replica next."""
    with ExitStack() as servers:
        old = _is_old()
        started = [_node(servers, old) for _ in range(4)]
        nodes = [node for node, _ in started]
        told = [servers.enter_context(Redis(port=node.port)) for node in nodes]
        for index, (begin, end) in enumerate(((0, 5461), (5462, 10922), (10923, 16383))):
            told[index].execute_command("CLUSTER", "ADDSLOTS", *range(begin, end + 1))
        for node, bus in started[1:]:
            told[0].execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        _wait(lambda: all(_info(each)["cluster_known_nodes"] == "4" for each in told))
        _wait(lambda: all(_info(each)["cluster_state"] == "ok" for each in told[:3]))
        owner = _owner(told[:3], "{shop}")
        name = told[owner].execute_command("CLUSTER", "MYID").decode()
        _wait(lambda: _done_without_error(told[3], "CLUSTER", "REPLICATE", name))
        _wait(lambda: told[3].info("replication").get("master_link_status") == "up")
        yield [nodes[owner], nodes[3], *[n for i, n in enumerate(nodes[:3]) if i != owner]]


def _is_old() -> bool:
    """Before Redis 7, where the port of the nodes' own talk can't be chosen."""
    program = find_program(KINDS["redis"])
    if program is None:
        return False  # `server` says so
    text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v=(\d+)", text.stdout)
    assert found is not None, text.stdout
    return int(found[1]) < 7


def _node(servers: ExitStack, old: bool) -> tuple[Server, int]:
    config = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000", *AT_ONCE]
    if not old:
        bus = free_port()
        config += ["--cluster-port", str(bus)]
        return servers.enter_context(server("redis", config=config)), bus
    for _ in range(10):
        try:
            node = servers.enter_context(server("redis", config=config))
        except ServerFailed:
            continue  # it is that of its clients plus 10,000, which may be none, or in use
        return node, node.port + 10_000
    raise AssertionError("no two ports that are 10,000 apart are free")


def _owner(told: list[Redis], key: str) -> int:
    slot = told[0].execute_command("CLUSTER", "KEYSLOT", key)
    return int(min(slot // 5462, 2))


def _info(told: Redis) -> dict[str, str]:
    answer = told.execute_command("CLUSTER", "INFO")
    if isinstance(answer, dict):
        return answer
    return dict(line.split(":", 1) for line in answer.decode().split("\r\n") if ":" in line)


def _wait(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < end, "the cluster doesn't come up"
        time.sleep(0.02)


def _done_without_error(told: Redis, *command: Any) -> bool:
    try:
        told.execute_command(*command)
    except RedisError:
        return False
    return True


def test_in_a_cluster_celery_s_keys_can_not_work_which_is_said_at_once(
    opened: Any, cluster: list[Server]
) -> None:
    url = cluster[0].url
    with pytest.raises(ImproperlyConfigured, match="cluster") as caught:
        opened.transport(url).publish([opened.publication()])
    assert "hash_tag" in str(caught.value.hint)
    with pytest.raises(ImproperlyConfigured, match="cluster"):
        opened.backend(url).get(["a"])


@pytest.mark.parametrize("options", [{"hash_tag": "shop"}, {"global_keyprefix": "{shop}"}])
def test_with_all_keys_in_one_slot_a_cluster_works_whichever_node_is_named(
    opened: Any, cluster: list[Server], options: dict[str, str]
) -> None:
    for node in cluster:
        works(opened, node.url, **options)
    with pytest.raises(TransportError, match="database of the URL"):
        opened.transport(cluster[0].url.removesuffix("/0") + "/1", **options).ping()


def test_remote_control_reaches_subscribers_on_any_node_of_a_cluster(
    opened: Any, cluster: list[Server]
) -> None:
    from caraway.message import Message, Notice, Topic

    topic = Topic("celery.pidbox", "", "fanout")
    transport = opened.transport(cluster[0].url, hash_tag="shop")
    subscription = transport.broadcast().subscribe([topic])
    other = opened.transport(cluster[2].url, hash_tag="shop")
    assert other.broadcast().publish([Notice(topic, Message(b"{}", {}))]) == 1
    assert [each.message.body for each in subscription.receive(5.0)] == [b"{}"]
    subscription.close()


class Mover:
    """Moves a slot from one master to another, as redis-cli does, key by key."""

    def __init__(self, stack: ExitStack, cluster: list[Server], key: str) -> None:
        masters = sorted((cluster[0], *cluster[2:]), key=_first_slot)
        nodes = [stack.enter_context(Redis(port=node.port)) for node in masters]
        self.slot = int(nodes[0].execute_command("CLUSTER", "KEYSLOT", key))
        at = _owner(nodes, key)
        self.source = nodes.pop(at)
        self.target = nodes.pop()
        self.others = nodes

    def begin(self) -> None:
        source, target = (
            each.execute_command("CLUSTER", "MYID") for each in (self.source, self.target)
        )
        self._set(self.target, "IMPORTING", source)
        self._set(self.source, "MIGRATING", target)

    def keys(self) -> list[bytes]:
        found = self.source.execute_command("CLUSTER", "GETKEYSINSLOT", self.slot, 100_000)
        return sorted(found)

    def move(self, *keys: bytes) -> None:
        port = self.target.connection_pool.connection_kwargs["port"]
        self.source.execute_command("MIGRATE", "127.0.0.1", port, "", 0, 5000, "KEYS", *keys)

    def end(self) -> None:
        name = self.target.execute_command("CLUSTER", "MYID")
        for each in (self.target, self.source, *self.others):
            self._set(each, "NODE", name)

    def _set(self, node: Redis, *what: Any) -> None:
        node.execute_command("CLUSTER", "SETSLOT", self.slot, *what)


class Traffic:
    """A producer and a consumer that go on whatever happens, and remember all of it."""

    def __init__(self, opened: Any, url: str) -> None:
        self._opened = opened
        self._out = opened.transport(url, hash_tag="cart")
        self._in = opened.transport(url, hash_tag="cart")
        self._consumer = opened.consumer(self._in)
        self.sent: set[str] = set()
        self.runs: Counter[str] = Counter()
        self.done: set[str] = set()
        self.fenced: list[Any] = []
        self.said: set[str] = set()
        self.sent_at = self.done_at = 0.0
        self.ended = False
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(act,), daemon=True)
            for act in (self._produce, self._consume)
        ]
        self.failed: list[BaseException] = []
        for thread in self._threads:
            thread.start()

    def _guarded(self, act: Callable[[], None]) -> None:
        try:
            act()
        except BaseException as exc:
            self.failed.append(exc)

    def _persist(self, act: Callable[[], Any]) -> Any:
        while True:
            try:
                return act()
            except TransportUnavailable as exc:
                self.said.add(str(exc))
                time.sleep(0.02)

    def _produce(self) -> None:
        number = 0
        while not self._stop.is_set():
            some = [
                self._opened.publication(n, due=time.time() + 0.2 if n % 5 == 0 else 0.0)
                for n in range(number, number + 10)
            ]
            number += 10
            self._persist(lambda some=some: self._out.publish(some, timeout=20.0))
            self.sent_at = time.monotonic()
            self.sent |= {each.message.headers["id"] for each in some}
            time.sleep(0.01)
        self.ended = True

    def _consume(self) -> None:
        while not self.ended or self.done != self.sent:
            taken = self._persist(lambda: self._consumer.fetch(30, 0.2))
            self.runs.update(each.message.headers["id"] for each in taken)
            completions = [done(each) for each in taken]
            if completions:
                self.fenced += self._persist(lambda some=completions: self._consumer.commit(some))
                self.done_at = time.monotonic()
            self.done |= {each.message.headers["id"] for each in taken}

    def stop(self, timeout: float) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout)
        assert not self.failed
        assert not any(thread.is_alive() for thread in self._threads)


def test_a_slot_that_moves_to_another_node_loses_nothing_and_repeats_nothing(
    opened: Any, cluster: list[Server], until: Callable[..., Any]
) -> None:
    with ExitStack() as stack:
        mover = Mover(stack, cluster, "{cart}")
        traffic = Traffic(opened, cluster[2].url)
        until(lambda: len(traffic.done) > 200, 20.0)
        mover.begin()
        # Between any two keys: what one operation needs lies on two nodes then.
        while keys := mover.keys():
            own = [key for key in keys if b"task-meta" not in key]
            time.sleep(0.1)
            mover.move(*(own[len(own) // 2 :][:1] or keys))
        mover.end()
        moved = time.monotonic()
        until(lambda: min(traffic.sent_at, traffic.done_at) > moved, 5.0)
        traffic.stop(20.0)
        assert traffic.done == traffic.sent
        assert set(traffic.runs.values()) == {1}
        assert not traffic.fenced
        assert all("cluster" in said for said in traffic.said), traffic.said
        assert any("handing our keys over" in said for said in traffic.said), traffic.said
        backend = opened.backend(cluster[3].url, hash_tag="cart")
        assert backend.get(sorted(traffic.sent)).keys() == traffic.sent
        opened.close()


def test_a_commit_is_refused_as_a_whole_while_its_slot_moves(
    opened: Any, cluster: list[Server], until: Callable[..., Any]
) -> None:
    with ExitStack() as stack:
        mover = Mover(stack, cluster, "{wine}")
        transport = opened.transport(cluster[2].url, hash_tag="wine")
        consumer = opened.consumer(transport)
        transport.publish([opened.publication(n) for n in range(2)])
        first, second = consumer.fetch(2, 5.0)
        # Now all keys exist that a commit always names, and the one of its result does not.
        assert not consumer.settle([Settlement(first.tag, "reject", reason="no")])
        mover.begin()
        for _ in range(2):
            with pytest.raises(TransportUnavailable, match="handing our keys over"):
                consumer.commit([done(second)])
            mover.move(*mover.keys())
        mover.end()
        until(lambda: tried(lambda: consumer.commit([done(second)])), 5.0)
        backend = opened.backend(cluster[3].url, hash_tag="wine")
        assert backend.get(["id-1"]).keys() == {"id-1"}
        until(lambda: tried(transport.ping), 5.0)
        assert transport.stats(["q"])[0].held == 0
        opened.close()


def _first_slot(node: Server) -> int:
    with Redis(port=node.port) as told:
        own = told.execute_command("CLUSTER", "MYID")
        rows = told.execute_command("CLUSTER", "NODES")
        text = rows.decode() if isinstance(rows, bytes) else str(rows)
    (line,) = (each for each in text.splitlines() if each.startswith(own.decode()))
    return int(line.split()[8].partition("-")[0])


def test_a_failover_in_a_cluster_is_followed(
    opened: Any, cluster: list[Server], until: Callable[..., Any]
) -> None:
    transport = opened.transport(cluster[2].url, hash_tag="shop")
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(10)])
    assert len(consumer.fetch(4, 5.0)) == 4
    with Redis(port=cluster[1].port) as replica, Redis(port=cluster[0].port) as owner:
        owner.execute_command("WAIT", 1, 5000)
        replica.execute_command("CLUSTER", "FAILOVER")
        until(lambda: replica.info("replication")["role"] == "master", 30.0)
    until(lambda: tried(lambda: transport.publish([opened.publication("x")])), 30.0)
    taken: list[Any] = []

    def fetched() -> bool:
        return tried(lambda: taken.extend(consumer.fetch(50, 0.2))) and len(taken) >= 7

    until(fetched, 30.0)
    assert {each.message.body for each in taken} >= {b"x"}
    # The old owner's death is no matter now, though the URL or an old connection names it.
    cluster[0].kill()
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    late = opened.transport(
        f"redis://127.0.0.1:{cluster[0].port},127.0.0.1:{cluster[3].port}/0", hash_tag="shop"
    )
    until(lambda: tried(late.ping), 30.0)
    opened.close()
