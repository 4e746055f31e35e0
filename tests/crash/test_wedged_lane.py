"""A lane that gives no sign of life, and runs nothing."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(120)]


def test_it_is_red_then_killed_and_replaced(crash: Any, wait_until: Callable[..., Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    crash.env["CARAWAY_WORKER_HEALTH_ADDRESS"] = f"127.0.0.1:{port}"
    crash.env["CARAWAY_WORKER_STUCK_TIMEOUT"] = "5"
    crash.env["CRASH_WEDGE"] = str(crash.path / "wedged")
    app = crash.client()
    worker = crash.worker(1)
    (first,) = crash.wait_for_lanes(worker, 1)

    def health() -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                json.loads(answer.read())
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    wait_until(lambda: health() == 200)
    (crash.path / "wedged").touch()
    result = app.send_task("crash_app.work", [1])
    wait_until(lambda: health() == 503)
    wait_until(lambda: crash.lanes(worker) not in ([], [first]))
    wait_until(lambda: health() == 200)
    assert result.get(timeout=20) == 1
