"""Signals."""

from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from caraway import signals
from caraway.signals import Signal

CELERYS = """
    before_task_publish after_task_publish task_sent task_received task_prerun task_postrun
    task_success task_retry task_failure task_internal_error task_revoked task_rejected
    task_unknown import_modules celeryd_init celeryd_after_setup worker_init
    worker_before_create_process worker_process_init worker_process_shutdown worker_ready
    worker_shutting_down worker_shutdown heartbeat_sent setup_logging after_setup_logger
    after_setup_task_logger beat_init beat_embedded_init eventlet_pool_started
    eventlet_pool_preshutdown eventlet_pool_postshutdown eventlet_pool_apply
    user_preload_options
"""


def test_receivers_get_the_sender_and_the_fields() -> None:
    signal = Signal("s")
    calls: list[dict[str, Any]] = []

    @signal.connect
    def receive(**fields: Any) -> int:
        calls.append(fields)
        return 7

    assert signal.send("me", a=1) == [(receive, 7)]
    assert calls == [{"signal": signal, "sender": "me", "a": 1}]


def test_a_signal_nobody_listens_to_is_false_to_a_truth_test() -> None:
    signal = Signal("s")
    assert not signal.receivers

    def receive(**_: Any) -> None: ...

    signal.connect(receive)
    assert signal.receivers
    assert signal.has_listeners()
    assert signal.disconnect(receive)
    assert not signal.receivers
    assert not signal.disconnect(receive)


def test_a_receiver_may_choose_its_sender() -> None:
    signal = Signal("s")
    got: list[Any] = []

    class Sender:
        name = "shop.add"

    one, other = Sender(), Sender()
    other.name = "other"

    @signal.connect(sender=one)
    def by_object(sender: Any, **_: Any) -> None:
        got.append(("object", sender))

    @signal.connect(sender="shop.add")
    def by_name(sender: Any, **_: Any) -> None:
        got.append(("name", sender))

    signal.send(one)
    signal.send(other)
    signal.send("shop.add")

    assert got == [("object", one), ("name", one), ("object", "shop.add"), ("name", "shop.add")]


def test_receivers_are_held_weakly_unless_told() -> None:
    signal = Signal("s")

    class Listener:
        def receive(self, **_: Any) -> None: ...

    listener = Listener()
    signal.connect(listener.receive)
    kept = Listener()
    signal.connect(kept.receive, weak=False)
    assert len(signal.receivers) == 2

    del listener, kept
    gc.collect()

    assert len(signal.receivers) == 1


def test_a_dispatch_uid_connects_once() -> None:
    signal = Signal("s")
    signal.connect(lambda **_: 1, weak=False, dispatch_uid="x")
    signal.connect(lambda **_: 2, weak=False, dispatch_uid="x")

    assert [answer for _, answer in signal.send(None)] == [1]
    assert signal.disconnect(dispatch_uid="x")


def test_a_receiver_that_fails_is_logged_and_harms_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    signal = Signal("s")

    def fail(**_: Any) -> None:
        raise RuntimeError("oops")

    signal.connect(fail)
    signal.connect(lambda **_: "fine", weak=False)

    with caplog.at_level(logging.ERROR, "caraway"):
        answers = [answer for _, answer in signal.send(None)]

    assert isinstance(answers[0], RuntimeError)
    assert answers[1] == "fine"
    assert "oops" in caplog.text


def test_connecting_while_sending_is_safe() -> None:
    signal = Signal("s")

    def grow(**_: Any) -> None:
        signal.connect(lambda **_: None, weak=False)

    signal.connect(grow)
    assert len(signal.send(None)) == 1
    assert len(signal.receivers) == 2


def test_all_of_celerys_signals_are_there() -> None:
    for name in CELERYS.split():
        assert getattr(signals, name).name == name
