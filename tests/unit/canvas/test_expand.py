"""Canvas as data, as Celery's clients write it, becomes publications."""

from __future__ import annotations

import json
from typing import Any

import pytest

from caraway import Caraway
from caraway.canvas.expand import Expansion, size_of
from caraway.errors import InvalidTaskError


@pytest.fixture
def app() -> Caraway:
    return Caraway("shop", broker="memory://", backend="memory://", set_as_current=False)


def sig(name: str, *args: Any, immutable: bool = False, **options: Any) -> dict[str, Any]:
    return {
        "task": name, "args": list(args), "kwargs": {}, "options": options,
        "subtask_type": None, "immutable": immutable,
    }  # fmt: skip


def canvas(kind: str, kwargs: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {
        "task": f"celery.{kind}", "args": [], "kwargs": kwargs, "options": options,
        "subtask_type": kind, "immutable": False,
    }  # fmt: skip


def chain(*tasks: Any, **options: Any) -> dict[str, Any]:
    return canvas("chain", {"tasks": list(tasks)}, **options)


def group(*tasks: Any, **options: Any) -> dict[str, Any]:
    return canvas("group", {"tasks": list(tasks)}, **options)


def chord(header: Any, body: Any, **options: Any) -> dict[str, Any]:
    return canvas("chord", {"kwargs": {}, "header": header, "body": body}, **options)


def sent(app: Caraway, record: Any, *args: Any, **options: Any) -> tuple[list[Any], Any]:
    made = Expansion(app, ("run", "chain", 0), "root", "parent")
    made.add(record, args, options)
    messages = []
    for each in made.publications:
        given, _, embed = json.loads(each.message.body)
        messages.append((each.message.headers, given, embed))
    return messages, made.starts


def test_a_chain_sends_its_first_step_with_the_rest(app: Caraway) -> None:
    found, _ = sent(app, chain(sig("a", 1), sig("b"), sig("c")), 7)

    ((headers, args, embed),) = found
    assert (headers["task"], args) == ("a", [7, 1])
    assert [step["task"] for step in embed["chain"]] == ["c", "b"]
    assert (headers["root_id"], headers["parent_id"]) == ("root", "parent")


def test_what_follows_a_chain_comes_after_its_last_step(app: Caraway) -> None:
    found, _ = sent(app, chain(sig("a"), sig("b")), chain=[sig("z"), sig("y")])

    assert [step["task"] for step in found[0][2]["chain"]] == ["z", "y", "b"]


def test_links_ids_and_chords_of_a_chain_are_its_last_steps(app: Caraway) -> None:
    whole = chain(sig("a"), sig("b"), task_id="whole", link=[sig("l")], link_error=[sig("e")],
                  group_id="g", group_index=3, chord=sig("body"))  # fmt: skip
    ((headers, _, embed),), _ = sent(app, whole)

    assert embed["errbacks"] == [sig("e")]
    assert (headers["group"], embed["callbacks"], embed["chord"]) == (None, None, None)
    (last,) = embed["chain"]
    assert last["options"]["task_id"] == "whole"
    assert last["options"]["link"] == [sig("l")]
    assert last["options"]["link_error"] == [sig("e")]
    assert (last["options"]["group_id"], last["options"]["group_index"]) == ("g", 3)
    assert last["options"]["chord"]["task"] == "body"


def test_a_groups_members_know_their_place(app: Caraway) -> None:
    found, starts = sent(app, group(sig("a"), group(sig("b"), sig("c")), task_id="g"), 7)

    assert [(h["task"], h["group"], h["group_index"], args) for h, args, _ in found] == [
        ("a", "g", 0, [7]), ("b", "g", 1, [7]), ("c", "g", 2, [7]),
    ]  # fmt: skip
    assert starts == []


def test_a_chord_sends_its_header_with_its_body(app: Caraway) -> None:
    whole = chord(group(sig("a", 1), chain(sig("b"), sig("c", task_id="c")), task_id="g"),
                  sig("total", task_id="body"), task_id="g")  # fmt: skip
    found, (start,) = sent(app, whole, 7, chain=[sig("after")])

    assert (start.group_id, start.size) == ("g", 2)
    assert start.ttl > 0
    (first, args, embed), (second, _, rest) = found
    assert (first["task"], first["group"], first["group_index"], args) == ("a", "g", 0, [7, 1])
    assert embed["chord"]["chord_size"] == 2
    assert embed["chord"]["options"]["task_id"] == "body"
    assert [step["task"] for step in embed["chord"]["options"]["chain"]] == ["after"]
    assert (second["task"], second["group"], rest["chord"]) == ("b", None, None)
    last = rest["chain"][0]["options"]
    assert (last["group_id"], last["group_index"]) == ("g", 1)
    assert last["chord"]["task"] == "total"


def test_a_header_may_be_a_list_and_empty(app: Caraway) -> None:
    assert [h["task"] for h, _, _ in sent(app, chord([sig("a")], sig("total")))[0]] == ["a"]

    found, starts = sent(app, chord([], sig("total", task_id="t")))
    assert [(h["id"], args) for h, args, _ in found] == [("t", [[]])]
    assert starts == []


@pytest.mark.parametrize("way", ["in a chain", "by what follows"])
def test_a_group_with_something_after_it_is_a_chord(app: Caraway, way: str) -> None:
    if way == "in a chain":
        found, (start,) = sent(app, chain(group(sig("a"), sig("b")), sig("total"), sig("z")))
    else:
        found, (start,) = sent(app, group(sig("a"), sig("b")), chain=[sig("z"), sig("total")])

    assert start.size == 2
    assert [h["task"] for h, _, _ in found] == ["a", "b"]
    body = found[0][2]["chord"]
    assert body["task"] == "total"
    assert [step["task"] for step in body["options"]["chain"]] == ["z"]


def test_an_immutable_signature_takes_nothing(app: Caraway) -> None:
    found, _ = sent(app, sig("a", 1, immutable=True), 7)
    assert found[0][1] == [1]
    whole = {**chain(sig("a", 1), sig("b")), "immutable": True}
    assert sent(app, whole, 7)[0][0][1] == [1]


def test_the_size_of_a_header_counts_ends_of_tasks() -> None:
    one = sig("a")
    assert size_of(one) == 1
    assert size_of(chain(one, one)) == 1
    assert size_of(group(one, chain(one, group(one, one)))) == 3
    assert size_of(chord([one, one, one], group(one, one))) == 2
    assert size_of(chain(one, group(one, one), one)) == 1


def test_a_repeated_run_derives_the_same_ids(app: Caraway) -> None:
    whole = chord([sig("a"), sig("b")], sig("total"))

    first, again = sent(app, whole), sent(app, whole)

    assert [h["id"] for h, _, _ in first[0]] == [h["id"] for h, _, _ in again[0]]
    assert first[1] == again[1]
    assert len({h["id"] for h, _, _ in first[0]} | {first[1][0].group_id}) == 3


def deep(kind: str) -> Any:
    whole: Any = sig("a")
    for _ in range(200):
        whole = group(whole) if kind == "group" else chain(whole, sig("b"))
    return whole


@pytest.mark.parametrize(
    "bad",
    [
        None, 7, {}, {"task": 3}, canvas("bridge", {}), canvas("chain", {}), canvas("group", {}),
        canvas("chord", {"header": []}), chord(None, sig("b")), chain(7), group(None),
        deep("group"), deep("chain"),
    ],
)  # fmt: skip
def test_what_is_no_canvas_raises_an_error_of_ours(app: Caraway, bad: Any) -> None:
    with pytest.raises(InvalidTaskError):
        sent(app, bad)
