"""What a Redis that can't or won't does to us: a clear error, and nothing lost."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import msgspec
import pytest
from redis import Redis

from caraway.errors import (
    BackendError,
    BackendUnavailable,
    OwnerLost,
    StoreFull,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)
from caraway.message import ChordPart, Settlement
from caraway.testing.servers import server

from .redis_kit import done, fetched, result

RIGHTS = (
    "+@read +@write +@scripting +@pubsub +@connection +@transaction +time +select "
    "-@dangerous +client|unblock"
)
"""As docs/how-to/redis.md has it."""


# -- servers that are too old, away, or strangers --------------------------------------


class _Stub(threading.Thread):
    """Answers as an old Redis would, of which there is none to be had here."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        super().__init__(daemon=True)
        self._answers = answers
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                while head := lines.readline():
                    words = []
                    for _ in range(int(head[1:])):
                        size = int(lines.readline()[1:])
                        words.append(lines.read(size + 2)[:-2].decode())
                    name = words[0].upper()
                    fallback = b"-ERR unknown command `%s`\r\n" % name.encode()
                    connection.sendall(self._answers.get(name, fallback))

    def close(self) -> None:
        self._listening.close()


@contextmanager
def stub(**answers: bytes) -> Iterator[int]:
    thread = _Stub({"PING": b"+PONG\r\n", "SELECT": b"+OK\r\n", **answers})
    thread.start()
    try:
        yield thread.port
    finally:
        with socket.create_connection(("127.0.0.1", thread.port)):
            thread.close()
        thread.join(5.0)


def hello(version: str, mode: str = "standalone") -> bytes:
    words = ("server", "redis", "version", version, "mode", mode)
    return b"*6\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(w), w.encode()) for w in words)


@pytest.mark.parametrize(
    ("answers", "says"),
    [({"HELLO": hello("6.0.16")}, "Redis 6.0.16"), ({}, "before 6")],
)
def test_a_server_that_is_too_old_is_named_as_such(
    opened: Any, answers: dict[str, bytes], says: str
) -> None:
    with stub(**answers) as port:
        transport = opened.transport(f"redis://127.0.0.1:{port}/0")
        for _ in range(2):
            with pytest.raises(TransportError, match=says) as caught:
                transport.publish([opened.publication()])
            assert not isinstance(caught.value, TransportUnavailable)
            assert "6.2" in str(caught.value)
            assert "Update" in str(caught.value.hint)
        with pytest.raises(BackendError, match=says):
            opened.backend(f"redis://127.0.0.1:{port}/0").get(["a"])
        opened.close()


def test_nobody_listening_is_an_error_that_says_where(opened: Any, refusing: int) -> None:
    url = f"redis://user:tulip@127.0.0.1:{refusing}/0"
    with pytest.raises(TransportUnavailable, match=f"127.0.0.1:{refusing}") as caught:
        opened.transport(url).publish([opened.publication()])
    assert "tulip" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(BackendUnavailable, match="can't be reached"):
        opened.backend(url).store([result("a")])
    with pytest.raises(BackendUnavailable, match="can't be reached"):
        opened.backend(url).wait(["a"], 0.1)


