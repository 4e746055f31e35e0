"""Rounds of remote control where nobody can tell how many of Celery's workers listen."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from caraway import Caraway

from .conftest import Place, wait_for

EXCHANGE = "rounds"
LONG = 30.0


@pytest.fixture
def fleet(celery: Path, rabbitmq_url: str, redis_url: str, tmp_path: Path) -> Place:
    """A place whose workers no other hears of."""
    place = Place(
        "rabbitmq", rabbitmq_url, redis_url, celery, tmp_path,
        settings={"control_exchange": EXCHANGE}, prefix="rounds-",
    )  # fmt: skip
    place.env["INTEROP_CONTROL"] = EXCHANGE
    return place


def test_a_worker_of_celery_that_nobody_ever_heard_of_is_waited_for(fleet: Place) -> None:
    """It neither asks others at its start nor says that it is there, and answers last."""
    app = Caraway("asks", broker=fleet.broker, control_exchange=EXCHANGE, set_as_current=False)
    with ExitStack() as stack:
        stack.callback(app.close)
        workers = [fleet.start("caraway", name, "-c", "1") for name in ("first", "second")]
        for worker in workers:
            stack.callback(worker.end)
        names = ["first@rounds-here", "second@rounds-here"]
        wait_for(lambda: _nodes(app.control.ping(timeout=LONG)) == names)
        began = time.monotonic()
        assert _nodes(app.control.ping(timeout=LONG)) == names
        assert time.monotonic() - began < LONG / 2

        silent = fleet.start(
            "celery", "silent", "-P", "solo",
            "--without-mingle", "--without-gossip", "--without-heartbeat",
        )  # fmt: skip
        stack.callback(silent.end)
        silent.ready()
        heard: list[Any] = []

        def hear(answer: Any) -> None:
            heard.append(answer)
            if len(heard) == 2:
                os.kill(silent.pid, signal.SIGCONT)

        os.kill(silent.pid, signal.SIGSTOP)
        # Three are all: nobody need wait for more, here.
        found = app.control.ping(timeout=LONG, callback=hear, limit=3)
        assert _nodes(found[:2]) == names
        assert found[2:] == [{"silent@rounds-here": {"ok": "pong"}}]

        silent.kill()
        wait_for(lambda: _nodes(app.control.ping(timeout=0.5)) == names)
        began = time.monotonic()
        assert _nodes(app.control.ping(timeout=LONG)) == names
        assert time.monotonic() - began < LONG / 2


def _nodes(answers: list[dict[str, Any]]) -> list[str]:
    return sorted(node for answer in answers for node in answer)
