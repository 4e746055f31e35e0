"""Workflows of Celery's client on workers of both kinds: some of the members here, some
there, counted in the same keys."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .conftest import ClientError, Place, wait_for

OURS, MIXED, MIXED_BACK = ["ours"], ["ours", "theirs"], ["theirs", "ours"]


@pytest.fixture(scope="module")
def ask(celery_client: Any) -> Any:
    """Its messages go to Caraway's worker where nothing else is said."""
    return celery_client


@pytest.mark.parametrize("queues", [OURS, MIXED, MIXED_BACK], ids="+".join)
def test_a_chain_runs_wherever_its_steps_are(ask: Any, queues: list[str]) -> None:
    steps = [queues[at % len(queues)] for at in range(3)]
    assert ask("get", id=ask("send_chain", queues=steps)) == 113


def test_the_steps_after_a_failed_one_fail_with_it(ask: Any) -> None:
    failed = ask("send_bad_chain")
    with pytest.raises(ClientError) as caught:
        ask("get", id=failed)
    assert caught.value.name == "ValueError"


def test_a_group_comes_back_in_order(ask: Any) -> None:
    assert ask("send_group", n=20) == [2 * i for i in range(20)]


@pytest.mark.parametrize("queues", [OURS, MIXED, MIXED_BACK], ids="+".join)
@pytest.mark.parametrize("body", ["ours", "theirs"])
def test_a_chords_body_runs_once_with_all_results(ask: Any, queues: list[str], body: str) -> None:
    ids = [ask("send_chord", n=n, queues=queues, body_queue=body) for n in (1, 2, 11, 12)]
    assert [ask("get", id=each) for each in ids] == [0, 2, 110, 132]


@pytest.mark.parametrize("queues", [OURS, MIXED, MIXED_BACK], ids="+".join)
def test_a_failed_member_fails_the_chord(ask: Any, queues: list[str], tmp_path: Path) -> None:
    mark = tmp_path / "failed"
    body = ask("send_bad_chord", queues=queues, link_error=str(mark))
    with pytest.raises(ClientError) as caught:
        ask("get", id=body)
    assert caught.value.name == "ChordError"
    assert "member" in caught.value.arguments[0]
    wait_for(mark.exists)
    assert wait_for(mark.read_text).split() == [body]


@pytest.mark.parametrize("queues", [OURS, MIXED], ids="+".join)
def test_members_may_be_chains(ask: Any, queues: list[str]) -> None:
    assert ask("get", id=ask("chord_of_chains", queues=queues)) == 6 + 4 + 40


@pytest.mark.parametrize("queues", [OURS, ["theirs", "ours"]], ids="+".join)
def test_a_step_that_fails_within_a_member_fails_the_chord(ask: Any, queues: list[str]) -> None:
    with pytest.raises(ClientError) as caught:
        ask("get", id=ask("chain_fails_in_chord", queues=queues))
    assert caught.value.name == "ChordError"


@pytest.mark.parametrize("queues", [OURS, MIXED], ids="+".join)
def test_a_chord_may_be_a_step_of_a_chain(ask: Any, queues: list[str]) -> None:
    # 1 + 1 goes to each of three members, their sum to the body, and 1000 on top
    assert ask("get", id=ask("chord_in_chain", queues=queues)) == 2 * 3 + (0 + 1 + 2) + 1000


@pytest.mark.parametrize("queues", [OURS, MIXED], ids="+".join)
def test_a_chord_may_have_a_chord_in_its_header_and_as_its_body(
    ask: Any, queues: list[str]
) -> None:
    assert ask("get", id=ask("chord_in_chord", queues=queues)) == 12


def test_groups_in_a_header_come_as_from_celerys_own_workers(ask: Any) -> None:
    ids = [ask("groups_in_chord", queues=queues) for queues in (OURS, MIXED, ["theirs"])]
    ours, mixed, theirs = [ask("get", id=each) for each in ids]
    assert sorted(theirs[0][0]) == [2, 4, 6]
    assert ours == mixed == theirs


def test_a_member_that_is_killed_is_counted_once(ask: Any, tmp_path: Path) -> None:
    died = tmp_path / "died"
    body = ask("chord_with_killed_member", path=str(died), queue="ours")
    assert ask("get", id=body) == 42
    assert died.exists()


def test_chords_complete_though_their_workers_processes_are_killed(ask: Any) -> None:
    def processes() -> list[int]:
        found = ask("inspect", command="stats", destination=["ours@here"])["ours@here"]
        return [pid for pid in found["pool"]["processes"] if pid]

    bodies = ask("slow_chords", count=20, size=8)
    for _ in range(8):
        with suppress(ProcessLookupError):
            os.kill(random.choice(processes()), signal.SIGKILL)
        time.sleep(0.1)
    assert [ask("get", id=each) for each in bodies] == [pytest.approx(0.16)] * 20


@pytest.mark.parametrize("which", ["chunks", "accumulate_index"])
def test_more_of_celerys_own_tasks(ask: Any, which: str) -> None:
    wanted = {"chunks": [[0, 2], [4, 6], [8, 10]], "accumulate_index": 1}
    assert ask("builtin", which=which) == wanted[which]


def test_nothing_is_left_of_chords(ask: Any, place: Place, redis_url: str) -> None:
    """But what says that they are done, and what of failed ones has a time to live."""
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        keys = [key.decode() for key in client.scan_iter("celery-taskset-meta-*")]
        kinds = {key.rpartition(".")[2] for key in keys}
        assert kinds <= {"c", "d", "j", "s", "t"} | {key for key in keys if "." not in key}
        forever = [key for key in keys if client.ttl(key) < 0]
    assert forever == []
