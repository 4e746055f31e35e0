"""Remote control, whatever is sent: the thread lives on and answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from caraway import Caraway
from caraway.control.commands import COMMANDS, control_command, inspect_command
from caraway.message import Message, Notice, Owner, Queue, Topic, new_owner_id
from caraway.worker.control import ControlThread
from caraway.worker.lane_config import LaneConfig
from caraway.worker.lanes import Tally
from caraway.worker.orders import Orders

REPLIES = "reply.celery.pidbox"
JOB = {
    "id": "1", "name": "work", "type": "work", "args": [1], "kwargs": {}, "hostname": "w@test",
    "time_start": 12.5, "acknowledged": False, "worker_pid": 7,
    "delivery_info": {"exchange": "", "routing_key": "q", "priority": 0, "redelivered": False},
}  # fmt: skip


class Pool:
    name = "prefork"


class Scaler:
    def update(self, most: int | None, least: int | None) -> tuple[int, int]:
        return most or 4, least or 1

    def info(self) -> dict[str, int]:
        return {"max": 4, "min": 1}


class Worker:
    """Notes what it is told."""

    def __init__(self, app: Caraway) -> None:
        self.app = app
        self.told: list[dict[str, Any]] = []
        self.terminated: dict[str, int] = {}
        self.lanes: dict[int, Any] = {}
        self.tally = Tally()
        self.target = 2
        self.processes = True
        self.pool = Pool()
        self.started = time.monotonic()
        self.orders = Orders()
        self.autoscaler: Any = None
        self.heart: Any = None
        self.done: list[str] = []
        self.jobs: dict[int, Any] = {}
        owner = Owner(id="", worker="w@test")
        self.template = LaneConfig(
            index=0, owner=owner, queues=(Queue(name="q", exchange="q", routing_key="q"),)
        )

    def post(self, call: Any) -> None:
        call()

    def tell_lanes(self, **message: Any) -> None:
        self.orders.keep(message)
        self.told.append(message)

    def ask_lanes(self, **_: Any) -> dict[int, Any]:
        return self.jobs

    def terminate(self, ids: set[str], signum: int) -> None:
        self.terminated |= dict.fromkeys(ids, signum)

    def resize(self, target: int) -> int:
        self.target = target
        return target

    def set_queues(self, queues: tuple[Queue, ...]) -> None:
        self.template = msgspec.structs.replace(self.template, queues=queues)

    def set_events(self, on: bool) -> None:
        self.template = msgspec.structs.replace(self.template, events=on)

    def recycle(self) -> None:
        self.done.append("recycle")

    def stop(self) -> None:
        self.done.append("stop")


class Replies:
    """The channel that answers go to."""

    def __init__(self) -> None:
        self.sent: list[Notice] = []

    def publish(self, notices: list[Notice]) -> None:
        self.sent += notices


@pytest.fixture
def worker() -> Iterator[Worker]:
    app = Caraway("control", broker=f"memory://control-{new_owner_id()}", set_as_current=False)

    @app.task(name="work", rate_limit="5/s")
    def work() -> None:
        pass

    yield Worker(app)
    app.close()


class Ask:
    def __init__(self, worker: Worker) -> None:
        self.thread = ControlThread(worker, "w@test")  # type: ignore[arg-type]

    def send(self, headers: dict[str, Any] | None = None, **request: Any) -> list[Notice]:
        replies = Replies()
        body = {
            "method": "ping", "arguments": {}, "destination": None, "ticket": "t",
            "reply_to": {"exchange": REPLIES, "routing_key": "t"}, **request,
        }  # fmt: skip
        message = Message(msgspec.json.encode(body), headers or {})
        self.thread.answer(message, replies)  # type: ignore[arg-type]
        return replies.sent

    def __call__(self, method: Any, **arguments: Any) -> Any:
        (notice,) = self.send(method=method, arguments=arguments)
        assert notice.topic == Topic(REPLIES, "t", "direct")
        return msgspec.json.decode(notice.message.body)["w@test"]


@pytest.fixture
def ask(worker: Worker) -> Ask:
    return Ask(worker)


# -- being meant ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "meant"),
    [
        ({"destination": ["w@test"]}, True),
        ({"destination": ["other@test"]}, False),
        ({"destination": ["other@test"], "pattern": "w@*", "matcher": "glob"}, False),
        ({"pattern": "w@*", "matcher": "glob"}, True),
        ({"pattern": "x@*", "matcher": "glob"}, False),
        ({"pattern": "^w@t.st$", "matcher": "pcre"}, True),
        ({"pattern": "^t", "matcher": "pcre"}, False),
        ({"pattern": "x@*", "matcher": None}, True),
        ({"pattern": "(", "matcher": "pcre"}, False),
        ({"pattern": "w@*", "matcher": "magic"}, False),
        ({"headers": {"expires": time.time() - 1}}, False),
        ({"headers": {"expires": time.time() + 10_000}}, True),
        ({"headers": {"expires": 0}}, True),
    ],
)
def test_only_who_is_meant_in_time_answers(ask: Ask, request_: Any, meant: bool) -> None:
    assert bool(ask.send(**request_)) is meant


def test_who_is_not_meant_abstains_where_that_is_asked(ask: Ask) -> None:
    other: dict[str, Any] = {"pattern": "x@*", "matcher": "glob"}
    (notice,) = ask.send(headers={"caraway-abstain": True}, **other)
    assert notice.topic == Topic(REPLIES, "t", "direct")
    assert notice.message.body == b"{}"
    assert notice.message.headers == {"ticket": "t", "clock": 1, "caraway-abstain": True}


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ({"pattern": "x@*", "matcher": "glob", "reply_to": None}, []),
        ({"pattern": "x@*", "matcher": "glob", "headers": {"expires": 1}}, []),
        ({"pattern": "w@*", "matcher": "glob"}, [{"w@test": {"ok": "pong"}}]),
    ],
)
def test_nobody_abstains_who_is_meant_or_late_or_unheard(
    ask: Ask, request_: dict[str, Any], said: list[Any]
) -> None:
    headers = {"caraway-abstain": True, **request_.pop("headers", {})}
    sent = ask.send(headers=headers, **request_)
    assert [msgspec.json.decode(each.message.body) for each in sent] == said
    assert all("caraway-abstain" not in each.message.headers for each in sent)


def test_an_answer_carries_the_ticket_and_a_clock_that_is_ahead(ask: Ask, worker: Worker) -> None:
    (notice,) = ask.send(headers={"clock": 500})

    assert notice.message.headers == {"ticket": "t", "clock": 502}
    assert worker.app.clock.value == 502


def test_who_wants_no_answer_gets_none(ask: Ask) -> None:
    assert ask.send(reply_to=None, method="ping") == []


# -- what is answered ----------------------------------------------------------------------


def test_good_commands_are_obeyed(ask: Ask, worker: Worker) -> None:
    assert ask("ping") == {"ok": "pong"}
    assert "ok" in ask("time_limit", task_name="work", hard=3, soft="2")
    assert worker.told == [{"do": "time_limit", "task": "work", "hard": 3.0, "soft": 2.0}]
    assert "ok" in ask("terminate", task_id="a", signal="KILL")
    assert worker.terminated == {"a": 9}
    ask("pool_grow", n=3)
    assert worker.target == 5
    ask("pool_shrink", n=1)
    assert worker.target == 4
    assert ask("pool_restart") == {"ok": "reload started"}
    assert "error" in ask("pool_restart", reload=True)
    assert ask("shutdown") == {"ok": "shutting down"}
    assert worker.done == ["recycle", "stop"]
    assert ask("election", id=1, topic="x") is None
    assert ask("rate_limit", task_name="work", rate_limit=0) == {
        "ok": "rate limit disabled successfully"
    }


def test_revocations_are_remembered_and_kept_by_the_broker(ask: Ask, worker: Worker) -> None:
    ask("revoke", task_id=["a", "b"])

    assert ask("revoked") == ["a", "b"]
    assert worker.app.transport.revoked(["a", "b", "c"]) == {"a", "b"}
    assert [order["ids"] for order in worker.orders] == [["a", "b"]]


def test_workers_that_start_learn_what_was_revoked_and_tell(ask: Ask, worker: Worker) -> None:
    ask("revoke", task_id="a")

    answer = ask("hello", from_node="celery@other", revoked={"b": 12.5})

    assert answer["revoked"].keys() == {"a", "b"}
    assert isinstance(answer["clock"], int)
    assert ask("hello", from_node="w@test") is None


def test_stamps_can_be_revoked(ask: Ask, worker: Worker) -> None:
    worker.jobs = {0: [{**JOB, "stamps": {"customer": ["7", "8"]}}, {**JOB, "id": "2"}]}

    ask("revoke_by_stamped_headers", headers={"customer": 7}, terminate=True)

    assert worker.told == [{"do": "revoke_stamps", "stamps": {"customer": ["7"]}}]
    assert worker.terminated == {"1": 15}


@pytest.mark.parametrize("signal", ["SIGNAL", "SIGSTOP", "CHLD", 0, 1000, [], ""])
def test_a_signal_that_ends_no_task_is_refused_and_nothing_is_done(
    ask: Ask, worker: Worker, signal: Any
) -> None:
    said = ask("revoke", task_id="a", terminate=True, signal=signal)
    stamped = ask("revoke_by_stamped_headers", headers={"x": 1}, terminate=True, signal=signal)

    for answer in (said, stamped):
        assert "SIGKILL kills its process" in answer["error"]
    assert (worker.told, worker.terminated) == ([], {})
    assert not worker.app.transport.revoked(["a"])
    assert "ok" in ask("revoke", task_id="a", signal=signal), "only a termination has a signal"


def test_queues_are_added_and_cancelled(ask: Ask, worker: Worker) -> None:
    assert ask("add_consumer", queue="more") == {"ok": "add consumer more"}
    assert ask("add_consumer", queue="more") == {"ok": "already consuming from 'more'"}
    assert [queue["name"] for queue in ask("active_queues")] == ["q", "more"]
    assert ask("cancel_consumer", queue="q") == {"ok": "no longer consuming from q"}
    (queue,) = ask("active_queues")
    assert (queue["routing_key"], queue["exchange"]["name"]) == ("more", "more")


def test_events_are_switched(ask: Ask, worker: Worker) -> None:
    assert ask("enable_events") == {"ok": "task events enabled"}
    assert ask("enable_events") == {"ok": "task events already enabled"}
    assert worker.template.events
    assert ask("disable_events") == {"ok": "task events disabled"}
    assert ask("disable_events") == {"ok": "task events already disabled"}


def test_autoscaling_is_changed_only_where_it_is_on(ask: Ask, worker: Worker) -> None:
    assert "--autoscale" in ask("autoscale", max=3, min=1)["error"]
    worker.autoscaler = Scaler()
    assert ask("autoscale", max=3, min=2) == {"ok": "autoscale now max=3 min=2"}
    assert ask("stats")["autoscaler"] == {"max": 4, "min": 1}


def test_tasks_are_told_apart_by_whether_they_run(ask: Ask, worker: Worker) -> None:
    waiting = {**JOB, "id": "2", "time_start": None}
    worker.jobs = {0: [JOB, waiting], 1: []}

    assert ask("active") == ask("dump_active") == [JOB]
    assert ask("reserved") == ask("dump_reserved") == [waiting]
    assert ask("scheduled") == ask("dump_schedule") == []
    assert ask("query_task", ids=["1", "2", "3"]) == {
        "1": ["active", JOB], "2": ["reserved", waiting],
    }  # fmt: skip


def test_a_lane_that_does_not_answer_is_described_by_its_board(ask: Ask, worker: Worker) -> None:
    from caraway.worker.board import Board, mark_of

    class Lane:
        index, pid = 0, 77
        board = Board(1, 1).lane(0)

    Lane.board.start(0, time.monotonic() - 5, 0.0, mark_of("tag", "held-id"))
    result = worker.app.tasks["work"].apply_async((), task_id="held-id")
    worker.lanes = {0: Lane}

    (item,) = ask("active")

    assert (item["id"], item["name"], item["worker_pid"]) == (result.id, "work", 77)
    assert 0 < time.time() - item["time_start"] < 100
    assert item.keys() == JOB.keys()


def test_what_a_worker_is_and_has_is_told(ask: Ask, worker: Worker) -> None:
    stats = ask("stats")
    assert {"total", "pid", "clock", "uptime", "pool", "broker", "prefetch_count", "rusage"} <= (
        stats.keys()
    )
    assert stats["broker"]["transport"] == "memory"
    assert stats["pool"]["max-concurrency"] == 2
    assert "software -> caraway:" in ask("report")["ok"]
    assert "broker_url" in ask("conf")
    assert "task_acks_late" not in ask("conf")
    assert ask("dump_conf", with_defaults=True)["task_acks_late"] is True
    assert ask("registered") == ["work [rate_limit=5/s]"]
    assert ask("dump_tasks", taskinfoitems=["name"]) == ["work [name=work]"]
    assert isinstance(ask("clock")["clock"], int)
    assert ask("memsample").endswith("MB")
    assert ask("memdump", samples=1).endswith("MB")
    assert "objgraph" in str(ask("objgraph")) or "filename" in ask("objgraph")


def test_apps_have_commands_of_their_own(ask: Ask, worker: Worker) -> None:
    @inspect_command
    def widgets(state: Any) -> Any:
        """How many widgets there are."""
        return [state.hostname, state.app is worker.app]

    @control_command(name="make", alias="build", args=[("n", int)])
    def make_widgets(state: Any, n: int) -> Any:
        return {"ok": f"made {n}"}

    try:
        assert ask("widgets") == ["w@test", True]
        assert ask("make", n=3) == ask("build", n=3) == {"ok": "made 3"}
        assert COMMANDS["widgets"].help == "How many widgets there are."
    finally:
        for name in ("widgets", "make", "build"):
            del COMMANDS[name]


# -- what goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("time_limit", {"task_name": "work", "hard": "soon"}),
        ("time_limit", {"task_name": "work", "soft": [1]}),
        ("time_limit", {"task_name": ["work"]}),
        ("rate_limit", {"task_name": "work", "rate_limit": "often"}),
        ("rate_limit", {"task_name": "work", "rate_limit": {"a": 1}}),
        ("rate_limit", {"task_name": "work"}),
        ("revoke", {}),
        ("revoke", {"task_id": 5}),
        ("revoke_by_stamped_headers", {"headers": 5}),
        ("pool_grow", {"n": "many"}),
        ("pool_grow", {"n": None}),
        ("pool_shrink", {"n": [1]}),
        ("add_consumer", {}),
        ("add_consumer", {"queue": ["a"]}),
        ("no such", {}),
        (["ping"], {}),
    ],
)
def test_bad_arguments_are_answered_and_reach_no_lane(
    ask: Ask, worker: Worker, method: Any, arguments: dict[str, Any]
) -> None:
    assert "error" in ask(method, **arguments)
    assert worker.told == []
    assert worker.app.tasks["work"].rate_limit == "5/s"
    assert len(worker.template.queues) == 1


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"7", b'{"method":"ping","destination":7}', b'{"arguments":[1]}',
     b'{"method":"ping","arguments":7}', b'{"method":"ping","arguments":["ab"]}',
     b'{"method":"ping","reply_to":7,"ticket":1}', b"[" * 2000],
)  # fmt: skip
def test_hostile_bytes_end_nothing(ask: Ask, payload: bytes) -> None:
    headers = {"clock": "soon", "expires": "never"}
    ask.thread.answer(Message(payload, headers), Replies())  # type: ignore[arg-type]
    assert ask("ping") == {"ok": "pong"}


def test_a_command_that_breaks_is_answered_too(ask: Ask, worker: Worker) -> None:
    class Changing(dict[int, Any]):
        """A dictionary that another thread changes meanwhile."""

        def values(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    worker.lanes = Changing()
    assert "RuntimeError" in ask("stats")["error"]
    worker.lanes = {}
