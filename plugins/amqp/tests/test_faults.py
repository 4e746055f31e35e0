"""What may go wrong on a real RabbitMQ, and what must hold all the same."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces import Context
from caraway.message import Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp.transport import AmqpTransport

from .conftest import Place, until

Places = Callable[..., Place]


def test_a_task_that_holds_the_interpreter_s_lock_keeps_its_message(place: Places) -> None:
    here = place(broker_heartbeat=2.0)
    with here.worker():
        here.send("hog", "a", 8.0)
        until(lambda: "end a" in here.said(), "it ends")
        here.send("nap", "b")
        until(lambda: "end b" in here.said(), "the next one ends")
    assert here.said() == ["begin a", "end a", "begin b", "end b"]
