"""Commands that talk to the broker, over the default one in the project's folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway import Caraway
from caraway.message import Owner, Queue, Settlement

SHOP = """
from caraway import Caraway

app = Caraway("shop")

@app.task(name="shop.add")
def add(x, y):
    return x + y

@app.task(name="shop.slow", rate_limit="1/m")
def slow():
    pass
"""


@pytest.fixture
def shop(project: Path) -> Iterator[Caraway]:
    """The project's app, in its second life: another process's view of the same broker."""
    (project / "shop_of_cli.py").write_text(SHOP)
    (project / "caraway.toml").write_text("app = 'shop_of_cli'\n")
    app = Caraway("other", set_as_current=False)
    yield app
    app.close()


@pytest.fixture
def ask(caraway: Callable[..., Any], shop: Caraway) -> Callable[..., Any]:
    """Run a command with --json and read what it prints."""

    def call(*args: str, code: int = 0) -> Any:
        answer = caraway(*args, "--json")
        assert answer.code == code, answer
        return json.loads(answer.out)

    return call


def take(app: Caraway, queue: str = "celery", **owner: Any) -> tuple[Any, Any]:
    """Fetch one message as a worker would; the consumer stays open."""
    worker = Owner(id="o1", worker="caraway@h", pid=7, lease=60.0, **owner)
    consumer = app.transport.consume([Queue(name=queue)], worker)
    (delivery,) = consumer.fetch(1, 0)
    return consumer, delivery


def test_a_called_task_waits_in_its_queue_and_is_listed(
    ask: Callable[..., Any], caraway: Callable[..., Any]
) -> None:
    sent = ask("call", "shop.add", "-a", "[2, 3]")
    later = caraway("call", "shop.add", "-k", '{"x": 1, "y": 2}', "--countdown", "1h").out.strip()
    (queue,) = ask("queues", "list")
    assert (queue["name"], queue["ready"], queue["delayed"]) == ("celery", 1, 1)
    assert [item["id"] for item in ask("queues", "peek", "celery")] == [sent["id"]]
    assert "celery" in caraway("queues").out
    assert [one["name"] for one in ask("queues")] == ["celery"]
    assert ask("dead") == []
    assert ask("explain", later)["verdict"] == "delayed"
    assert ask("explain", sent["id"])["verdict"] == "no-worker"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("-a", "2", "a list"),
        ("-a", "[2", "not JSON"),
        ("-k", "[]", "an object"),
        ("--eta", "tomorrow", "no time"),
        ("--countdown", "soon", "duration"),
        ("--expires", "never", "no time"),
        ("--priority", "10", "range"),
    ],
)
def test_a_bad_option_of_call_sends_nothing(
    caraway: Callable[..., Any], ask: Callable[..., Any], option: str, value: str, words: str
) -> None:
    answer = caraway("call", "shop.add", option, value)
    assert answer.code == 2
    assert words in answer.err
    assert ask("queues", "list") == []


def test_wrong_arguments_are_told_before_anything_is_sent(
    caraway: Callable[..., Any], ask: Callable[..., Any]
) -> None:
    answer = caraway("call", "shop.add", "-a", "[1]")
    assert answer.code == 2
    assert "y" in answer.err
    assert "Traceback" not in answer.err
    assert ask("queues", "list") == []


def test_a_task_the_app_lacks_is_sent_with_a_note(
    caraway: Callable[..., Any], ask: Callable[..., Any]
) -> None:
    answer = caraway("call", "shop.ad")
    assert answer.code == 0
    assert "did you mean 'shop.add'" in answer.err
    assert ask("queues", "list")[0]["ready"] == 1


def test_purging_asks_first_and_drops_what_waits(
    caraway: Callable[..., Any], ask: Callable[..., Any]
) -> None:
    caraway("call", "shop.add", "-a", "[1, 2]")
    assert caraway("queues", "purge", "celery").code == 1
    assert caraway("queues", "purge", "celery", stdin="n\n").code == 1
    assert ask("queues", "list")[0]["ready"] == 1
    assert caraway("queues", "purge").code == 2
    assert "no queue 'mail'" in caraway("queues", "purge", "mail", "--yes").err
    assert ask("queues", "purge", "cel*", "--yes") == {"celery": 1}
    assert ask("queues", "list")[0]["ready"] == 0


def test_a_revoked_task_is_explained(
    caraway: Callable[..., Any], ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = ask("call", "shop.add", "-a", "[1, 2]")["id"]
    assert caraway("revoke", sent).out == "1 revoked\n"
    assert ask("explain", sent)["verdict"] == "revoked"
    assert caraway("revoke", "-", stdin="one\ntwo\n").out == "2 revoked\n"


def test_a_held_task_and_its_worker_are_shown(ask: Callable[..., Any], shop: Caraway) -> None:
    assert ask("status", code=1) == []
    sent = ask("call", "shop.add", "-a", "[1, 2]")["id"]
    consumer, _ = take(shop)
    answer = ask("explain", sent)
    assert answer["verdict"] == "held"
    assert "caraway@h (process 7)" in answer["text"]
    (worker,) = ask("status")
    assert (worker["name"], worker["held"], worker["queues"]) == ("caraway@h", 1, ["celery"])
    assert ask("status", "--ping", "-t", "0.01", code=1)[0]["answers"] is False
    consumer.close()


def test_why_a_ready_task_waits_is_explained(ask: Callable[..., Any], shop: Caraway) -> None:
    ask("call", "shop.add", "-a", "[1, 2]")
    slow = ask("call", "shop.slow")["id"]
    consumer, _ = take(shop, tasks=("shop.add",))
    assert ask("explain", slow)["verdict"] == "unknown-task"
    consumer.close()
    consumer, _ = take(shop, tasks=("shop.add", "shop.slow"))
    answer = ask("explain", slow)
    assert (answer["verdict"], "1/m" in answer["text"]) == ("rate-limited", True)
    consumer.close()


def test_dead_letters_are_listed_shown_replayed_and_dropped(
    caraway: Callable[..., Any], ask: Callable[..., Any], shop: Caraway
) -> None:
    sent = ask("call", "shop.add", "-a", "[1, 2]")["id"]
    assert caraway("dead").out == "no dead letters\n"

    def bury(*, parked: bool) -> str:
        consumer, delivery = take(shop)
        consumer.settle(
            [Settlement(delivery.tag, action="reject", reason="no such task", parked=parked)]
        )
        consumer.close()
        (letter,) = ask("dead", "list")
        assert (letter["id"], letter["reason"]) == (sent, "no such task")
        return str(letter["dead_letter"])

    one = bury(parked=True)
    answer = ask("explain", sent)
    assert (answer["verdict"], one in answer["repair"]) == ("parked", True)
    assert ask("dead", "list", "--queue", "mail") == []
    shown = caraway("dead", "show", one).out
    assert "no such task" in shown
    assert "[[1,2]" in shown.replace(" ", "")
    assert caraway("dead", "show", "999").code == 1
    assert caraway("dead", "replay", one).out == "1 of 1 put back\n"
    assert ask("queues", "list")[0]["ready"] == 1
    bury(parked=False)
    assert ask("explain", sent)["verdict"] == "dead"
    assert caraway("dead", "replay", "--all", "--parked").out == "0 of 0 put back\n"
    assert caraway("dead", "drop", "--all").code == 1
    assert caraway("dead", "drop", "--queue", "celery").code == 2
    assert caraway("dead", "drop", "--all", "--yes").out == "1 of 1 deleted\n"
    assert ask("dead", "list") == []


def test_results_are_told_with_the_exit_code_of_their_state(
    caraway: Callable[..., Any], ask: Callable[..., Any], shop: Caraway
) -> None:
    from caraway.message import StoredResult

    def keep(task_id: str, state: str, result: Any) -> None:
        record = {
            "status": state, "result": result, "traceback": "Trace...", "children": [],
            "date_done": "2030-01-01T00:00:00+00:00", "task_id": task_id,
        }  # fmt: skip
        shop.backend.store([StoredResult(task_id, state, json.dumps(record).encode(), 60.0)])

    keep("good", "SUCCESS", {"a": 5})
    keep(
        "bad", "FAILURE", {"exc_type": "ValueError", "exc_message": ["m"], "exc_module": "builtins"}
    )
    assert caraway("result", "good").out == "{'a': 5}\n"
    assert ask("result", "good")["result"] == {"a": 5}
    answer = caraway("result", "bad", "--traceback")
    assert answer.code == 1
    assert "ValueError: m" in answer.out
    assert "Trace..." in answer.out
    unknown = caraway("result", "nobody")
    assert unknown.code == 5
    assert "caraway explain nobody" in unknown.out
    assert ask("result", "good", "bad", code=1)[1]["error"] == "ValueError: m"
    assert ask("explain", "bad")["verdict"] == "ended"
    assert ask("explain", "nobody", code=1)["verdict"] == "unknown"


def test_waiting_for_a_result_ends_when_the_time_is_over(caraway: Callable[..., Any]) -> None:
    begin = time.monotonic()
    answer = caraway("result", "nobody", "--wait", "20ms")
    assert answer.code == 5
    assert time.monotonic() - begin < 5


def test_a_shell_runs_code_with_the_tasks(
    caraway: Callable[..., Any], shop: Caraway, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = caraway("shell", "-c", "print(add(2, 3), app.main)")
    assert (answer.code, answer.out) == (0, "5 shop\n")


def test_an_app_that_cant_be_imported_shows_its_own_traceback(
    caraway: Callable[..., Any], project: Path
) -> None:
    (project / "broken_shop.py").write_text("def f():\n    return 1 / 0\n\nf()\n")
    answer = caraway("-A", "broken_shop", "queues")
    assert answer.code == 3
    assert "broken_shop.py" in answer.err
    assert "ZeroDivisionError" in answer.err
    assert "caraway/cli" not in answer.err
    assert "importlib" not in answer.err


def test_a_command_that_needs_an_app_says_how_to_name_it(caraway: Callable[..., Any]) -> None:
    answer = caraway("worker")
    assert answer.code == 3
    assert "caraway -A shop" in answer.err


def test_a_broker_that_is_broken_ends_with_its_own_exit_code(
    caraway: Callable[..., Any], project: Path
) -> None:
    (project / "bad.db").write_bytes(b"this is not a database" * 100)
    answer = caraway("-b", f"sqlite:///{project}/bad.db", "queues")
    assert answer.code == 4, answer
    assert "hint" in answer.err
    assert (project / "bad.db").read_bytes().startswith(b"this is not")
