"""A list of brokers the first of which isn't there, or goes away."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from caraway import Caraway
from caraway.testing.proxy import Proxy
from caraway.testing.servers import Server, free_port

QUICK = 2.0
"""Seconds; whoever waits for one broker alone goes on trying for five."""


@pytest.fixture
def proxy(rabbitmq: Server) -> Iterator[Proxy]:
    with Proxy(rabbitmq.port) as made:
        yield made


def app_on(*urls: str) -> Caraway:
    return Caraway("list", broker=";".join(urls), set_as_current=False)


def test_whoever_is_not_there_costs_no_time(rabbitmq: Server) -> None:
    app = app_on(f"amqp://guest:guest@127.0.0.1:{free_port()}//", rabbitmq.url)
    began = time.monotonic()
    app.send_task("nothing", queue="list")
    assert time.monotonic() - began < QUICK
    app.close()


def test_whoever_goes_away_costs_no_time(rabbitmq: Server, proxy: Proxy) -> None:
    app = app_on(f"amqp://guest:guest@127.0.0.1:{proxy.port}//", rabbitmq.url)
    app.send_task("nothing", queue="list")
    proxy.refuse()
    proxy.reset()
    began = time.monotonic()
    app.send_task("nothing", queue="list")
    assert time.monotonic() - began < QUICK
    app.close()
