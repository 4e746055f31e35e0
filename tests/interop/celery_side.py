"""The real Celery's half of the interop tests: an app, and a client driven by JSON lines.

Run by the Python of an environment in which Celery is installed.  Imports nothing of
Caraway.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import sys
import time
import uuid

from celery import Celery, chain, chord, group

app = Celery("side", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"])
app.conf.update(
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=4,
    broker_transport_options=json.loads(os.environ.get("INTEROP_OPTIONS", "{}")),
    result_expires=3600,
    worker_hijack_root_logger=False,
)


@app.task(name="side.add")
def add(x, y):
    return x + y


@app.task(name="side.echo")
def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(name="side.kinds")
def kinds(*args):
    return [type(arg).__name__ for arg in args]


@app.task(name="side.fail")
def fail(text):
    raise ValueError(text, 42)


@app.task(name="side.again", bind=True, max_retries=3)
def again(self, until):
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return self.request.retries


@app.task(name="side.nap")
def nap(seconds):
    time.sleep(seconds)
    return seconds


@app.task(name="side.mark")
def mark(path, text):
    with open(path, "a") as file:
        file.write(text + "\n")
    return text


@app.task(name="side.total")
def total(numbers):
    return sum(numbers)


@app.task(name="side.request", bind=True)
def request(self):
    info = self.request.delivery_info or {}
    return {
        "id": self.request.id,
        "root_id": self.request.root_id,
        "parent_id": self.request.parent_id,
        "retries": self.request.retries,
        "reply_to": bool(self.request.reply_to),
        "routing_key": info.get("routing_key"),
        "priority": info.get("priority"),
        "timelimit": list(self.request.timelimit or []),
        "expires": bool(self.request.expires),
        "eta": bool(self.request.eta),
        "x": (self.request.headers or {}).get("x", getattr(self.request, "x", None)),
    }


EVERY = [
    None, True, 1, -2.5, "carrot \u2028 \U0001f955", [1, [2]], {"a": {"b": None}},
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC),
    datetime.date(2026, 1, 2), datetime.time(3, 4, 5), decimal.Decimal("1.10"),
    uuid.UUID(int=7), b"bytes", b"\x00\xff",
]  # fmt: skip


def client() -> None:
    """Do what each line says, answer with a line."""
    tasks = {
        task.name.removeprefix("side."): task
        for task in (add, echo, kinds, fail, again, nap, mark, total, request)
    }
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"ok": obey(order, tasks)}
        except Exception as exc:
            answer = {
                "error": type(exc).__name__,
                "module": type(exc).__module__,
                "args": [str(arg) for arg in exc.args],
            }
        print(json.dumps(answer, default=str), flush=True)


def obey(order, tasks):
    do = order["do"]
    if do == "call":
        args = EVERY if order.get("every") else order.get("args", [])
        options = order.get("options", {})
        result = tasks[order["task"]].apply_async(args, order.get("kwargs", {}), **options)
        if order.get("wait", True):
            return result.get(timeout=order.get("timeout", 20))
        return result.id
    if do == "get":
        return app.AsyncResult(order["id"]).get(timeout=order.get("timeout", 20))
    if do == "result":
        result = app.AsyncResult(order["id"])
        return {"state": result.state, "traceback": result.traceback, "result": repr(result.result)}
    if do == "every":
        return [type(value).__name__ for value in EVERY]
    if do == "chain":
        return chain(add.s(1, 2), add.s(10), add.s(100)).apply_async().get(timeout=20)
    if do == "link":
        return add.apply_async((1, 2), link=mark.si(order["path"], "linked")).get(timeout=20)
    if do == "errback":
        return fail.apply_async(("x",), link_error=mark.si(order["path"], "failed")).id
    if do == "group":
        return group(add.s(i, i) for i in range(order["n"]))().get(timeout=20)
    if do == "chord":
        return chord((add.s(i, i) for i in range(order["n"])), total.s())().get(timeout=20)
    if do == "chord_fails":
        return chord([add.s(1, 1), fail.s("member")], total.s())().get(timeout=20)
    if do == "revoke":
        app.control.revoke(order["id"], terminate=order.get("terminate", False))
        return None
    if do == "inspect":
        return getattr(app.control.inspect(timeout=order.get("timeout", 2)), order["command"])(
            *order.get("args", [])
        )
    if do == "control":
        return app.control.broadcast(
            order["command"], arguments=order.get("arguments", {}), reply=True, timeout=2
        )
    raise ValueError(do)


if __name__ == "__main__":
    client()
