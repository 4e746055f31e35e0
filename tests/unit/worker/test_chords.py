"""Members of chords report their end, and the last one has the body sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from caraway import Caraway, states
from caraway.builtin.memory.backend import MemoryBackend
from caraway.errors import ChordError, TransportUnavailable
from caraway.interfaces import Capability
from caraway.message import Completion, Delivery, Message, new_owner_id
from caraway.outcome import Outcome
from caraway.protocol.result import decode_exception
from caraway.request import Request
from caraway.worker.chords import settle, workflow_of
from caraway.worker.job import TaskPlan


class Uncounting(MemoryBackend):
    """The memory backend, without chords."""

    capabilities: ClassVar[frozenset[Capability]] = MemoryBackend.capabilities - {Capability.CHORDS}


class Case:
    def __init__(self) -> None:
        url = f"memory://chords-{new_owner_id()}"
        self.app = Caraway("chords", broker=url, backend=url, set_as_current=False)

        @self.app.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        self.backend: Any = self.app.backend
        self.plan = TaskPlan(self.app, add, None, "w@here")

    def end(
        self, task_id: str, outcome: Outcome, *, group: str | None = "g", index: int | None = 0,
        **embed: Any,
    ) -> Completion:  # fmt: skip
        """The completion of a run of ``add``."""
        body = json.dumps([[1, 2], {}, {"callbacks": None, "errbacks": None, **embed}]).encode()
        headers = {"task": "add", "id": task_id, "group": group, "group_index": index,
                   "root_id": "root"}  # fmt: skip
        delivery = Delivery(Message(body, headers, "application/json", "utf-8", {}), 1, "q")
        return self.plan.complete(delivery, self.plan.request(delivery), outcome)

    def settle(self, *completions: Completion) -> tuple[list[Any], list[str]]:
        """What is published, and the chords that are done."""
        made, done = settle(self.app, self.backend, completions)
        return [p for c in made for p in c.publications], done

    def failure(self, task_id: str) -> BaseException:
        stored = self.backend.get([task_id])[task_id]
        assert stored.state == states.FAILURE
        return decode_exception(json.loads(stored.payload)["result"])


@pytest.fixture
def case() -> Iterator[Case]:
    made = Case()
    yield made
    made.app.close()


def body(**options: Any) -> dict[str, Any]:
    return {"task": "total", "args": [9], "kwargs": {}, "options": {"task_id": "body", **options},
            "subtask_type": None, "immutable": False, "chord_size": 2}  # fmt: skip


def ok(value: Any) -> Outcome:
    return Outcome(states.SUCCESS, value)


def failed(text: str) -> Outcome:
    return Outcome(states.FAILURE, ValueError(text), traceback="tb")


def test_the_last_member_sends_the_body_with_all_values_in_order(case: Case) -> None:
    assert case.settle(case.end("b", ok(5), index=1, chord=body())) == ([], [])

    (sent,), done = case.settle(case.end("a", ok(3), index=0, chord=body()))

    assert done == ["g"]
    assert sent.message.headers["id"] == "body"
    assert sent.message.headers["root_id"] == "root"
    assert json.loads(sent.message.body)[0] == [[3, 5], 9]


def test_members_that_end_in_one_batch_send_one_body(case: Case) -> None:
    ends = [case.end(each, ok(1), index=at, chord=body()) for at, each in enumerate("ab")]

    published, done = case.settle(*ends)

    assert (len(published), done) == (1, ["g"])


def test_a_member_that_reports_again_is_counted_once(case: Case) -> None:
    first = case.end("a", ok(1), index=0, chord=body())

    assert case.settle(first) == ([], [])
    assert case.settle(first) == ([], [])
    assert len(case.settle(case.end("b", ok(2), index=1, chord=body()))[0]) == 1


def test_who_died_before_the_body_was_sent_sends_it_again_the_same(case: Case) -> None:
    case.settle(case.end("a", ok(1), index=0, chord=body()))
    last = case.end("b", ok(2), index=1, chord=body())

    (first,), _ = case.settle(last)
    (again,), _ = case.settle(last)
    case.backend.chord_sent(["g"])

    assert first.message.headers["id"] == again.message.headers["id"]
    assert case.settle(last) == ([], [])


def test_a_failed_member_fails_the_body_and_calls_its_errbacks(case: Case) -> None:
    errback = {"task": "mourn", "args": [], "kwargs": {}, "options": {}}
    wanted = body(link_error=[errback], chain=[{"task": "after", "options": {"task_id": "z"}}])
    case.settle(case.end("a", failed("no"), index=0, chord=wanted))

    (sent,), done = case.settle(case.end("b", ok(2), index=1, chord=wanted))

    assert done == ["g"]
    assert sent.message.headers["task"] == "mourn"
    assert json.loads(sent.message.body)[0] == ["body"]
    error = case.failure("body")
    assert isinstance(error, ChordError)
    assert error.args == ("Dependency a raised ValueError('no')",)
    assert isinstance(case.failure("z"), ChordError)


def test_the_steps_after_a_failed_one_fail_with_it(case: Case) -> None:
    steps = [{"task": "add", "options": {"task_id": "third"}},
             {"task": "add", "options": {"task_id": "second"}}, {"task": "add"}]  # fmt: skip

    case.settle(case.end("first", failed("no"), group=None, chain=steps))

    for task_id in ("second", "third"):
        error = case.failure(task_id)
        assert isinstance(error, ValueError)
        assert error.args == ("no",)


def test_a_member_that_is_a_chain_ends_when_a_step_of_it_fails(case: Case) -> None:
    last = {"task": "add", "options": {"task_id": "last", "group_id": "g", "group_index": 1,
                                       "chord": body()}}  # fmt: skip
    case.settle(case.end("a", ok(1), index=0, chord=body()))

    _, done = case.settle(case.end("step", failed("no"), group=None, chain=[last]))

    assert done == ["g"]
    assert "Dependency last raised" in str(case.failure("body"))


def test_a_step_that_succeeds_ends_nothing(case: Case) -> None:
    last = {"task": "add", "options": {"task_id": "last", "group_id": "g", "chord": body()}}

    completion = case.end("step", ok(1), group=None, chain=[last])

    assert completion.workflow is None
    assert [p.message.headers["id"] for p in completion.publications] == ["last"]


def test_a_chord_that_follows_a_run_has_its_size_kept(case: Case) -> None:
    header = [{"task": "add", "args": [1]}, {"task": "add", "args": [2]}]
    chord = {"task": "celery.chord", "subtask_type": "chord", "options": {"task_id": "g2"},
             "kwargs": {"header": {"subtask_type": "group", "kwargs": {"tasks": header},
                                   "options": {"task_id": "g2"}}, "body": body()}}  # fmt: skip

    published, _ = case.settle(case.end("a", ok(7), group=None, chain=[chord]))

    assert case.backend.space.chords["g2"].size == 2
    assert [json.loads(p.message.body)[0] for p in published] == [[7, 1], [7, 2]]


def test_values_take_the_shape_that_the_sender_kept(case: Case) -> None:
    shape = [["g", None], [[["g1", None], [[["a", None], None]]], [["b", None], None]]]
    case.backend.save_group("g", json.dumps({"result": shape}).encode(), 60)
    case.settle(case.end("a", ok(1), index=0, chord=body()))

    (sent,), _ = case.settle(case.end("b", ok(2), index=1, chord=body()))

    assert json.loads(sent.message.body)[0][0] == [[1], 2]


def test_a_body_that_can_not_be_sent_fails(case: Case) -> None:
    bad = {**body(), "subtask_type": "bridge"}
    case.settle(case.end("a", ok(1), index=0, chord=bad))

    published, done = case.settle(case.end("b", ok(2), index=1, chord=bad))

    assert (published, done) == ([], ["g"])
    assert str(case.failure("body")).startswith("Callback error: InvalidTaskError")


def test_a_store_that_is_away_leaves_the_chord_as_it_was(case: Case) -> None:
    case.settle(case.end("a", ok(1), index=0, chord=body()))
    last = case.end("b", ok(2), index=1, chord=body())

    def away(_: str) -> bytes | None:
        raise TransportUnavailable("away")

    case.backend.restore_group = away
    with pytest.raises(TransportUnavailable):
        case.settle(last)
    del case.backend.restore_group
    assert len(case.settle(last)[0]) == 1


def test_a_backend_that_does_not_count_says_that_the_body_will_not_run(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    case.backend.__class__ = Uncounting

    assert case.end("a", ok(1), chord=body()).workflow is None

    assert "its body won't run" in caplog.text


@pytest.mark.parametrize("bad", [7, "text", [1], {"options": 3}, {"chord_size": "many"}])
def test_a_hostile_body_harms_nobody(case: Case, bad: Any) -> None:
    completion = case.end("a", ok(1), chord=bad)

    assert completion.settlement.action == "ack"
    if completion.workflow is not None:
        case.settle(completion)


def test_a_revoked_member_fails_the_chord(case: Case) -> None:
    case.settle(case.end("a", ok(1), index=0, chord=body()))
    data = json.dumps([[1, 2], {}, {"chord": body()}]).encode()
    headers = {"task": "add", "id": "b", "group": "g", "group_index": 1}
    delivery = Delivery(Message(data, headers, "application/json", "utf-8", {}), 1, "q")

    _, done = case.settle(case.plan.revoke(delivery, "expired"))

    assert done == ["g"]
    assert "TaskRevokedError" in str(case.failure("body"))


def test_nothing_beyond_itself_is_no_workflow(case: Case) -> None:
    request = Request({"task": "add", "id": "a"}, embed={"callbacks": None})

    assert workflow_of(case.app, request, ok(1), 60.0, ()) is None
