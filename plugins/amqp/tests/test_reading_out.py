"""All that a queue holds is read, however long the broker's processes take for it."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from caraway.errors import TransportUnavailable
from caraway.interfaces import Context
from caraway.testing.servers import Server
from caraway.url import Url
from caraway_amqp import frames
from caraway_amqp.channel import Channel
from caraway_amqp.frames import publish_to, short
from caraway_amqp.tables import dump_table
from caraway_amqp.topology import declare_queue, read_out
from caraway_amqp.transport import AmqpTransport

from .conftest import until

QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def connect(rabbitmq: Server) -> Iterator[Callable[[], Channel]]:
    transport = AmqpTransport(Url.parse(rabbitmq.url), {}, Context())
    links = []

    def make() -> Channel:
        links.append(transport.connect(10.0, "reads out"))
        return links[-1].channel()

    yield make
    for link in links:
        link.close()
    transport.close()


def consume(channel: Channel, queue: str, arguments: dict[str, object]) -> None:
    declared = declare_queue(queue, arguments)
    channel.call(frames.QUEUE_DECLARE, declared, frames.QUEUE_DECLARE_OK)
    consumed = b"\0\0" + short(queue) + short("") + b"\0" + dump_table({})
    channel.call(frames.BASIC_CONSUME, consumed, frames.BASIC_CONSUME_OK)


def publish(channel: Channel, queue: str, count: int) -> None:
    """The broker's channel has sent them on when this returns."""
    # A content header without properties, of one byte; and that byte.
    header = b"\x02" + channel.number.to_bytes(2, "big") + (14).to_bytes(4, "big")
    header += b"\0\x3c\0\0" + (1).to_bytes(8, "big") + b"\0\0" + b"\xce"
    body = b"\x03" + channel.number.to_bytes(2, "big") + (1).to_bytes(4, "big") + b"x\xce"
    channel.send((publish_to(channel.number, "", queue) + header + body) * count)
    channel.call(frames.BASIC_QOS, bytes(7), frames.BASIC_QOS_OK)


@contextmanager
def asleep(rabbitmq: Server, process: str) -> Iterator[Callable[[], None]]:
    """This process of the broker handles no message meanwhile; yields what wakes it."""
    rabbitmq.control("eval", f"[sys:suspend(P) || P <- {process}].")
    awake = threading.Event()

    def wake() -> None:
        if not awake.is_set():
            awake.set()
            rabbitmq.control("eval", f"[sys:resume(P) || P <- {process}].")

    try:
        yield wake
    finally:
        wake()


def leader(queue: str) -> str:
    """Of a quorum queue, in Erlang."""
    return f"[whereis('%2F_{queue}')]"


def ends_of(rabbitmq: Server, channel: Channel) -> str:
    """The broker's processes for the channels of this connection, in Erlang."""
    port = channel.link.socket.getsockname()[1]
    found = rabbitmq.control(
        "eval",
        "[pid_to_list(P) || P <- rabbit_channel:list(),"
        " {name, N} <- rabbit_channel:info(P, [name]),"
        f' binary:match(N, <<":{port} ->">>) =/= nomatch].',
    )
    listed = found.strip().strip("[]").split(",")
    return "[" + ",".join(f"list_to_pid({each.strip()})" for each in listed) + "]"


def waiting(rabbitmq: Server, process: str) -> bool:
    """There are messages that it has not looked at."""
    lengths = f"[element(2, process_info(P, message_queue_len)) || P <- {process}]."
    return rabbitmq.control("eval", lengths).strip() != "[0]"


def test_what_stands_behind_the_answer_is_read(
    rabbitmq: Server, connect: Callable[[], Channel]
) -> None:
    queue, reader, writer = f"q{uuid.uuid4().hex}", connect(), connect()
    consume(reader, queue, {})
    process = ends_of(rabbitmq, reader)
    reading = threading.Thread(target=read_out, args=(reader, queue, lambda: None))
    with asleep(rabbitmq, process) as wake:
        reading.start()
        until(lambda: waiting(rabbitmq, process), "the channel is asked")
        # The queue hands them to the channel (it would keep what goes beyond 200), and holds
        # nothing when that asks it.
        publish(writer, queue, 150)
        wake()
        reading.join(20)
    assert len(reader.deliveries) == 150


def test_a_quorum_queue_whose_leader_stalls_is_not_empty(
    rabbitmq: Server, connect: Callable[[], Channel]
) -> None:
    queue, reader = f"q{uuid.uuid4().hex}", connect()
    consume(reader, queue, QUORUM)
    answers: list[None] = []
    reading = threading.Thread(target=read_out, args=(reader, queue, lambda: answers.append(None)))
    with asleep(rabbitmq, leader(queue)) as wake:
        reading.start()
        # Each says that there are no messages.
        until(lambda: len(answers) > 2, "the broker answers for the leader")
        assert reading.is_alive()
        wake()
        reading.join(20)
    assert not reading.is_alive()


def test_a_leader_that_is_gone_is_told(rabbitmq: Server, connect: Callable[[], Channel]) -> None:
    queue, reader = f"q{uuid.uuid4().hex}", connect()
    consume(reader, queue, QUORUM)
    with (
        asleep(rabbitmq, leader(queue)),
        pytest.raises(TransportUnavailable, match="doesn't answer within 1 s"),
    ):
        read_out(reader, queue, lambda: None, patience=1.0)
    read_out(reader, queue, lambda: None)
