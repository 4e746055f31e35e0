"""A second signal, and what it gives back."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]


@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio"])
@pytest.mark.parametrize("crash", [{"CRASH_LEASE": "60"}], indirect=True)
def test_what_ran_runs_again_uncounted_and_has_not_failed(
    crash: Any, pool: str, wait_until: Callable[..., Any]
) -> None:
    app = crash.client()
    result = app.send_task("crash_app.work", ["long", 8])
    worker = crash.worker(1, pool)
    wait_until(lambda: crash.starts()["long"] == 1)
    worker.terminate()
    time.sleep(1.0)  # two signals at once are one
    worker.terminate()
    wait_until(lambda: app.transport.stats(["celery"])[0].ready == 1)
    if crash.kind != "rabbitmq":  # which shows nobody what waits
        (waiting,) = app.transport.peek("celery")
        assert waiting.attempt == 0, "our stop isn't the task's fault"
    assert result.state == "PENDING"
    crash.worker(1, pool)
    assert result.get(timeout=30) == "long"
