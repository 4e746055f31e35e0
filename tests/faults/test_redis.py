"""A Redis that restarts, forgets its scripts, throws clients out, or gives way to another."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults_kit import DURABLE, LONG, Stream, all_end, open_files, redis_says
from redis import Redis

from caraway import Caraway
from caraway.testing.servers import ServerKind, server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.brokers("redis")]

RESTARTS = 20 if LONG else 5


def test_restarts_under_load_lose_nothing_that_was_acknowledged(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    """Killed as by a power cut, with each write on the disk before it is acknowledged."""
    site.env["CRASH_BROKER"] = site.direct
    app = site.client()
    worker = site.worker(2)
    lanes = site.wait_for_lanes(worker, 2)
    stream = Stream(app)
    slowest = 0.0
    for _ in range(RESTARTS):
        time.sleep(random.uniform(0.3, 0.8))
        site.server.kill()
        time.sleep(random.uniform(0.2, 1.0))
        site.server.start()
        began, before = time.monotonic(), site.starts().total()
        wait_until(lambda before=before: site.starts().total() > before + 20, timeout=20)
        slowest = max(slowest, time.monotonic() - began)
    results = stream.end()
    all_end(results)
    assert slowest <= 5.0
    # The lease outlives these restarts, and the server keeps what is held.
    assert set(site.starts().values()) == {1} or _unacknowledged(site, results)
    assert sorted(site.lanes(worker)) == sorted(lanes), "a lane died of it"
    assert app.transport.stats(["celery"])[0].held == 0


def _unacknowledged(site: Any, results: list[Any]) -> bool:
    """True if only publishes that were tried again ran twice: their first try had reached
    the server, whose answer had not reached us."""
    again = {argument for argument, runs in site.starts().items() if runs > 1}
    return len(again) <= RESTARTS


def test_scripts_that_are_flushed_and_clients_that_are_killed_cost_nothing(
    site: Any, kind: str
) -> None:
    app = site.client()
    site.env["CRASH_BROKER"] = site.direct
    site.worker(2)
    stream = Stream(app)
    port = site.server.port
    for n in range(12):
        time.sleep(0.25)
        if n % 2:
            assert redis_says(port, "SCRIPT", "FLUSH") == b"+OK\r\n"
        else:
            redis_says(port, "CLIENT", "KILL", "TYPE", "normal")
            redis_says(port, "CLIENT", "KILL", "TYPE", "pubsub")
    site.resumes(app)
    results = stream.end()
    all_end(results)
    assert stream.refused == 0
    again = {argument: runs for argument, runs in site.starts().items() if runs > 1}
    assert len(again) <= 6, again  # publishes whose acknowledgement was cut off


def sentinel(master: int) -> ServerKind:
    """A Sentinel that watches a master, quick to give it up."""

    def command(program: str, port: int, directory: Path) -> list[str]:
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor pair 127.0.0.1 {master} 1\n"
            "sentinel down-after-milliseconds pair 500\n"
            "sentinel failover-timeout pair 3000\n"
        )
        return [program, str(config)]

    return ServerKind(
        name="redis-sentinel",
        programs=("redis-sentinel", "valkey-sentinel"),
        install="apt-get install redis-sentinel",
        command=command,
        url="sentinel://127.0.0.1:{port}/0",
    )


@pytest.fixture
def pair(site: Any, wait_until: Callable[..., Any]) -> Iterator[tuple[Any, Any, Any]]:
    """Master, replica, and the Sentinel that knows both."""
    at_once = [*DURABLE, "--repl-diskless-sync-delay", "0"]
    with server("redis", config=at_once) as master:
        follow = [*at_once, "--replicaof", "127.0.0.1", str(master.port)]
        with server("redis", config=follow) as replica:
            info = ("INFO", "replication")
            wait_until(lambda: b"master_link_status:up" in redis_says(replica.port, *info))
            with server(sentinel(master.port)) as watch:
                asked = ("SENTINEL", "replicas", "pair")
                port = str(replica.port).encode()
                wait_until(lambda: port in redis_says(watch.port, *asked))
                yield master, replica, watch
        # In order, each would wait for the other's replicas.
        replica.kill()
        master.kill()


def role(port: int) -> bytes:
    """Of a server, which closes its connections when it changes."""
    try:
        said = redis_says(port, "INFO", "replication")
    except OSError:
        return b""
    return said.partition(b"role:")[2].partition(b"\r\n")[0]


def test_a_worker_follows_a_failover(
    site: Any, kind: str, pair: Any, wait_until: Callable[..., Any]
) -> None:
    master, replica, watch = pair
    url = f"{watch.url}?master_name=pair"
    site.env["CRASH_BROKER"] = url
    app = Caraway("crash_app", broker=url, backend=url, set_as_current=False)
    site.clients.append(app)
    work = app.signature("crash_app.work")
    worker = site.worker(2)
    results = list(app.publish([work.clone(args=(n, 0.01)) for n in range(600)]))
    wait_until(lambda: len(site.starts()) > 50)
    # WAIT waits for what its own connection has written, and so for all that was before it.
    with Redis(port=master.port) as connection:
        connection.set("mark", "1", px=60_000)
        assert connection.execute_command("WAIT", 1, 5000) == 1
    master.kill()
    wait_until(lambda: role(replica.port) == b"master")
    began, before = time.monotonic(), site.starts().total()
    wait_until(lambda: site.starts().total() > before + 20, timeout=30)
    assert time.monotonic() - began <= 5.0
    all_end(results)
    assert app.send_task("crash_app.work", ["after"]).get(timeout=20) == "after"
    assert worker.poll() is None
    # Replication is asynchronous: what the master acknowledged last may be done again.
    again = [argument for argument, runs in site.starts().items() if runs > 1]
    assert len(again) <= 50
    # The old master comes back as a replica, and nobody minds.
    master.start()
    wait_until(lambda: role(master.port) == b"slave", timeout=40)
    assert app.send_task("crash_app.work", ["both"]).get(timeout=20) == "both"


def test_restarts_leave_no_file_open(site: Any, kind: str, wait_until: Callable[..., Any]) -> None:
    site.env["CRASH_BROKER"] = site.direct
    app = site.client()
    worker = site.worker(1)
    pids = [worker.pid, *site.wait_for_lanes(worker, 1)]

    def restarted() -> None:
        site.server.restart(hard=True)
        app.send_task("crash_app.work", ["x"]).get(timeout=20)

    restarted()
    time.sleep(1.5)
    before = [open_files(pid) for pid in pids]
    for _ in range(5):
        restarted()
    wait_until(
        lambda: all(open_files(p) <= n for p, n in zip(pids, before, strict=True)), timeout=15
    )