def test_a_server_that_does_not_answer_costs_no_more_than_the_time_given(opened: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        transport = opened.transport(f"redis://127.0.0.1:{port}/0")
        with pytest.raises(TransportUnavailable, match="in time"):
            transport.publish([opened.publication()], timeout=0.2)


def test_what_is_no_redis_is_said_to_be_none(opened: Any) -> None:
    with stub(SELECT=b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        with pytest.raises(TransportError, match="protocol"):
            opened.transport(f"redis://127.0.0.1:{port}/1").publish([opened.publication()])
        opened.close()


def test_a_number_of_a_database_that_there_is_not_is_named(url: str, opened: Any) -> None:
    with pytest.raises(TransportError, match="database of the URL"):
        opened.transport(url.removesuffix("/1") + "/99").ping()


def test_all_connections_in_use_is_an_error_after_the_time_given(url: str, opened: Any) -> None:
    transport = opened.transport(url, max_connections=1)
    wire = transport.link._take(5.0)
    with pytest.raises(TransportUnavailable, match="all 1 connections"):
        transport.publish([opened.publication()], timeout=0.05)
    # Given back while somebody waits for it, it goes to that one.
    publishing = threading.Thread(target=transport.publish, args=([opened.publication()],))
    publishing.start()
    transport.link._give(wire)
    publishing.join(5.0)
    assert not publishing.is_alive()
    transport.delete("q")


# -- users and rights ------------------------------------------------------------------


@pytest.fixture
def user(client: Redis, opened: Any) -> Iterator[Callable[[str], str]]:
    """Makes a user with these rights; returns what the URL has of it."""

    def make(rights: str) -> str:
        client.execute_command("ACL", "SETUSER", "app", "reset", *rights.split())
        return "app:tulip@"

    yield make
    opened.close()
    client.execute_command("ACL", "DELUSER", "app")


def test_a_wrong_password_is_an_error_that_does_not_show_it(
    url: str, opened: Any, user: Callable[[str], str]
) -> None:
    user(f"on >other ~* &* {RIGHTS}")
    theirs = url.replace("//", "//app:tulip@")
    with pytest.raises(TransportError, match="refused our user or password") as caught:
        opened.transport(theirs).publish([opened.publication()])
    assert not isinstance(caught.value, TransportUnavailable)
    assert "tulip" not in f"{caught.value} {caught.value.hint}"
    with pytest.raises(BackendError, match="refused our user or password"):
        opened.backend(theirs).get(["a"])


def test_a_password_for_a_server_that_has_none_is_an_error_with_the_remedy(
    url: str, opened: Any
) -> None:
    with pytest.raises(TransportError, match="refused our user or password") as caught:
        opened.transport(url.replace("//", "//:tulip@")).ping()
    assert "user and password" in str(caught.value.hint)


def test_a_user_without_rights_is_told_which_it_lacks(
    url: str, opened: Any, user: Callable[[str], str]
) -> None:
    theirs = url.replace("//", "//" + user("on >tulip ~* &* +@connection +@read +select"))
    with pytest.raises(TransportError, match=r"forbids a command.*lpush") as caught:
        opened.transport(theirs).publish([opened.publication()])
    assert "docs/how-to/redis.md" in str(caught.value.hint)
    with pytest.raises(BackendError, match="forbids a command"):
        opened.backend(theirs).store([result("a")])


def test_a_user_without_rights_to_our_keys_is_told_so(
    url: str, opened: Any, user: Callable[[str], str]
) -> None:
    theirs = url.replace("//", "//" + user(f"on >tulip ~other:* &* {RIGHTS}"))
    with pytest.raises(TransportError, match="NOPERM"):
        opened.transport(theirs).publish([opened.publication()])


@pytest.mark.parametrize("rights", [RIGHTS, RIGHTS.removesuffix(" +client|unblock")])
def test_with_the_rights_that_the_documentation_names_all_works(
    url: str, opened: Any, user: Callable[[str], str], rights: str
) -> None:
    theirs = url.replace("//", "//" + user(f"on >tulip ~* &* {rights}"))
    transport, backend = opened.transport(theirs), opened.backend(theirs)
    consumer, other = opened.consumer(transport), opened.consumer(transport)
    waiting = threading.Timer(0.1, transport.publish, ([opened.publication()],))
    waiting.start()
    taken = consumer.fetch(1, 5.0)
    waiting.join()
    assert not other.fetch(1, 0)
    assert not consumer.commit(done(taken))
    assert backend.wait(["id-[]"], 5.0)
    transport.publish([opened.publication(n) for n in range(3)])
    letter, later, held = fetched(consumer, 3)
    assert not consumer.settle(
        [Settlement(letter.tag, "reject", reason="no"), Settlement(later.tag, "release", delay=9)]
    )
    assert transport.renew([consumer.owner.id]) == []
    assert transport.adopt(consumer.owner.id, [held.tag], other.owner.id)
    assert transport.find("id-1")[0].place == "delayed"
    (dead,) = transport.dead("q")
    assert transport.dead_drop([dead.id]) == 1
    transport.revoke(["x"])
    assert transport.revoked(["x"]) == {"x"}
    transport.sweep()
    assert transport.reclaim(other.owner.id) == 1
    assert transport.peek("q")
    assert transport.stats(["q"])[0].delayed == 1
    backend.save_group("g", b"{}", 60.0)
    assert backend.join("g", "m", 1, 60.0)
    backend.delete_group("g")
    consumer.close()
    assert transport.delete("q") == 2


# -- servers that can't write ----------------------------------------------------------


def test_a_server_without_memory_takes_nothing_new_and_ends_what_it_has(
    url: str, opened: Any, client: Redis
) -> None:
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(20)])
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFull, match="no memory left") as caught:
            transport.publish([opened.publication("x")])
        assert "maxmemory" in str(caught.value.hint)
        with pytest.raises(StoreFull):
            backend.store([result("x")])
        with pytest.raises(StoreFull):
            transport.ping()
        taken = consumer.fetch(10, 0)
        assert len(taken) == 10
        assert transport.renew([consumer.owner.id]) == []
        assert not consumer.commit(done(taken))
        assert len(backend.get([f"id-{n}" for n in range(10)])) == 10
        more = consumer.fetch(10, 0)
        assert not consumer.settle([Settlement(each.tag, "release") for each in more])
        consumer.close()
        # Workers can begin, wait and go on: what they do makes room.
        fresh = opened.consumer(opened.transport(url))
        taken = fetched(fresh, 10)
        assert not fresh.fetch(10, 0.3)
        assert transport.adopt(fresh.owner.id, [taken[0].tag], fresh.owner.id)
        part = ChordPart("g", "t", 0, "SUCCESS", b"{}", 1, 60.0)
        assert backend.chord_parts([part]) == [[b"{}"]]
        assert not fresh.settle([Settlement(each.tag, "release") for each in taken])
        fresh.close()
    finally:
        client.config_set("maxmemory", 0)
    assert client.llen("q") == 10
    transport.publish([opened.publication("x")])
    assert len(opened.consumer(transport).fetch(20, 5.0)) == 11
    transport.delete("q")


