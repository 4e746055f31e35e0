"""A RabbitMQ that closes connections, restarts, or takes no messages for want of memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from faults_kit import LONG, Stream, all_end

from caraway.errors import TransportUnavailable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.brokers("rabbitmq")]

RESTARTS = 20 if LONG else 2


def test_connections_closed_by_the_administrator_are_opened_again(site: Any, kind: str) -> None:
    app = site.client()
    site.env["CRASH_BROKER"] = site.direct
    worker = site.worker(2)
    lanes = site.wait_for_lanes(worker, 2)
    stream = Stream(app)
    for _ in range(2):
        time.sleep(0.5)
        site.server.control("close_all_connections", "a test closes them")
    site.resumes(app)
    results = stream.end()
    all_end(results)
    assert stream.refused == 0
    assert sorted(site.lanes(worker)) == sorted(lanes)


def test_a_node_that_restarts_under_load_loses_nothing_that_was_confirmed(
    site: Any, kind: str, wait_until: Callable[..., Any]
) -> None:
    app = site.client(broker_publish_timeout=1.0)
    site.env["CRASH_BROKER"] = site.direct
    worker = site.worker(2)
    lanes = site.wait_for_lanes(worker, 2)
    stream = Stream(app)
    slowest = 0.0
    for n in range(RESTARTS):
        time.sleep(1.0)
        if n % 2:
            site.server.stop()
        else:
            site.server.kill()
        site.server.start()
        began, before = time.monotonic(), site.starts().total()
        wait_until(lambda before=before: site.starts().total() > before + 20, timeout=30)
        slowest = max(slowest, time.monotonic() - began)
    results = stream.end()
    all_end(results)
    assert slowest <= 5.0
    assert stream.refused, "it was never away"
    assert sorted(site.lanes(worker)) == sorted(lanes), "a lane died of it"


def test_a_node_without_memory_takes_nothing_and_says_so_while_its_workers_go_on(
    site: Any, kind: str
) -> None:
    app = site.client(broker_publish_timeout=2.0)
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, 0.005)) for n in range(300)]))
    site.server.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        began = time.monotonic()

        def send() -> None:
            # The alarm reaches a publisher with its first message.
            for _ in range(3):
                app.send_task("crash_app.work", ["refused"])

        with pytest.raises(TransportUnavailable) as caught:
            send()
        assert time.monotonic() - began <= 5.0
        assert "memory" in str(caught.value)
        # What waits there is worked off: that is what makes room.
        site.env["CRASH_BROKER"] = site.direct
        site.worker(2)
        all_end(results)
    finally:
        site.server.control("set_vm_memory_high_watermark", "0.6")
    site.resumes(app)
