"""The bare loop: what RabbitMQ, py-amqp and this Python can do, with nothing of a task queue.

Plain code over py-amqp: protocol 2 messages, persistent, in one durable classic queue as
Celery declares it, every publish confirmed.  Consumed with a prefetch of 1,000 and one
acknowledgement for 100; decoded, called; once without results, which is the default on
RabbitMQ, and once with each result sent to a reply queue.  No delays, priorities, dead
letters, poison limit, heartbeats, or a second process.  Caraway's figures are ratios to
this one's.

py-amqp spends most of its time on the seventeen headers of such a message.  The figures of
``plain`` are those of the same loop over the same bodies without any headers: what the client
can do at all, though no task queue could read them.

``python -m bench.bare_amqp URL [n]`` prints tasks (messages) per second of each step.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec

from bench.bare_sqlite import BODY, headers, meta, noop
from caraway.protocol.ids import new_id

BATCH = 500
"""Messages between two waits for confirms."""
PREFETCH = 1000
ACK = 100
"""Messages an acknowledgement."""
QUEUE, REPLIES = "bare", "bare-replies"


def connect(url: str) -> Any:
    """An open connection of py-amqp's."""
    from amqp import Connection

    parts = urlsplit(url)
    connection = Connection(
        f"{parts.hostname}:{parts.port}",
        unquote(parts.username or "guest"),
        unquote(parts.password or "guest"),
        virtual_host=unquote(parts.path[1:]) or "/",
    )
    connection.connect()
    return connection


def message(task_id: str, *, plain: bool = False) -> Any:
    """A task as Celery publishes it; only its body if ``plain``."""
    from amqp import Message

    if plain:
        return Message(BODY, delivery_mode=2)
    return Message(
        BODY,
        content_type="application/json",
        content_encoding="utf-8",
        application_headers=headers(task_id),
        correlation_id=task_id,
        reply_to=REPLIES,
        delivery_mode=2,
        priority=0,
    )


class Confirms:
    """Counts what the broker has confirmed on a channel."""

    def __init__(self, channel: Any) -> None:
        self.sent = 0
        self._all_to = 0
        self._more: set[int] = set()
        self._connection = channel.connection
        channel.confirm_select()
        channel.events["basic_ack"].add(self._ack)

    def _ack(self, tag: int, multiple: object) -> None:
        # single ones may come in any order
        if multiple:
            self._all_to = max(self._all_to, tag)
            self._more = {one for one in self._more if one > self._all_to}
        else:
            self._more.add(tag)
        while self._all_to + 1 in self._more:
            self._all_to += 1
            self._more.remove(self._all_to)

    def wait(self) -> None:
        """Until all is confirmed."""
        while self._all_to < self.sent:
            self._connection.drain_events(timeout=30)


def publish_one(channel: Any, confirms: Confirms, n: int) -> float:
    """Messages a second, each built, sent and confirmed by itself."""
    start = time.perf_counter()
    for _ in range(n):
        channel.basic_publish(message(new_id()), "", QUEUE)
        confirms.sent += 1
        confirms.wait()
    return n / (time.perf_counter() - start)


def publish(channel: Any, confirms: Confirms, n: int, *, plain: bool = False) -> float:
    """Messages a second, confirmed by batches."""
    start = time.perf_counter()
    for first in range(0, n, BATCH):
        for _ in range(min(BATCH, n - first)):
            channel.basic_publish(message(new_id(), plain=plain), "", QUEUE)
            confirms.sent += 1
        confirms.wait()
    return n / (time.perf_counter() - start)


def drain(connection: Any, n: int, task: Callable[..., object], *, replies: bool) -> float:
    """Tasks a second: take, decode, call, send the result if ``replies``, acknowledge."""
    from amqp import Message

    channel = connection.channel()
    channel.basic_qos(prefetch_size=0, prefetch_count=PREFETCH, a_global=False)
    confirms = Confirms(channel) if replies else None
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    start = time.perf_counter()
    # not run in the callback: py-amqp reads, and calls back, whenever it publishes
    inbox: deque[Any] = deque()
    channel.basic_consume(QUEUE, callback=inbox.append)
    done = 0
    while done < n:
        connection.drain_events(timeout=30)
        while inbox:
            found = inbox.popleft()
            args, kwargs, _ = decode(found.body)
            task_id = found.properties.get("correlation_id", "")
            result = encode(meta(task_id, task(*args, **kwargs)))
            if confirms is not None:
                reply = Message(
                    result,
                    content_type="application/json",
                    content_encoding="utf-8",
                    correlation_id=task_id,
                    delivery_mode=1,
                )
                channel.basic_publish(reply, "", found.properties["reply_to"])
                confirms.sent += 1
            done += 1
            if done % ACK == 0 or done == n:
                channel.basic_ack(found.delivery_tag, multiple=True)
    if confirms is not None:
        confirms.wait()
    took = time.perf_counter() - start
    channel.close()
    return n / took


def run(url: str, n: int = 50_000) -> dict[str, float]:
    """Rates per second of each step."""
    connection = connect(url)
    try:
        channel = connection.channel()
        confirms = Confirms(channel)
        for name in (QUEUE, REPLIES):
            channel.queue_declare(name, durable=name == QUEUE, auto_delete=False)
        bulk = publish(channel, confirms, n)
        rate = drain(connection, n, noop, replies=False)
        publish(channel, confirms, n)
        results = drain(connection, n, noop, replies=True)
        channel.queue_purge(REPLIES)
        plain_bulk = publish(channel, confirms, n, plain=True)
        plain_rate = drain(connection, n, noop, replies=False)
        single = publish_one(channel, confirms, min(n, 2_000))
        for name in (QUEUE, REPLIES):
            channel.queue_delete(name)
    finally:
        connection.close()
    return {
        "publish": bulk, "publish_one": single, "drain": rate, "drain_results": results,
        "plain_publish": plain_bulk, "plain_drain": plain_rate,
    }  # fmt: skip


if __name__ == "__main__":
    for name, value in run(sys.argv[1], int((sys.argv[2:] or ["50000"])[0])).items():
        print(f"{name:13} {value:12,.0f} /s")