@pytest.mark.parametrize(
    ("policy", "limit", "warned"),
    [("allkeys-lru", "1gb", True), ("allkeys-lru", "0", False), ("volatile-ttl", "1gb", False)],
)
def test_a_worker_warns_of_a_server_that_may_throw_queues_away(
    url: str, opened: Any, client: Redis, caplog: Any, policy: str, limit: str, warned: bool
) -> None:
    client.config_set("maxmemory-policy", policy)
    client.config_set("maxmemory", limit)
    try:
        transport = opened.transport(url)
        for _ in range(2):
            opened.consumer(transport)
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")
    said = [each.getMessage() for each in caplog.records if "noeviction" in each.getMessage()]
    assert len(said) == warned
    transport.delete("q")


def test_a_replica_is_not_written_to_and_goes_on_where_it_becomes_the_master(
    opened: Any, until: Callable[..., Any]
) -> None:
    with ExitStack() as servers:
        at_once = ["--repl-diskless-sync-delay", "0"]
        master = servers.enter_context(server("redis", config=at_once))
        follow = ["--replicaof", "127.0.0.1", str(master.port)]
        replica = servers.enter_context(server("redis", config=follow))
        url = f"redis://127.0.0.1:{replica.port}/0"
        transport, backend = opened.transport(url), opened.backend(url)
        with Redis(port=replica.port) as told:
            until(lambda: told.info("replication")["master_link_status"] == "up")
            with pytest.raises(StoreReadOnly, match="is a replica") as caught:
                transport.publish([opened.publication()])
            assert "sentinel://" in str(caught.value.hint)
            with pytest.raises(StoreReadOnly):
                backend.store([result("a")])
            with pytest.raises(StoreReadOnly):
                opened.consumer(transport)
            told.execute_command("REPLICAOF", "NO", "ONE")
        transport.publish([opened.publication()])
        assert len(opened.consumer(transport).fetch(5, 5.0)) == 1
        opened.close()


# -- keys of others --------------------------------------------------------------------


def test_a_key_of_another_type_under_a_queue_s_name_is_named(
    url: str, opened: Any, client: Redis
) -> None:
    client.set("q", "a text")
    transport = opened.transport(url)
    with pytest.raises(TransportError, match="another type") as caught:
        transport.publish([opened.publication()])
    assert "global_keyprefix" in str(caught.value.hint)
    consumer = opened.consumer(transport, "q", "other")
    transport.publish([opened.publication("fine", "other")])
    with pytest.raises(TransportError, match="WRONGTYPE of key q"):
        consumer.fetch(5, 0)
    assert client.get("q") == b"a text"
    client.delete("q")
    assert [each.message.body for each in consumer.fetch(5, 5.0)] == [b"fine"]
    transport.delete("other")
    transport.delete("q")


