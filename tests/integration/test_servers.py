"""The servers that other tests run against."""

from __future__ import annotations

import os
import socket

import pytest

from caraway.testing.rabbitmq import answers
from caraway.testing.servers import server


def ask(port: int, *words: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as connection:
        connection.sendall(" ".join(words).encode() + b"\r\n")
        return connection.recv(100)


def test_a_redis_server_takes_options_and_can_be_restarted_on_its_port() -> None:
    with server("redis", config=["--appendonly", "yes", "--appendfsync", "always"]) as redis:
        assert ask(redis.port, "SET", "a", "1") == b"+OK\r\n"
        for hard in (False, True):
            redis.restart(hard=hard)
            assert ask(redis.port, "GET", "a") == b"$1\r\n1\r\n"
        redis.stop()
        with pytest.raises(ConnectionRefusedError):
            ask(redis.port, "PING")


def test_a_rabbitmq_node_runs_by_itself_and_leaves_nothing() -> None:
    with server("rabbitmq", config=["consumer_timeout = 5000"]) as node:
        assert answers(node.port)
        assert "5000" in node.control("eval", "application:get_env(rabbit, consumer_timeout).")
        node.restart()
        assert answers(node.port)
        pid = node.pid
    with pytest.raises(ProcessLookupError):
        os.killpg(pid, 0)
