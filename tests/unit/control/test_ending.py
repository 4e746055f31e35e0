"""What signals mean to tasks."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from caraway import Caraway
from caraway.control.ending import signal_name, signal_number, way_of
from caraway.errors import ImproperlyConfigured
from caraway.message import new_owner_id


@pytest.mark.parametrize("text", ["SIGKILL", "KILL", "kill", " sigkill ", 9, "9", signal.SIGKILL])
def test_a_signal_is_named_or_numbered(text: Any) -> None:
    assert signal_number(text) == 9
    assert signal_name(9) == "SIGKILL"


@pytest.mark.parametrize(
    ("name", "way"),
    [
        (None, "raise"), ("TERM", "raise"), ("INT", "raise"), ("HUP", "raise"),
        ("USR1", "limit"), ("KILL", "kill"), ("QUIT", "kill"), ("ABRT", "kill"), ("USR2", "kill"),
    ],
)  # fmt: skip
def test_each_signal_has_its_way(name: str | None, way: str) -> None:
    assert way_of(signal_number(name)) == way


@pytest.mark.parametrize("text", ["", "SIG", "NOPE", "SIGSTOP", "CONT", 0, -9, 4000, 9.5, ["KILL"]])
def test_what_ends_nothing_is_refused_before_anything_is_sent(text: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match="SIGTERM raises Terminated"):
        signal_number(text)
    app = Caraway("x", broker=f"memory://ending-{new_owner_id()}", set_as_current=False)
    with pytest.raises(ImproperlyConfigured):
        app.control.terminate("id", signal=text)
    with pytest.raises(ImproperlyConfigured):
        app.control.revoke_by_stamped_headers({"a": 1}, terminate=True, signal=text)
    assert not app.transport.revoked(["id"])
    app.close()