def test_what_a_batch_has_for_other_queues_goes_on_though_one_has_a_wrong_key(
    url: str, opened: Any, client: Redis
) -> None:
    from caraway.errors import PublishError

    client.set("bad", "a text")
    transport = opened.transport(url)
    with pytest.raises(PublishError) as caught:
        transport.publish([opened.publication(n, queue) for n, queue in enumerate(("q", "bad"))])
    assert list(caught.value.failed) == [1]
    assert client.llen("q") == 1
    client.delete("bad")
    transport.delete("q")
    transport.delete("bad")


def test_nothing_of_a_commit_is_applied_if_a_follow_up_s_queue_has_a_wrong_key(
    url: str, opened: Any, client: Redis
) -> None:
    client.set("bad", "a text")
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(2)])
    first, second = done(consumer.fetch(2, 5.0))
    second = msgspec.structs.replace(second, publications=[opened.publication("x", "bad")])
    with pytest.raises(TransportError, match="WRONGTYPE of key bad"):
        consumer.commit([first, second])
    assert not backend.get(["id-0", "id-1"])
    assert client.hlen(f"caraway:held:{consumer.owner.id}") == 2
    client.delete("bad")
    assert not consumer.commit([first, second])
    assert len(backend.get(["id-0", "id-1"])) == 2
    for queue in ("q", "bad"):
        transport.delete(queue)


def test_what_was_fetched_beside_a_commit_that_failed_is_not_forgotten(
    url: str, opened: Any, client: Redis
) -> None:
    client.set("bad", "a text")
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(3)])
    (first,) = done(consumer.fetch(1, 5.0))
    wrong = msgspec.structs.replace(first, publications=[opened.publication("x", "bad")])
    with pytest.raises(TransportError, match="WRONGTYPE of key bad"):
        consumer.exchange([wrong], 1)()
    assert not backend.get(["id-0"])
    assert client.hlen(f"caraway:held:{consumer.owner.id}") == 2
    assert not consumer.commit([first])
    taken = fetched(consumer, 2)
    assert [each.message.body for each in taken] == [b"1", b"2"]
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    client.delete("bad")
    transport.delete("q")


def test_a_fetch_that_fails_beside_a_commit_is_told_by_the_next_one(
    url: str, opened: Any, client: Redis
) -> None:
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(2)])
    first = done(consumer.fetch(1, 5.0))
    client.rename("q", "aside")
    client.set("q", "a text")
    assert list(map(list, consumer.exchange(first, 1)())) == [[], []]
    assert backend.get(["id-0"])
    with pytest.raises(TransportError, match="WRONGTYPE of key q"):
        consumer.fetch(1, 0)
    client.rename("aside", "q")
    (second,) = fetched(consumer, 1)
    assert not consumer.settle([Settlement(second.tag)])
    transport.delete("q")


def test_an_exchange_that_is_not_ended_loses_nothing(url: str, opened: Any) -> None:
    transport, backend = opened.transport(url), opened.backend(url)
    consumer = opened.consumer(transport)
    transport.publish([opened.publication(n) for n in range(6)])
    first = done(consumer.fetch(1, 5.0))
    forgotten = consumer.exchange(first, 2)
    again = consumer.exchange(first, 1)
    with pytest.raises(TransportUnavailable, match="not waited for"):
        forgotten()
    fenced, taken = again()
    # Committed by the first or the second; what the first one took is handed out all the same.
    assert list(fenced) in ([], [first[0].settlement.tag])
    assert backend.get(["id-0"])
    bare = consumer.exchange((), 1)
    taken = [*taken, *fetched(consumer, 5 - len(taken))]
    with pytest.raises(TransportUnavailable, match="not waited for"):
        bare()
    assert sorted(each.message.body for each in taken) == [b"1", b"2", b"3", b"4", b"5"]
    assert not consumer.settle([Settlement(each.tag) for each in taken])
    transport.delete("q")


def test_a_lost_owner_is_told_by_an_exchange_without_completions(url: str, opened: Any) -> None:
    transport = opened.transport(url)
    consumer = opened.consumer(transport)
    end = consumer.exchange((), 1)
    assert end() == ((), [])
    transport.reclaim(consumer.owner.id)
    with pytest.raises(OwnerLost):
        consumer.exchange((), 1)()
    transport.delete("q")
