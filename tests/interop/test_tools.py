"""The real Celery's tools, and Flower, against Caraway's workers."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.testing.servers import free_port

from .conftest import HERE, ClientError, Place, Running, wait_for

NODE = "watched@here"


@pytest.fixture(scope="module")
def watched(place: Place) -> Iterator[Running]:
    """A worker that tells of its tasks, and may be told what to do."""
    worker = place.start(
        "caraway", "watched", "-c", "2", "-E", "-Q", "watched", queue="watched"
    ).ready()
    yield worker
    worker.end()


@pytest.fixture(scope="module")
def ask(place: Place, watched: Running) -> Iterator[Callable[..., Any]]:
    with place.client("celery", "watched") as client:
        yield client


def program(place: Place, *arguments: str) -> list[str]:
    return [str(place.python), "-m", "celery", "-A", "celery_side", *arguments]


def answer(text: str) -> Any:
    """What the worker said, as the option ``--json`` prints it."""
    return json.loads(text)[NODE]


def test_the_command_line_asks_and_is_answered(ask: Any) -> None:
    def inspect(name: str, *more: str) -> Any:
        return answer(ask("cli", args=["inspect", name, "-d", NODE, "-t", "5", "--json", *more]))

    running = ask("send", task="nap", args=[20])
    (task,) = wait_for(lambda: inspect("active"))
    assert (task["id"], task["name"], task["args"]) == (running, "side.nap", [20])
    assert task["hostname"] == NODE
    assert abs(task["time_start"] - time.time()) < 60
    assert task["delivery_info"]["routing_key"] == "watched"
    assert inspect("query_task", running)[running][0] == "active"
    assert re.search(rf"{NODE}: *OK", ask("cli", args=["status", "-d", NODE]))
    assert inspect("ping") == {"ok": "pong"}
    assert {"side.add", "side.nap"} <= set(inspect("registered"))
    counters = inspect("stats")
    assert counters["pool"]["max-concurrency"] == 2
    assert len(counters["pool"]["processes"]) == 2
    wanted = {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"}
    assert wanted <= set(counters)
    (queue,) = inspect("active_queues")
    assert (queue["name"], queue["routing_key"]) == ("watched", "watched")
    assert [inspect(each) for each in ("scheduled", "reserved", "revoked")] == [[], [], []]
    assert inspect("conf")["task_default_queue"] == "watched"
    assert "caraway" in inspect("report")["ok"]
    assert inspect("clock")["clock"] > 0
    ask("cli", args=["control", "terminate", "-d", NODE, "SIGKILL", running])
    with pytest.raises(ClientError) as caught:
        ask("get", id=running)
    assert caught.value.name == "TaskRevokedError"


def test_the_command_line_commands_and_is_obeyed(ask: Any) -> None:
    def control(name: str, *more: str) -> None:
        text = ask("cli", args=["control", name, "-d", NODE, "-t", "5", "--json", *more])
        (found,) = json.loads(text)
        assert "ok" in found[NODE], found

    control("pool_grow", "1")
    wait_for(lambda: _pool(ask) == 3)
    control("pool_shrink", "1")
    wait_for(lambda: _pool(ask) == 2)
    control("rate_limit", "side.echo", "100/s")
    control("time_limit", "side.nap", "1", "2")
    with pytest.raises(ClientError) as caught:
        ask("call", task="nap", args=[10])
    assert caught.value.name == "SoftTimeLimitExceeded"
    control("time_limit", "side.nap", "0", "0")
    control("add_consumer", "watched.more")
    assert ask("call", task="add", args=[1, 2], options={"queue": "watched.more"}) == 3
    control("cancel_consumer", "watched.more")
    control("enable_events")


def _pool(ask: Any) -> int:
    return int(ask("inspect", command="stats", destination=[NODE])[NODE]["pool"]["max-concurrency"])


def test_a_command_that_nobody_knows_is_answered_with_an_error(ask: Any) -> None:
    (found,) = ask("control", command="no_such_thing", destination=[NODE])
    assert "error" in found[NODE]


def test_events_are_dumped(place: Place, ask: Any) -> None:
    env = {**place.env, "INTEROP_QUEUE": "watched"}
    dump = Running(program(place, "events", "--dump"), place.folder / "events.log", env)
    try:
        # Those who come late missed what was: send until something was seen.
        def seen(*texts: str) -> bool:
            found = dump.log.read_text()
            return all(text in found for text in texts)

        def all_of_it() -> bool:
            good = ask("send", task="add", args=[1, 2])
            bad = ask("send", task="fail", args=["x"])
            again = ask("send", task="again", args=[1])
            for each in (good, again):
                ask("get", id=each)
            with pytest.raises(ClientError):
                ask("get", id=bad)
            return seen(
                "heartbeat: ", "task received", "task started", "task succeeded", good,
                "task failed", bad, "task retried", again, "side.add", NODE,
            )  # fmt: skip

        wait_for(all_of_it, 20, dump.log.read_text)
    finally:
        dump.end()


class Flower:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def get(self, path: str, **query: Any) -> Any:
        return self._open(path, query, None)

    def post(self, path: str, **form: Any) -> Any:
        return self._open(path, {}, urllib.parse.urlencode(form).encode())

    def _open(self, path: str, query: dict[str, Any], data: bytes | None) -> Any:
        url = f"{self._url}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        with urllib.request.urlopen(url, data, timeout=20) as answer:
            text = answer.read().decode()
        return json.loads(text) if text[:1] in "{[" else text


@pytest.fixture(scope="module")
def flower(place: Place, watched: Running) -> Iterator[Flower]:
    port = free_port()
    env = {
        **place.env, "INTEROP_QUEUE": "watched", "FLOWER_UNAUTHENTICATED_API": "true",
        "PYTHONPATH": str(HERE),
    }  # fmt: skip
    options = (f"--port={port}", "--address=127.0.0.1", "--inspect_timeout=3000")
    running = Running(program(place, "flower", *options), place.folder / "flower.log", env)
    found = Flower(port)

    def sees_us() -> bool:
        assert running.process.poll() is None, running.log.read_text()
        try:
            return NODE in found.get("/api/workers", refresh=1)
        except (urllib.error.URLError, ConnectionError):
            return False

    try:
        wait_for(sees_us, 30, running.log.read_text)
        yield found
    finally:
        running.end()


def test_flower_sees_the_worker_and_its_tasks(flower: Flower, ask: Any) -> None:
    worker = flower.get("/api/workers", refresh=1)[NODE]
    assert worker["stats"]["pool"]["max-concurrency"] == 2
    assert "side.add" in worker["registered"]
    assert [queue["name"] for queue in worker["active_queues"]] == ["watched"]
    assert flower.get("/api/workers", status=1)[NODE] is True
    good = ask("send", task="add", args=[1, 2])
    bad = ask("send", task="fail", args=["x"])

    def ended() -> Any:
        found = flower.get("/api/tasks", workername=NODE, limit=100)
        done = found.get(good, {}).get("state"), found.get(bad, {}).get("state")
        return found if done == ("SUCCESS", "FAILURE") else None

    tasks = wait_for(ended)
    assert (tasks[good]["name"], tasks[good]["result"]) == ("side.add", "3")
    assert tasks[good]["runtime"] >= 0
    assert tasks[good]["args"] == "[1, 2]" or "1, 2" in tasks[good]["args"]
    assert "ValueError" in tasks[bad]["exception"]
    assert "raise ValueError" in tasks[bad]["traceback"]


def test_flower_counts(flower: Flower, ask: Any) -> None:
    ask("call", task="add", args=[1, 2])

    def counted() -> Any:
        text = flower.get("/metrics")
        return re.search(
            rf'flower_events_total{{task="side.add",type="task-succeeded",worker="{NODE}"}} (\S+)',
            text,
        )

    assert float(wait_for(counted)[1]) >= 1
    text = flower.get("/metrics")
    assert f'flower_worker_online{{worker="{NODE}"}} 1.0' in text
    assert f'flower_task_runtime_seconds_count{{task="side.add",worker="{NODE}"}}' in text


def test_flower_changes_the_pool(flower: Flower, ask: Any) -> None:
    assert "message" in flower.post(f"/api/worker/pool/grow/{NODE}", n=1)
    wait_for(lambda: _pool(ask) == 3)
    assert "message" in flower.post(f"/api/worker/pool/shrink/{NODE}", n=1)
    wait_for(lambda: _pool(ask) == 2)


def test_flower_revokes_and_limits(flower: Flower, ask: Any) -> None:
    running = ask("send", task="nap", args=[20])
    wait_for(lambda: (ask("inspect", command="active", destination=[NODE]) or {}).get(NODE))
    flower.post(f"/api/task/revoke/{running}", terminate="true")
    with pytest.raises(ClientError) as caught:
        ask("get", id=running)
    assert caught.value.name == "TaskRevokedError"
    said = flower.post("/api/task/rate-limit/side.echo", workername=NODE, ratelimit="50/s")
    assert "message" in said
    said = flower.post("/api/task/timeout/side.nap", workername=NODE, soft=30, hard=60)
    assert "message" in said


def test_flower_shuts_the_worker_down(flower: Flower, watched: Running) -> None:
    flower.post(f"/api/worker/shutdown/{NODE}")
    assert watched.process.wait(30) == 0

    def offline() -> bool:
        return flower.get("/api/workers", status=1).get(NODE) is False

    wait_for(offline)
