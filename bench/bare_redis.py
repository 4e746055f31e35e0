"""The bare loop: what Redis, redis-py and this Python can do, with nothing of a task queue.

Plain code over redis-py with hiredis: kombu's envelopes with protocol 2 messages in one
list; 256 taken by one script that keeps them in a hash; decoded, called; results stored
and published, and messages let go, by one script.  No leases, priorities, delays, fencing,
follow-ups, waiting, or a second process.  Caraway's figures are ratios to this one's.

``python -m bench.bare_redis URL [n]`` prints tasks (messages) per second of each step.
"""

from __future__ import annotations

import base64
import binascii
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from bench.bare_sqlite import BODY, headers, meta, noop, properties
from caraway.protocol.ids import new_id

BATCH = 500
"""Messages a publish."""
FETCH = 256
"""Messages a claim."""

_TAKE = """
local got = redis.call('RPOP', KEYS[1], ARGV[1])
if not got then return {} end
local args = {}
for i = 1, #got do args[2 * i - 1] = i; args[2 * i] = got[i] end
redis.call('HSET', KEYS[2], unpack(args))
return got
"""
_DONE = """
for i = 1, #KEYS - 1 do
  redis.call('SET', KEYS[i + 1], ARGV[i], 'EX', 86400)
  redis.call('PUBLISH', KEYS[i + 1], ARGV[i])
end
redis.call('DEL', KEYS[1])
return 1
"""


def envelope(task_id: str) -> bytes:
    """A message as kombu puts it into a list."""
    return msgspec.json.encode(
        {
            "body": base64.b64encode(BODY).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers(task_id),
            "properties": {
                **properties(task_id),
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "delivery_tag": task_id,
                "body_encoding": "base64",
            },
        }
    )


def publish_one(client: Any, n: int) -> float:
    """Messages a second, each built and pushed by itself."""
    start = time.perf_counter()
    for _ in range(n):
        client.lpush("bare", envelope(new_id()))
    return n / (time.perf_counter() - start)


def publish(client: Any, n: int) -> float:
    """Messages a second, pipelined."""
    start = time.perf_counter()
    for first in range(0, n, BATCH):
        pipe = client.pipeline(transaction=False)
        for _ in range(min(BATCH, n - first)):
            pipe.lpush("bare", envelope(new_id()))
        pipe.execute()
    return n / (time.perf_counter() - start)


def drain(client: Any, task: Callable[..., object]) -> float:
    """Tasks a second: take, decode, call, store results and let go."""
    take, settle = client.register_script(_TAKE), client.register_script(_DONE)
    decode, encode = msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
    done = 0
    start = time.perf_counter()
    while payloads := take(keys=["bare", "bare-held"], args=[FETCH]):
        keys, values = ["bare-held"], []
        for payload in payloads:
            found = decode(payload)
            args, kwargs, _ = decode(binascii.a2b_base64(found["body"]))
            task_id = found["headers"]["id"]
            keys.append("celery-task-meta-" + task_id)
            values.append(encode(meta(task_id, task(*args, **kwargs))))
        settle(keys=keys, args=values)
        done += len(payloads)
    return done / (time.perf_counter() - start)


def ping(client: Any, n: int, rest: float = 0.0) -> tuple[float, float]:
    """Milliseconds of a round trip: median, 99th percentile.

    Args:
        client: connected.
        n: how many.
        rest: seconds of sleep before each, so that the server sleeps, too, as the worker does
            whose round trips are compared with these.
    """
    times = []
    for _ in range(n):
        if rest:
            time.sleep(rest)
        begin = time.perf_counter()
        client.ping()
        times.append((time.perf_counter() - begin) * 1000)
    times.sort()
    return times[n // 2], times[n * 99 // 100]


def run(url: str, n: int = 50_000) -> dict[str, float]:
    """Rates per second, and round trips in milliseconds."""
    import redis

    client: Any = redis.Redis.from_url(url)
    try:
        client.ping()
        bulk = publish(client, n)
        rate = drain(client, noop)
        single = publish_one(client, min(n, 10_000))
        client.delete("bare")
        p50, p99 = ping(client, 2_000)
        rested, rested99 = ping(client, 500, rest=0.003)
    finally:
        client.close()
    return {
        "publish": bulk, "publish_one": single, "drain": rate,
        "p50": p50, "p99": p99, "rested": rested, "rested99": rested99,
    }  # fmt: skip


if __name__ == "__main__":
    for name, value in run(sys.argv[1], int((sys.argv[2:] or ["50000"])[0])).items():
        print(f"{name:12} {value:12,.2f}")
