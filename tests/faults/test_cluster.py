"""A RabbitMQ cluster whose nodes die, one after the other, under a quorum queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crash_site import Crash
from faults_kit import LONG, Stream, all_end
from rabbitmq_cluster import cluster, leader

from caraway import Caraway
from caraway.testing.servers import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROUNDS = 6 if LONG else 2


@pytest.fixture
def members() -> Iterator[dict[str, Server]]:
    with cluster() as made:
        yield made


def test_nodes_that_die_under_load_lose_nothing_that_was_confirmed(
    members: dict[str, Server], tmp_path: Path, wait_until: Callable[..., Any]
) -> None:
    # All talk to the first, which has the leader: they come to the next while there is none.
    urls = ";".join(f"{member.url}?connect_timeout=2" for member in members.values())
    quorum = {"CARAWAY_TASK_DEFAULT_QUEUE_TYPE": "quorum", "CRASH_LEASE": "30"}
    site = Crash(tmp_path, quorum, "rabbitmq", urls, "")
    app = Caraway(
        "crash_app", broker=urls, backend=site.apart, task_default_queue_type="quorum",
        broker_publish_timeout=10.0, set_as_current=False,
    )  # fmt: skip
    site.clients.append(app)
    try:
        worker = site.worker(2)
        lanes = site.wait_for_lanes(worker, 2)
        stream = Stream(app)
        slowest = 0.0
        for n in range(ROUNDS):
            time.sleep(1.0)
            # In turn the leader and a follower.
            ahead = leader(next(iter(members.values())), "celery")
            chosen = next(members[name] for name in members if (name == ahead) == (n % 2 == 0))
            chosen.kill()
            began, before = time.monotonic(), site.starts().total()
            wait_until(lambda before=before: site.starts().total() > before + 20, timeout=60)
            slowest = max(slowest, time.monotonic() - began)
            if n < ROUNDS - 1:
                chosen.start()
        results = stream.end()
        all_end(results)
        assert slowest <= 5.0
        assert len(results) > 100
        assert sorted(site.lanes(worker)) == sorted(lanes), "a lane died of it"
    finally:
        site.stop()
