"""Callbacks, errbacks, chains and chords of killed lanes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crash_site import MEMBERS, chord

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

N = 40


def _send(app: Any) -> None:
    work, fails = app.signature("crash_app.work"), app.signature("crash_app.fails")

    def call(name: str) -> Any:
        return app.signature("crash_app.work", args=(name,), immutable=True)

    for n in range(N):
        linked = work.clone(args=(f"w{n}", 0.002))
        linked.link(call(f"link{n}"))
        linked.apply_async(chain=[call(f"third{n}"), call(f"second{n}")])
        failing = fails.clone(args=(f"f{n}",))
        failing.link_error(call(f"errback{n}"))
        failing.apply_async()


KINDS = ("w", "link", "second", "third", "f", "errback")


@pytest.mark.brokers("sqlite", "redis")
@pytest.mark.parametrize("point", ["before-store", "after-commit"])
def test_each_follows_exactly_once(crash: Any, point: str, wait_until: Callable[..., Any]) -> None:
    crash.env["CRASH_KILL_AT"] = f"{point}:3:{crash.path}/killed"
    app = crash.client()
    _send(app)
    crash.worker(2)
    wanted = {f"{kind}{n}" for kind in KINDS for n in range(N)}
    wait_until(lambda: wanted <= set(crash.starts()), timeout=60)
    wait_until(lambda: app.transport.stats(["celery"])[0].held == 0)
    assert (crash.path / "killed").exists(), "the point was never reached"
    assert crash.starts() == dict.fromkeys(wanted, 1)


@pytest.mark.parametrize("point", ["before-store", "after-store", "after-publish", "after-settle"])
def test_none_is_missing_where_store_and_broker_are_apart_and_all_die(
    crash: Any, point: str, wait_until: Callable[..., Any]
) -> None:
    """Lane and supervisor at once: nobody is left who knows what had ended."""
    crash.env["CRASH_KILL_AT"] = f"{point}:3:{crash.path}/killed"
    crash.env["CRASH_KILL_ALL"] = "1"
    crash.env["CRASH_BACKEND"] = crash.apart
    app = crash.client()
    _send(app)
    first = crash.worker(2)
    first.wait(60)
    assert (crash.path / "killed").exists(), "the point was never reached"
    crash.worker(2)
    wanted = {f"{kind}{n}" for kind in KINDS for n in range(N)}
    wait_until(lambda: wanted <= set(crash.starts()), timeout=60)


@pytest.mark.brokers("redis")
@pytest.mark.parametrize("point", ["before-store", "after-parts", "after-commit"])
def test_the_body_of_a_chord_runs_exactly_once(
    crash: Any, point: str, wait_until: Callable[..., Any]
) -> None:
    crash.env["CRASH_KILL_AT"] = f"{point}:3:{crash.path}/killed"
    app = crash.client()
    app.transport.publish([each for n in range(N) for each in chord(n)])
    crash.worker(2)
    wanted = {f"body{n}" for n in range(N)}
    wanted |= {f"member{n}-{at}" for n in range(N) for at in range(MEMBERS)}
    wait_until(lambda: wanted <= set(crash.starts()), timeout=60)
    wait_until(lambda: app.transport.stats(["celery"])[0].held == 0)
    assert (crash.path / "killed").exists(), "the point was never reached"
    assert crash.starts() == dict.fromkeys(wanted, 1)
