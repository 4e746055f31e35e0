"""Files in a folder: nothing is lost, and kombu's own programs may take part."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kombu import Connection

from caraway.interfaces import Context
from caraway.message import Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.url import Url
from caraway_kombu.transport import KombuTransport

HOLDER = """
import sys, time
from caraway.interfaces import Context
from caraway.message import Owner, Queue
from caraway.url import Url
from caraway_kombu.transport import KombuTransport
transport = KombuTransport(Url.parse(sys.argv[1]), {}, Context())
consumer = transport.consume([Queue(name="q")], Owner(id="dead"))
print(len(consumer.fetch(2, 5.0)), flush=True)
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "messages"


@pytest.fixture
def transport(folder: Path) -> Iterator[KombuTransport]:
    built = KombuTransport(Url.parse(f"kombu+filesystem://{folder}"), {}, Context())
    yield built
    built.close()


def kombus(folder: Path) -> Any:
    """kombu's own transport on the same folder."""
    options = {
        "data_folder_in": str(folder),
        "data_folder_out": str(folder),
        "control_folder": str(folder / "control"),
    }
    return Connection("filesystem://", transport_options=options)


def send(transport: KombuTransport, *bodies: bytes) -> None:
    transport.publish(
        [Publication(Message(b, {"task": "t", "id": b.decode()}), "q") for b in bodies]
    )


def consume(transport: KombuTransport) -> Any:
    return transport.consume([Queue(name="q")], Owner(id=new_owner_id()))


def test_what_a_killed_process_held_is_back_at_once_and_counted(
    transport: KombuTransport, folder: Path
) -> None:
    send(transport, b"1", b"2", b"3")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"kombu+filesystem://{folder}"], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"2\n"
        consumer = consume(transport)
        assert [d.message.body for d in consumer.fetch(10, 0)] == [b"3"]
        assert transport.reclaim("dead") == 0, "what a living process holds was taken from it"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    assert transport.reclaim("dead") == 2
    taken = [d for _ in range(2) for d in consumer.fetch(10, 1.0)]
    assert [(d.message.body, d.attempt) for d in taken] == [(b"1", 2), (b"2", 2)]


def test_consumers_look_for_what_dead_processes_left_by_themselves(
    transport: KombuTransport, folder: Path
) -> None:
    send(transport, b"1")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, f"kombu+filesystem://{folder}"], stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"1\n"
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
    consumer = consume(transport)
    deadline = time.monotonic() + 10.0
    taken: list[Any] = []
    while not taken and time.monotonic() < deadline:
        taken += consumer.fetch(1, 1.0)
    assert [d.attempt for d in taken] == [2]


def test_kombu_s_own_consumers_get_what_we_write(transport: KombuTransport, folder: Path) -> None:
    send(transport, b"one", b"two")
    with kombus(folder) as plain:
        channel = plain.channel()
        got = [channel.basic_get("q").body for _ in range(2)]
        assert channel.basic_get("q") is None
    assert sorted(got) == [b"one", b"two"]


def test_we_get_what_kombu_s_own_producers_write(transport: KombuTransport, folder: Path) -> None:
    with kombus(folder) as plain:
        plain.Producer().publish({"a": 1}, exchange="", routing_key="q", headers={"task": "t"})
    consumer = consume(transport)
    (delivery,) = consumer.fetch(10, 5.0)
    assert delivery.message.body == b'{"a": 1}'
    assert not consumer.settle([Settlement(delivery.tag)])
    assert not list(folder.glob("*.msg"))
    assert not list(folder.glob(".held/*/*"))


def test_a_file_that_is_still_being_written_is_waited_for(
    transport: KombuTransport, folder: Path
) -> None:
    send(transport, b"x")
    (path,) = folder.glob("*.msg")
    whole = path.read_bytes()
    path.write_bytes(b"")
    consumer = consume(transport)
    with open(path, "r+b") as file:
        import threading

        writer = threading.Timer(0.05, lambda: (file.write(whole), file.flush()))
        writer.start()
        (delivery,) = consumer.fetch(1, 5.0)
        writer.join()
    assert delivery.message.body == b"x"
    assert not delivery.defect


def test_a_file_that_is_no_message_is_delivered_with_its_defect(
    transport: KombuTransport, folder: Path
) -> None:
    path = folder / "1_x.q.msg"
    path.write_bytes(b"{nonsense")
    os.utime(path, (1, 1))
    consumer = consume(transport)
    (delivery,) = consumer.fetch(1, 5.0)
    assert "not a message" in delivery.defect
    assert b"nonsense" in delivery.message.body
    consumer.close()
    assert path.read_bytes().startswith(b'"'), "it was lost"


def test_processed_files_are_kept_where_that_is_asked_for(folder: Path) -> None:
    url = Url.parse(f"kombu+filesystem://{folder}")
    transport = KombuTransport(url, {"store_processed": True}, Context())
    send(transport, b"x")
    consumer = consume(transport)
    consumer.settle([Settlement(d.tag) for d in consumer.fetch(1, 5.0)])
    transport.close()
    assert len(list((folder / "processed").glob("*.q.msg"))) == 1


def test_queues_are_listed_and_nothing_is_left_behind(
    transport: KombuTransport, folder: Path
) -> None:
    send(transport, b"x")
    other = KombuTransport(Url.parse(f"kombu+filesystem://{folder}"), {}, Context())
    assert [(s.name, s.ready) for s in other.stats()] == [("q", 1)]
    consumer = consume(other)
    consumer.settle([Settlement(d.tag) for d in consumer.fetch(1, 5.0)])
    other.close()
    assert not list((folder / ".held").iterdir())
