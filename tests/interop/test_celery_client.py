"""The real Celery's client, and a Caraway worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module", autouse=True)
def worker(place: Any) -> Iterator[Any]:
    with place.caraway_worker("-Q", "celery,slow") as process:
        yield process


@pytest.fixture(scope="module")
def ask(place: Any) -> Iterator[Any]:
    with place.celery_client() as client:
        yield client


def test_results_come_back(ask: Any) -> None:
    assert ask("call", task="add", args=[2, 3]) == 5
    assert ask("call", task="echo", args=[1], kwargs={"é": [None]}) == [[1], {"é": [None]}]


def test_every_type_of_celerys_json_arrives_as_itself(ask: Any) -> None:
    assert ask("call", task="kinds", every=True) == ask("every")


def test_a_failure_is_raised_as_its_class_with_its_traceback(ask: Any, celery_error: Any) -> None:
    with pytest.raises(celery_error) as caught:
        ask("call", task="fail", args=["colour"])
    assert caught.value.answer["error"] == "ValueError"
    assert caught.value.answer["args"] == ["colour", "42"]
    task_id = ask("call", task="fail", args=["x"], wait=False)
    deadline = time.monotonic() + 10
    while (found := ask("result", id=task_id))["state"] != "FAILURE":
        assert time.monotonic() < deadline
    assert "raise ValueError(text, 42)" in found["traceback"]


def test_a_retry_runs_again_under_its_id(ask: Any) -> None:
    assert ask("call", task="again", args=[2]) == 2


def test_eta_and_countdown_are_kept(ask: Any) -> None:
    begin = time.monotonic()
    assert ask("call", task="add", args=[1, 1], options={"countdown": 1.0}) == 2
    assert 0.9 < time.monotonic() - begin < 5


def test_what_has_expired_does_not_run(ask: Any, celery_error: Any, tmp_path: Path) -> None:
    task_id = ask(
        "call", task="mark", args=[str(tmp_path / "m"), "late"], wait=False,
        options={"expires": 0.2, "countdown": 0.8},
    )  # fmt: skip
    with pytest.raises(celery_error) as caught:
        ask("get", id=task_id)
    assert caught.value.answer["error"] == "TaskRevokedError"
    assert not (tmp_path / "m").exists()


def test_queue_priority_limits_and_headers_reach_the_task(ask: Any) -> None:
    options = {
        "queue": "slow", "priority": 6, "time_limit": 30, "soft_time_limit": 20,
        "headers": {"x": "y"}, "expires": 600,
    }  # fmt: skip
    found = ask("call", task="request", options=options)
    assert found["routing_key"] == "slow"
    assert found["timelimit"] == [30, 20]
    assert found["priority"] == 6
    assert (found["x"], found["expires"], found["reply_to"]) == ("y", True, True)
    assert found["root_id"] == found["id"]


def test_an_ignored_result_is_not_stored(ask: Any, tmp_path: Path) -> None:
    path = tmp_path / "m"
    options = {"ignore_result": True}
    task_id = ask("call", task="mark", args=[str(path), "x"], options=options, wait=False)
    wait_for(path)
    time.sleep(0.2)
    assert ask("result", id=task_id)["state"] == "PENDING"


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_soft_limit_of_the_message_is_kept(ask: Any, celery_error: Any) -> None:
    with pytest.raises(celery_error) as caught:
        ask("call", task="nap", args=[10], options={"soft_time_limit": 1})
    assert caught.value.answer["error"] == "SoftTimeLimitExceeded"


def test_a_hard_limit_of_the_message_is_kept(ask: Any, celery_error: Any) -> None:
    with pytest.raises(celery_error) as caught:
        ask("call", task="nap", args=[20], options={"time_limit": 1})
    assert caught.value.answer["error"] == "TimeLimitExceeded"


def test_a_queued_task_is_revoked(ask: Any, celery_error: Any, tmp_path: Path) -> None:
    path = tmp_path / "m"
    options = {"countdown": 1.5}
    task_id = ask("call", task="mark", args=[str(path), "x"], options=options, wait=False)
    ask("revoke", id=task_id)
    with pytest.raises(celery_error) as caught:
        ask("get", id=task_id)
    assert caught.value.answer["error"] == "TaskRevokedError"
    assert not path.exists()


def test_a_running_task_is_terminated(ask: Any, celery_error: Any) -> None:
    task_id = ask("call", task="nap", args=[30], wait=False)
    time.sleep(0.7)
    ask("revoke", id=task_id, terminate=True)
    with pytest.raises(celery_error) as caught:
        ask("get", id=task_id)
    assert caught.value.answer["error"] == "TaskRevokedError"


def test_links_errbacks_and_chains_follow(ask: Any, tmp_path: Path) -> None:
    assert ask("link", path=str(tmp_path / "linked")) == 3
    wait_for(tmp_path / "linked")
    ask("errback", path=str(tmp_path / "failed"))
    wait_for(tmp_path / "failed")
    assert ask("chain") == 113


def test_a_group_comes_back_in_order(ask: Any) -> None:
    assert ask("group", n=20) == [2 * i for i in range(20)]


def test_a_chords_body_runs_once_with_all_results(ask: Any) -> None:
    assert ask("chord", n=10) == 90


def test_a_failed_member_fails_the_chord(ask: Any, celery_error: Any) -> None:
    with pytest.raises(celery_error) as caught:
        ask("chord_fails")
    assert caught.value.answer["error"] == "ChordError"
