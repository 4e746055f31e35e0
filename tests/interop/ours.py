"""Caraway's half of the interop tests: the same tasks under the same names."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from caraway import Caraway

app = Caraway("side", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"])


@app.task(name="side.add")
def add(x: Any, y: Any) -> Any:
    return x + y


@app.task(name="side.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


@app.task(name="side.kinds")
def kinds(*args: Any) -> list[str]:
    return [type(arg).__name__ for arg in args]


@app.task(name="side.fail")
def fail(text: str) -> None:
    raise ValueError(text, 42)


@app.task(name="side.again", bind=True, max_retries=3)
def again(self: Any, until: int) -> int:
    if self.request.retries < until:
        raise self.retry(countdown=0.1)
    return int(self.request.retries)


@app.task(name="side.nap")
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@app.task(name="side.mark")
def mark(path: str, text: str) -> str:
    with Path(path).open("a") as file:
        file.write(text + "\n")
    return text


@app.task(name="side.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


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
        "x": (self.request.headers or {}).get("x"),
    }
