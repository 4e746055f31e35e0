"""A process that a task forked has its parent's sockets, and must not keep them open."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from caraway import Caraway
from caraway.message import Message, Owner, Publication, Queue
from caraway.testing.servers import Server


@pytest.fixture
def app(rabbitmq: Server) -> Any:
    made = Caraway("forks", broker=rabbitmq.url, set_as_current=False)
    yield made
    made.transport.delete("forks")
    made.close()


def test_a_grandchild_that_lives_on_hides_no_death(app: Any) -> None:
    app.transport.declare([Queue(name="forks")])
    app.transport.publish([Publication(Message(b"", {"id": "one"}), "forks")])
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        # It holds a message, forks as a task does that starts a daemon, and is killed.
        try:
            app.forget_connections()
            owner = Owner(id="child", worker="w", host="h", pid=os.getpid(), lease=30, tasks=())
            held = app.transport.consume([Queue(name="forks")], owner).fetch(1, 5.0)
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(20)
                os._exit(0)
            os.write(tell, f"{len(held)} {grandchild}".encode())
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    os.waitpid(child, 0)
    count, grandchild = map(int, os.read(told, 100).split())
    os.close(told)
    os.close(tell)
    try:
        assert count == 1
        owner = Owner(id="heir", worker="w", host="h", pid=os.getpid(), lease=30, tasks=())
        consumer = app.transport.consume([Queue(name="forks")], owner)
        (again,) = consumer.fetch(1, 5.0)
        assert again.message.headers["id"] == "one"
        consumer.close()
    finally:
        os.kill(grandchild, signal.SIGKILL)
