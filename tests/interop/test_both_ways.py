"""A client of one kind and a worker of the other: Celery 5.7 and Caraway, both ways."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import ClientError, Pair, wait_for


def test_results_come_back(pair: Pair) -> None:
    assert pair.ask("call", task="add", args=[2, 3]) == 5
    assert pair.ask("call", task="echo", args=[1], kwargs={"é": [None]}) == [[1], {"é": [None]}]


def test_every_type_of_celerys_json_arrives_as_itself(pair: Pair) -> None:
    assert pair.ask("call", task="kinds", every=True) == pair.ask("every")


def test_every_type_comes_back_as_what_it_was(pair: Pair) -> None:
    assert pair.ask("same")


def test_a_failure_is_raised_as_its_class_with_its_traceback(pair: Pair) -> None:
    failed = pair.ask("send", task="fail", args=["colour"])
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=failed)
    assert (caught.value.name, caught.value.module) == ("ValueError", "builtins")
    assert caught.value.arguments == ["colour", "42"]
    found = pair.ask("state", id=failed)
    assert found["state"] == "FAILURE"
    assert found["traceback"].startswith("Traceback (most recent call last):")
    assert "raise ValueError(text, 42)" in found["traceback"]


def test_an_exception_that_the_client_does_not_have_keeps_its_name(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("call", task="sour", args=["milk"])
    assert caught.value.name == "Sour"
    assert caught.value.arguments == ["milk"]


def test_a_retry_runs_again_under_its_id(pair: Pair) -> None:
    assert pair.ask("call", task="again", args=[2]) == 2


def test_a_task_without_retries_left_fails_with_what_it_retried_for(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("call", task="exhaust")
    assert (caught.value.name, caught.value.arguments) == ("KeyError", ["worn"])


def test_queue_priority_limits_and_headers_reach_the_task(pair: Pair) -> None:
    options = {
        "queue": f"{pair.queue}.slow", "priority": 6, "time_limit": 30, "soft_time_limit": 20,
        "headers": {"x": "y"}, "expires": 600,
    }  # fmt: skip
    found = pair.ask("call", task="request", options=options)
    assert found["routing_key"] == f"{pair.queue}.slow"
    assert found["timelimit"] == [30, 20]
    assert found["priority"] == 6
    assert (found["x"], found["expires"], found["reply_to"]) == ("y", True, True)
    assert found["root_id"] == found["id"]
    assert found["parent_id"] is None


def test_a_soft_limit_of_the_message_is_kept(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=pair.slow["soft"])
    assert caught.value.name == "SoftTimeLimitExceeded"


def test_a_hard_limit_of_the_message_is_kept(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=pair.slow["hard"])
    assert caught.value.name == "TimeLimitExceeded"


def test_a_running_task_is_terminated(pair: Pair) -> None:
    pair.ask("revoke", id=pair.slow["terminated"], terminate=True)
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=pair.slow["terminated"])
    assert caught.value.name == "TaskRevokedError"
    assert pair.ask("state", id=pair.slow["terminated"])["state"] == "REVOKED"


@pytest.mark.parametrize("option", ["countdown", "eta"])
def test_what_is_for_later_waits(pair: Pair, option: str) -> None:
    assert pair.ask("get", id=pair.slow[option]) == "x"
    ran = (pair.slow["folder"] / option).stat().st_mtime - pair.slow["sent"]
    assert 0.9 < ran < 8


def test_what_has_expired_does_not_run(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=pair.slow["expired"])
    assert caught.value.name == "TaskRevokedError"
    assert not (pair.slow["folder"] / "expired").exists()


def test_what_was_revoked_does_not_run(pair: Pair) -> None:
    with pytest.raises(ClientError) as caught:
        pair.ask("get", id=pair.slow["revoked"])
    assert caught.value.name == "TaskRevokedError"
    assert not (pair.slow["folder"] / "revoked").exists()


def test_an_ignored_result_is_not_stored(pair: Pair) -> None:
    wait_for((pair.slow["folder"] / "ignored").exists)
    # Whatever follows it in the same worker was stored after it.
    assert pair.ask("call", task="add", args=[1, 1]) == 2
    assert pair.ask("state", id=pair.slow["ignored"])["state"] == "PENDING"


def test_a_link_and_an_errback_follow(pair: Pair, tmp_path: Path) -> None:
    linked, failed = tmp_path / "linked", tmp_path / "failed"

    def link(name: str, *args: Any, immutable: bool = False) -> dict[str, Any]:
        return {
            "task": f"side.{name}", "args": list(args), "kwargs": {}, "options": {},
            "subtask_type": None, "immutable": immutable,
        }  # fmt: skip

    options = {"link": [link("mark", str(linked), "linked", immutable=True)]}
    assert pair.ask("call", task="add", args=[1, 2], options=options) == 3
    wait_for(linked.exists)
    options = {"link_error": [link("errmark", str(failed))]}
    task_id = pair.ask("send", task="fail", args=["x"], options=options)
    wait_for(failed.exists)
    assert wait_for(failed.read_text).split() == [task_id]


def test_a_chain_hands_its_values_on(pair: Pair) -> None:
    assert pair.ask("get", id=pair.ask("send_chain")) == 113


@pytest.mark.parametrize("which", ["map", "starmap", "accumulate", "backend_cleanup"])
def test_celerys_own_tasks_are_there(pair: Pair, which: str) -> None:
    wanted = {
        "map": [3, 7], "starmap": [3, 7], "accumulate": [1, 2, 3], "backend_cleanup": None,
    }  # fmt: skip
    assert pair.ask("builtin", which=which) == wanted[which]
