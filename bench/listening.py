"""Somebody who listens to task events, as a dashboard does, and throws them away.

Events are measured with a listener, since a worker whom nobody hears could leave them out; and
what came is counted, so that a worker that sends none isn't taken for one that is fast.
"""

from __future__ import annotations

import os
import socket
import threading
from typing import Any
from urllib.parse import urlsplit


class Listener:
    """Counts the bytes of the events of all workers on the job's broker, from now on."""

    def __init__(self) -> None:
        self._bytes = 0
        self._ended = False
        if os.environ.get("BENCH_REDIS"):
            self._redis(os.environ["BENCH_REDIS"])
            read = self._read_redis
        else:
            self._amqp(os.environ["BENCH_AMQP"])
            read = self._read_amqp
        self._thread = threading.Thread(target=read, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Listen no more; return how many bytes came."""
        self._ended = True
        self._thread.join(10)
        return self._bytes

    # -- Redis: Celery's events are published to /<database>.celeryev/<routing key> ----------

    def _redis(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=5)
        self._socket.sendall(b"PSUBSCRIBE *celeryev*\r\n")
        self._socket.recv(1024)
        self._socket.settimeout(0.2)

    def _read_redis(self) -> None:
        while not self._ended:
            try:
                self._bytes += len(self._socket.recv(256 * 1024))
            except TimeoutError:
                continue
        self._socket.close()

    # -- RabbitMQ: a queue of our own, bound to the exchange of events -----------------------

    def _amqp(self, url: str) -> None:
        from bench.bare_amqp import connect

        self._connection = connect(url)
        channel: Any = self._connection.channel()
        channel.exchange_declare("celeryev", "topic", durable=True, auto_delete=False)
        name = channel.queue_declare("", exclusive=True).queue
        channel.queue_bind(name, "celeryev", "#")
        channel.basic_consume(name, no_ack=True, callback=self._count)

    def _count(self, message: Any) -> None:
        self._bytes += len(message.body)

    def _read_amqp(self) -> None:
        while not self._ended:
            try:
                self._connection.drain_events(timeout=0.2)
            except TimeoutError:
                continue
        self._connection.close()
