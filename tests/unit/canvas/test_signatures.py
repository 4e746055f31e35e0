"""Signatures, and the messages that follow a run."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from caraway import Caraway, Signature, signature, states
from caraway.canvas import follow, maybe_signature
from caraway.errors import InvalidTaskError
from caraway.outcome import Outcome
from caraway.request import Request


@pytest.fixture
def add(app: Caraway) -> Any:
    @app.task(name="shop.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


# -- signatures ------------------------------------------------------------------------


def test_a_signature_is_a_mapping_that_travels_as_celerys(add: Any) -> None:
    sig = add.s(1, y=2).set(queue="q")

    travelled = json.loads(json.dumps(sig))

    assert travelled == {
        "task": "shop.add", "args": [1], "kwargs": {"y": 2}, "options": {"queue": "q"},
        "subtask_type": None, "immutable": False,
    }  # fmt: skip
    back = Signature.from_dict(travelled)
    assert back == sig
    assert repr(back) == "shop.add(1, y=2)"


def test_arguments_given_late_go_in_front(add: Any, sent: Any) -> None:
    add.s(2).delay(1)
    add.s(2).apply_async((1,), countdown=0)
    add.si(7).delay(1)

    bodies = [json.loads(each.message.body)[0] for each in sent(add.app)]
    assert bodies == [[1, 2], [1, 2], [7]]
    assert add.s(2)(1) == 3
    assert add.s(2).apply((1,)).get() == 3


def test_a_clone_is_independent(add: Any) -> None:
    sig = add.s(1).set(queue="q")

    other = sig.clone((0,), {"y": 5}, priority=3)
    other.options["queue"] = "changed"
    deep = copy.deepcopy(sig)
    deep.kwargs["y"] = 9

    assert (sig.args, sig.kwargs, sig.options) == ((1,), {}, {"queue": "q"})
    assert (other.args, other.kwargs, other.options["priority"]) == ((0, 1), {"y": 5}, 3)
    assert copy.copy(sig) == sig
    assert pickle.loads(pickle.dumps(sig)) == sig
    assert sig.replace(args=(5,), options={}).args == (5,)


def test_freezing_settles_the_id(add: Any, sent: Any) -> None:
    sig = add.s(1)
    result = sig.freeze()

    assert sig.freeze().id == result.id == sig.id
    assert sig.delay().id == result.id
    assert add.s(1).freeze("mine", root_id="r").id == "mine"


def test_links_are_collected_once(add: Any) -> None:
    sig = add.s(1)
    after = add.s(2)

    assert sig.link(after) is after
    sig.link(after)
    sig.on_error(add.si(3)).link_error(add.si(4))

    assert sig.options["link"] == [after]
    assert len(sig.options["link_error"]) == 2


def test_a_signature_by_name_needs_no_task(app: Caraway, sent: Any) -> None:
    app.signature("far.away", (1,), queue="q").delay()

    assert sent(app, "q")[0].message.headers["task"] == "far.away"


def test_what_is_no_signature_says_so(app: Caraway) -> None:
    for bad in ({}, {"task": 3}, {"args": []}):
        with pytest.raises(InvalidTaskError):
            Signature.from_dict(bad)
    with pytest.raises(NotImplementedError, match="chord"):
        Signature.from_dict({"task": "celery.chord", "subtask_type": "chord"})
    assert maybe_signature(None) is None
    assert signature({"task": "a"}, app=app).name == "a"


# -- follow-ups ------------------------------------------------------------------------


def after(
    app: Caraway, state: str = states.SUCCESS, value: Any = 5, **embed: Any
) -> list[dict[str, Any]]:
    request = Request({"id": "me", "root_id": "root", "task": "t"}, embed=embed)
    outcome = Outcome(state, value, traceback="tb")
    kind = "callbacks" if state == states.SUCCESS else "errbacks"
    found, _ = follow.publications(app, request, outcome, kind)
    return [
        {
            "task": each.message.headers["task"],
            "id": each.message.headers["id"],
            "parent": each.message.headers["parent_id"],
            "root": each.message.headers["root_id"],
            "queue": each.queue,
            "body": json.loads(each.message.body),
        }
        for each in found
    ]


def test_callbacks_get_the_value_in_front(app: Caraway, add: Any) -> None:
    found = after(app, callbacks=[dict(add.s(1)), dict(add.si(7)), dict(add.s().set(queue="q"))])

    assert [each["body"][0] for each in found] == [[5, 1], [7], [5]]
    assert found[2]["queue"] == "q"
    assert {(each["parent"], each["root"]) for each in found} == {("me", "root")}


def test_the_next_of_a_chain_carries_the_rest(app: Caraway, add: Any) -> None:
    (found,) = after(app, chain=[dict(add.s(3)), dict(add.s(2))])

    assert found["body"][0] == [5, 2]
    assert [each["args"] for each in found["body"][2]["chain"]] == [[3]]


def test_a_repeated_run_sends_the_same_messages(app: Caraway, add: Any) -> None:
    links = [dict(add.s(1)), dict(add.s(1))]

    first, again = after(app, callbacks=links), after(app, callbacks=links)

    assert [each["id"] for each in first] == [each["id"] for each in again]
    assert len({each["id"] for each in first}) == 2


def test_a_link_that_was_frozen_keeps_its_id(app: Caraway, add: Any) -> None:
    sig = add.s()
    sig.freeze("mine")

    assert after(app, callbacks=[dict(sig)])[0]["id"] == "mine"


def test_an_errback_of_one_argument_gets_the_id(app: Caraway) -> None:
    @app.task(name="shop.mourn")
    def mourn(task_id: str) -> None: ...

    found = after(app, states.FAILURE, ValueError(), errbacks=[dict(mourn.s())])
    unknown = after(app, states.FAILURE, ValueError(), errbacks=[{"task": "far.away"}])

    assert found[0]["body"][0] == ["me"]
    assert unknown[0]["task"] == "far.away"


def test_an_errback_of_three_is_called_here_with_the_exception(app: Caraway) -> None:
    seen: list[Any] = []

    @app.task
    def mourn(request: Any, exc: Any, traceback: Any) -> None:
        seen.append((request.id, repr(exc), traceback))
        raise RuntimeError("its own failure harms nobody")

    assert after(app, states.FAILURE, ValueError("x"), errbacks=[dict(mourn.s())]) == []
    assert seen == [("me", "ValueError('x')", "tb")]


@pytest.mark.parametrize("link", [None, 7, "text", {}, {"task": None}])
def test_a_hostile_link_raises_an_error_of_ours(app: Caraway, link: Any) -> None:
    with pytest.raises(InvalidTaskError):
        after(app, callbacks=[link])


def test_the_id_of_a_follow_up_is_a_uuid() -> None:
    import uuid

    from caraway.canvas.expand import derived_id

    assert uuid.UUID(derived_id("a", "callback", 0)).version == 5
    assert derived_id("a", "b", 0) != derived_id("a", "b", 1)
