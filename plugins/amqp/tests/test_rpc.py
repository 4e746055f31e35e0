"""Results over ``rpc://``: a client, a worker, and what may go wrong between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import BackendError, ImproperlyConfigured
from caraway.message import StoredResult
from caraway.testing.servers import Server

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
