"""Remote control, whatever is sent: the thread lives on and answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from caraway import Caraway
from caraway.control import REPLIES
from caraway.message import Topic, new_owner_id
from caraway.worker.control import ControlThread
from caraway.worker.lanes import Tally


class Worker:
    """Notes what it is told."""

    def __init__(self, app: Caraway) -> None:
        self.app = app
        self.told: list[dict[str, Any]] = []
        self.terminated: set[str] = set()
        self.lanes: dict[int, Any] = {}
        self.tally = Tally()
        self.target = 2

    def post(self, call: Any) -> None:
        call()

    def tell_lanes(self, **message: Any) -> None:
        self.told.append(message)

    def terminate(self, ids: set[str]) -> None:
        self.terminated |= ids

    def resize(self, target: int) -> int:
        self.target = target
        return target


class Replies:
    """The channel that answers go to."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def publish(self, messages: list[tuple[str, bytes]]) -> None:
        self.sent += messages


@pytest.fixture
def worker() -> Iterator[Worker]:
    app = Caraway("control", broker=f"memory://control-{new_owner_id()}", set_as_current=False)

    @app.task(name="work")
    def work() -> None:
        pass

    yield Worker(app)
    app.close()


@pytest.fixture
def ask(worker: Worker) -> Any:
    thread = ControlThread(worker, "w@test")  # type: ignore[arg-type]

    def ask(method: Any, **arguments: Any) -> Any:
        replies = Replies()
        request = {
            "method": method,
            "arguments": arguments,
            "destination": None,
            "ticket": "t",
            "reply_to": {"exchange": REPLIES, "routing_key": "t"},
        }
        thread._answer(msgspec.json.encode(request), replies)  # type: ignore[arg-type]
        (notice,) = replies.sent
        assert notice.topic == Topic(REPLIES, "t", "direct")
        return msgspec.json.decode(notice.message.body)["w@test"]

    ask.thread = thread  # type: ignore[attr-defined]
    return ask


def test_good_commands_are_obeyed(ask: Any, worker: Worker) -> None:
    assert ask("ping") == {"ok": "pong"}
    assert "ok" in ask("time_limit", task_name="work", hard=3, soft="2")
    assert worker.told == [{"do": "time_limit", "task": "work", "hard": 3.0, "soft": 2.0}]
    assert "ok" in ask("terminate", task_id="a")
    assert worker.terminated == {"a"}
    ask("pool_grow", n=3)
    assert worker.target == 5


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
        ("pool_grow", {"n": "many"}),
        ("pool_grow", {"n": None}),
        ("pool_shrink", {"n": [1]}),
        ("no such", {}),
        (["ping"], {}),
    ],
)
def test_bad_arguments_are_answered_and_reach_no_lane(
    ask: Any, worker: Worker, method: Any, arguments: dict[str, Any]
) -> None:
    assert "error" in ask(method, **arguments)
    assert worker.told == []
    assert worker.app.tasks["work"].rate_limit is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"\xff", b"[]", b"7", b'{"method":"ping","destination":7}', b'{"arguments":[1]}',
     b'{"method":"ping","arguments":7}', b'{"method":"ping","arguments":["ab"]}',
     b'{"method":"ping","reply_to":7,"ticket":1}', b"[" * 2000],
)  # fmt: skip
def test_hostile_bytes_end_nothing(ask: Any, payload: bytes) -> None:
    ask.thread._answer(payload, Replies())
    assert ask("ping") == {"ok": "pong"}


def test_a_command_that_breaks_is_answered_too(ask: Any, worker: Worker) -> None:
    class Changing(dict[int, Any]):
        """A dictionary that another thread changes meanwhile."""

        def values(self) -> Any:
            raise RuntimeError("dictionary changed size during iteration")

    worker.lanes = Changing()
    assert "RuntimeError" in ask("stats")["error"]
    worker.lanes = {}
