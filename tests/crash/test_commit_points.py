"""Killed at every named point of a commit: nothing is lost, and with the atomic commit
nothing stands twice."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(120)]

N = 60


@pytest.mark.parametrize("point", ["before-store", "after-store", "after-publish", "after-settle"])
def test_three_steps(crash: Any, point: str) -> None:
    crash.env["CRASH_KILL_AT"] = f"{point}:2:{crash.path}/killed"
    crash.env["CRASH_BACKEND"] = crash.apart
    app = crash.client()
    plain = [app.send_task("crash_app.work", [n, 0.002]) for n in range(N)]
    retried = [app.send_task("crash_app.retries_once", [f"r{n}"]) for n in range(N)]
    crash.worker(2)
    for n, result in enumerate(plain):
        assert result.get(timeout=30) == n
    for n, result in enumerate(retried):
        assert result.get(timeout=30) == f"r{n}"
    assert (crash.path / "killed").exists(), "the point was never reached"


@pytest.mark.brokers("sqlite", "redis")
@pytest.mark.parametrize("point", ["before-store", "after-commit"])
def test_one_atomic_commit(crash: Any, point: str) -> None:
    crash.env["CRASH_KILL_AT"] = f"{point}:2:{crash.path}/killed"
    app = crash.client()
    plain = [app.send_task("crash_app.work", [n, 0.002]) for n in range(N)]
    retried = [app.send_task("crash_app.retries_once", [f"r{n}"]) for n in range(N)]
    crash.worker(2)
    for n, result in enumerate(plain):
        assert result.get(timeout=30) == n
    for n, result in enumerate(retried):
        assert result.get(timeout=30) == f"r{n}"
    assert (crash.path / "killed").exists(), "the point was never reached"
    # What had ended before the kill stood in the journal, so nothing ran again.
    starts = crash.starts()
    assert {starts[str(n)] for n in range(N)} == {1}
    assert {starts[f"r{n}"] for n in range(N)} == {2}


@pytest.mark.brokers("redis")
@pytest.mark.parametrize("point", ["before-answer", "after-answer"])
@pytest.mark.parametrize("nth", [1, 4])
def test_a_commit_beside_which_others_run(crash: Any, point: str, nth: int) -> None:
    crash.env["CRASH_KILL_AT"] = f"{point}:{nth}:{crash.path}/killed"
    app = crash.client()
    work = app.signature("crash_app.work")
    results = list(app.publish([work.clone(args=(n, 0.001)) for n in range(1500)]))
    crash.worker(1)
    for n, result in enumerate(results):
        assert result.get(timeout=30) == n
    assert (crash.path / "killed").exists(), "no batch ran beside a commit"
    # Both batches had ended, and stood in the journal.
    assert set(crash.starts().values()) == {1}
