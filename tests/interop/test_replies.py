"""Results over a reply queue (``rpc://``), both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import OTHER, ClientError, Place, both_workers

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def rpc(
    celery: Path, rabbitmq_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("interop-rpc")
    place = Place("rabbitmq", rabbitmq_url, "rpc://", celery, folder, prefix="rpc-")
    with both_workers(place, slots=2) as made:
        yield made


@pytest.fixture(scope="module", params=list(OTHER))
def ask(request: pytest.FixtureRequest, rpc: Place) -> Iterator[Ask]:
    with rpc.client(request.param) as client:
        yield client


def test_results_come_back_to_who_sent(ask: Ask) -> None:
    assert ask("call", task="add", args=[2, 3]) == 5
    ids = [ask("send", task="add", args=[n, n]) for n in range(20)]
    assert [ask("get", id=each) for each in reversed(ids)] == [2 * n for n in reversed(range(20))]


def test_every_type_comes_back_as_what_it_was(ask: Ask) -> None:
    assert ask("same")


def test_a_failure_is_raised_with_its_traceback(ask: Ask) -> None:
    failed = ask("send", task="fail", args=["colour"])
    with pytest.raises(ClientError) as caught:
        ask("get", id=failed)
    assert (caught.value.name, caught.value.arguments) == ("ValueError", ["colour", "42"])
    assert "raise ValueError(text, 42)" in ask("state", id=failed)["traceback"]


def test_a_retried_task_answers_once_it_ended(ask: Ask) -> None:
    assert ask("call", task="again", args=[2]) == 2


def test_what_is_for_later_answers_later(ask: Ask) -> None:
    assert ask("call", task="add", args=[1, 1], options={"countdown": 0.5}) == 2


def test_a_hard_limit_is_told(ask: Ask) -> None:
    with pytest.raises(ClientError) as caught:
        ask("call", task="nap", args=[20], options={"time_limit": 1})
    assert caught.value.name == "TimeLimitExceeded"


def test_the_last_step_of_a_chain_answers(ask: Ask) -> None:
    assert ask("get", id=ask("send_chain")) == 113
