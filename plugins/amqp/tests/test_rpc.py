"""Results over ``rpc://``: a client, a worker, and what may go wrong between them."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import BackendError, ImproperlyConfigured
from caraway.message import StoredResult
from caraway.testing.servers import Server
from caraway_amqp import frames, replies
from caraway_amqp.topology import declare_queue, probe

from .conftest import Place, until

Places = Callable[..., Place]


def test_results_failures_and_states_come_back(place: Places) -> None:
    here = place(result_backend="rpc://")
    with here.worker():
        results: list[Any] = [here.send("add", number, 1) for number in range(200)]
        assert [each.get(timeout=20) for each in results] == list(range(1, 201))
        failed: Any = here.send("fail", "no")
        with pytest.raises(ValueError, match="no"):
            failed.get(timeout=20)
        assert failed.state == "FAILURE"
        done: Any = here.send("progress")
        assert done.get(timeout=20) == "done"


def test_many_threads_wait_each_for_its_own(place: Places) -> None:
    here = place(result_backend="rpc://")
    answers: dict[int, Any] = {}

    def ask(number: int) -> None:
        result: Any = here.send("add", number, 0)
        answers[number] = result.get(timeout=20)

    with here.worker():
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert answers == {number: number for number in range(30)}


def test_a_result_survives_the_loss_of_all_connections(place: Places, rabbitmq: Server) -> None:
    here = place(result_backend="rpc://")
    with here.worker():
        first: Any = here.send("nap", "a", 0.5)
        until(lambda: "begin a" in here.said(), "it runs")
        rabbitmq.control("close_all_connections", "a test")
        assert first.get(timeout=30) == "a"
        second: Any = here.send("add", 1, 1)
        assert second.get(timeout=30) == 2


def test_the_reply_queue_goes_with_its_app(place: Places) -> None:
    here = place(result_backend="rpc://")
    name = here.app.reply_to
    assert [stats.consumers for stats in here.app.transport.stats([name])] == [1]
    here.app.close()
    (stats,) = here.app.transport.stats([name])
    assert not stats.consumers
    # Used again, the app makes it anew.
    here.send("add", 1, 1)
    assert [stats.consumers for stats in here.app.transport.stats([name])] == [1]


CLIENT = """
import sys, time
from caraway_amqp import replies
replies._UNUSED = 1.0
from here import app
app.send_task("add", (1, 1))
print(app.reply_to, flush=True)
time.sleep(60)
"""


def there(here: Place, name: str) -> bool:
    """The broker has this queue."""
    with here.app.transport.publisher.asking() as channel:
        return name in probe(channel.link, [name])


def test_the_reply_queue_of_a_client_that_was_killed_goes_soon(place: Places) -> None:
    here = place(result_backend="rpc://")
    with subprocess.Popen(
        [sys.executable, "-c", CLIENT], cwd=here.folder, stdout=subprocess.PIPE, text=True
    ) as client:
        assert client.stdout is not None
        name = client.stdout.readline().strip()
        assert name
        assert there(here, name)
        client.kill()
    for _ in range(10):
        # Each look begins the queue's time anew.
        time.sleep(1.5)
        if not there(here, name):
            return
    pytest.fail("it is still there")


def test_a_reply_queue_that_nobody_reads_is_kept_for_five_minutes(place: Places) -> None:
    here = place(result_backend="rpc://")
    short_lived = place(result_backend="rpc://", result_expires=60.0)
    for app, seconds in ((here.app, 300), (short_lived.app, 60)):
        with here.app.transport.publisher.asking() as channel:
            # Of other arguments than these, it would be refused.
            declared = declare_queue(app.reply_to, {"x-expires": seconds * 1000})
            channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)


@pytest.mark.parametrize("heartbeat", [10.0, 0.0])
def test_a_client_that_waits_for_nothing_comes_back_to_its_queue_by_itself(
    place: Places, rabbitmq: Server, monkeypatch: pytest.MonkeyPatch, heartbeat: float
) -> None:
    monkeypatch.setattr(replies, "_UNUSED", 3.0)
    monkeypatch.setattr(replies, "_LOOK", 0.5)
    here = place(result_backend="rpc://", broker_heartbeat=heartbeat)
    with here.worker():
        result: Any = here.send("nap", "a", 5.0)
        until(lambda: "begin a" in here.said(), "it runs")
        rabbitmq.control("close_all_connections", "a test")
        queue = here.app.backend._replies  # type: ignore[attr-defined]
        lost = queue._link
        until(lambda: queue._link is not lost and not queue._returning.under_way, "it is back")
        until(lambda: "end a" in here.said(), "it ends")
        assert there(here, here.app.reply_to)
        assert result.get(timeout=20) == "a"


def test_nobody_else_can_ask_and_is_told_so(place: Places) -> None:
    here, there = place(result_backend="rpc://"), place(result_backend="rpc://")
    result: Any = here.send("add", 1, 1)
    with pytest.raises(BackendError, match="this process has sent no task") as caught:
        there.app.AsyncResult(result.id).get(timeout=1)
    assert "Ask in the process that sent it" in str(caught.value.hint)


def test_ignored_results_need_no_reply_queue(place: Places) -> None:
    here = place(result_backend="rpc://")
    here.send("add", 1, 1, ignore_result=True)
    (stats,) = here.app.transport.stats([here.app.oid])
    assert stats.consumers == 0


def test_joins_and_chords_are_refused_with_a_reason(place: Places) -> None:
    backend = place(result_backend="rpc://").app.backend
    for ask in (
        lambda: backend.join("g", "m", 2, 0.0),
        lambda: backend.save_group("g", b"", 0.0),
        lambda: backend.chord_parts([]),
    ):
        with pytest.raises(BackendError, match="nobody but the caller sees a result"):
            ask()


def test_a_result_for_a_caller_that_is_gone_is_no_error(place: Places) -> None:
    backend = place(result_backend="rpc://").app.backend
    backend.store([StoredResult("x", "SUCCESS", b"{}", reply_to="nobody.here")])
    backend.store([StoredResult("x", "SUCCESS", b"{}")])


def test_another_broker_is_refused_with_a_hint() -> None:
    app = Caraway("here", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend="rpc://")
    with pytest.raises(ImproperlyConfigured, match="is no RabbitMQ") as caught:
        app.backend.ping()
    assert "rpc://user:password@host" in str(caught.value.hint)
