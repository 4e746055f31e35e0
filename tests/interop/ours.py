"""Caraway's half of the interop tests: the same tasks, the same orders as `celery_side.py`."""

from __future__ import annotations

import datetime
import decimal
import json
import os
import signal
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from caraway import Caraway
from caraway.result import AsyncResult

app = Caraway(
    "side",
    broker=os.environ["INTEROP_BROKER"],
    backend=os.environ["INTEROP_BACKEND"],
    task_default_queue=os.environ["INTEROP_QUEUE"],
    broker_transport_options=json.loads(os.environ.get("INTEROP_OPTIONS", "{}")),
    # Processes are killed at random here: a task that dies with three is not poisonous.
    task_max_deliveries=50,
    **json.loads(os.environ.get("INTEROP_SETTINGS", "{}")),
)


class Sour(Exception):
    """An exception of the user's own."""


@app.task(name="side.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="side.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@app.task(name="side.kinds")
def kinds(*args: Any) -> list[str]:
    return [type(arg).__name__ for arg in args]


@app.task(name="side.every")
def every() -> list[Any]:
    return EVERY


@app.task(name="side.fail")
def fail(text: str) -> None:
    raise ValueError(text, 42)


@app.task(name="side.sour")
def sour(text: str) -> None:
    raise Sour(text)


@app.task(name="side.again", bind=True, max_retries=3)
def again(self: Any, until: int) -> int:
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(name="side.exhaust", bind=True, max_retries=1)
def exhaust(self: Any) -> None:
    raise self.retry(exc=KeyError("worn"), countdown=0.05)


@app.task(name="side.nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="side.mark")
def mark(path: str, text: str) -> str:
    with Path(path).open("a") as file:
        file.write(f"{text}\n")
    return text


@app.task(name="side.work", ignore_result=True)
def work(path: str, n: int) -> None:
    time.sleep(0.02)
    mark(path, str(n))


@app.task(name="side.errmark")
def errmark(task_id: str, path: str) -> None:
    mark(path, task_id)


@app.task(name="side.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task(name="side.die_once")
def die_once(path: str, value: Any) -> Any:
    """End this process the hard way at the first run."""
    if not Path(path).exists():
        mark(path, "died")
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@app.task(name="side.request", bind=True)
def request(self: Any) -> dict[str, Any]:
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
        "x": self.request.get("x"),
    }


EVERY = [
    None, True, 1, -2.5, "carrot \u2028 \U0001f955", [1, [2]], {"a": {"b": None}},
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, datetime.UTC),
    datetime.date(2026, 1, 2), datetime.time(3, 4, 5), decimal.Decimal("1.10"),
    uuid.UUID(int=7), b"bytes", b"\x00\xff",
]  # fmt: skip


def client() -> None:
    """Do what each line says, answer with a line."""
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = {"ok": ORDERS[order.pop("do")](**order)}
        except Exception as exc:
            answer = {
                "error": type(exc).__name__,
                "module": type(exc).__module__,
                "args": [str(arg) for arg in exc.args],
            }
        print(json.dumps(answer, default=str), flush=True)
    app.close()


RESULTS: dict[str, AsyncResult[Any]] = {}
"""By id: with `rpc://`, a result can only be read by who sent the task."""


def keep(result: AsyncResult[Any]) -> str:
    RESULTS[result.id] = result
    return result.id


def get(id: str, timeout: float = 20) -> Any:  # noqa: A002 - the orders' name
    return (RESULTS.get(id) or app.AsyncResult(id)).get(timeout=timeout)


def send(
    task: str, args: Any = (), kwargs: Any = None, options: Any = None, *, every: bool = False
) -> str:
    found = app.tasks[f"side.{task}"]
    return keep(found.apply_async(EVERY if every else args, kwargs or {}, **prepared(options)))


def send_work(path: str, numbers: list[int]) -> None:
    work.delay_many([(path, n) for n in numbers])


def call(task: str, **order: Any) -> Any:
    return get(send(task, **order))


def prepared(options: Any) -> dict[str, Any]:
    """Options with what JSON can't hold: dates."""
    options = dict(options or {})
    if "eta" in options:
        options["eta"] = datetime.datetime.fromtimestamp(options["eta"], datetime.UTC)
    return options


def state(id: str) -> dict[str, Any]:  # noqa: A002
    found = RESULTS.get(id) or app.AsyncResult(id)
    return {"state": found.state, "traceback": found.traceback, "result": repr(found.result)}


def same() -> bool:
    """Whether what comes back of every type equals what it was."""
    return bool(every.apply_async().get(timeout=20) == EVERY)


def send_chain() -> str:
    """A chain, as it stands in the message of its first step."""
    last, middle = add.s(100), add.s(10)
    result = last.freeze()
    add.apply_async((1, 2), chain=[last, middle])
    return keep(result)


def builtin(which: str) -> Any:
    sum_them, add_them = dict(total.s()), dict(add.s())
    names = {
        "map": ("celery.map", (), {"task": sum_them, "it": [[1, 2], [3, 4]]}),
        "starmap": ("celery.starmap", (), {"task": add_them, "it": [[1, 2], [3, 4]]}),
        "accumulate": ("celery.accumulate", (1, 2, 3), {}),
        "backend_cleanup": ("celery.backend_cleanup", (), {}),
    }
    name, args, kwargs = names[which]
    return app.send_task(name, args, kwargs).get(timeout=20)


def revoke(id: str, *, terminate: bool = False) -> None:  # noqa: A002
    (RESULTS.get(id) or app.AsyncResult(id)).revoke(terminate=terminate)


def inspect(command: str, timeout: float = 2) -> Any:
    return app.control.inspect(command, timeout=timeout)


ORDERS: dict[str, Any] = {
    each.__name__: each
    for each in (
        call, send, send_work, get, state, same, send_chain, builtin, revoke, inspect,
    )
} | {"every": lambda: [type(value).__name__ for value in EVERY]}  # fmt: skip


if __name__ == "__main__":
    client()
