"""Many processes on one file, some of which are killed or stopped."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from caraway.builtin.sqlite import SqliteBackend, SqliteTransport
from caraway.errors import TransportError, TransportUnavailable
from caraway.interfaces.context import Context
from caraway.message import Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.url import Url

ACTOR = Path(__file__).with_name("actor.py")
Start = Callable[..., subprocess.Popen[str]]

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX signals and fork")
root = pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start an actor; all are killed at the end."""
    started: list[subprocess.Popen[str]] = []

    def begin(*arguments: str, directory: Path = tmp_path) -> subprocess.Popen[str]:
        what, *rest = arguments
        process = subprocess.Popen(
            [sys.executable, str(ACTOR), what, str(directory), *rest],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def open_transport(directory: Path, query: str = "") -> SqliteTransport:
    url = Url.parse(f"sqlite:///jobs.db{query}")
    return SqliteTransport(url, {}, Context(directory=str(directory)))


@posix
@pytest.mark.crash
def test_nothing_acknowledged_is_lost_and_no_outcome_stands_twice(
    start: Start, tmp_path: Path
) -> None:
    chance = random.Random(4)
    publishers = [start("publish", f"p{n}") for n in range(2)]
    consumers = [start("consume", "0.5") for _ in range(3)]
    said: list[subprocess.Popen[str]] = list(publishers)
    for process in consumers:
        line(process)
    for kill in range(24):
        time.sleep(chance.uniform(0.02, 0.15))
        group, command = (
            (publishers, ("publish", f"k{kill}"))
            if kill % 4 == 0
            else (consumers, ("consume", "0.5"))
        )
        victim = group.pop(chance.randrange(len(group)))
        victim.send_signal(signal.SIGKILL)
        group.append(start(*command))
        if group is publishers:
            said.append(group[-1])
    for process in publishers:
        process.kill()
    acknowledged: set[str] = set()
    for process in said:
        output, _ = process.communicate(timeout=20)
        lines = output.split("\n")
        acknowledged.update(name for whole in lines[:-1] for name in whole.split())
    transport = open_transport(tmp_path)
    try:
        deadline = time.monotonic() + 30
        while any(s.ready or s.delayed or s.held for s in transport.stats()):
            assert time.monotonic() < deadline, transport.stats()
            time.sleep(0.05)
    finally:
        transport.close()
    connection = sqlite3.connect(tmp_path / "jobs.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    stored = [row[0] for row in connection.execute("SELECT task_id FROM result")]
    messages = connection.execute("SELECT count(*) FROM message").fetchone()
    connection.close()
    done = set(stored)
    assert len(acknowledged) > 100
    assert acknowledged <= done
    assert len(stored) == len(done)
    assert {name + "+" for name in done if not name.endswith("+")} <= done
    assert messages == (0,)


@posix
def test_a_stopped_process_that_holds_the_lock_delays_nobody_for_ever(
    start: Start, tmp_path: Path
) -> None:
    holder = start("hold")
    assert line(holder) == "held"
    holder.send_signal(signal.SIGSTOP)
    transport = open_transport(tmp_path, "?busy_timeout=0.2")
    try:
        begun = time.monotonic()
        with pytest.raises(TransportUnavailable, match="locked by another process") as caught:
            transport.publish([Publication(Message(b"[]", {"id": "x"}), "q")], timeout=0.3)
        assert 0.2 < time.monotonic() - begun < 3
        assert "stopped process" in caught.value.hint
        holder.kill()
        holder.wait()
        transport.publish([Publication(Message(b"[]", {"id": "x"}), "q")])
    finally:
        transport.close()


def test_a_waiting_process_is_woken_and_does_not_poll(start: Start, tmp_path: Path) -> None:
    waiter = start("answer")
    assert line(waiter) == "ready"
    transport = open_transport(tmp_path)
    backend = SqliteBackend(
        Url.parse("sqlite:///jobs.db"), {"poll_interval": 60}, Context(directory=str(tmp_path))
    )
    delays = []
    try:
        for number in range(30):
            time.sleep(0.01)
            message = Message(b"[]", {"id": f"t{number}", "at": time.time()})
            # Also what isn't due yet, though the waiter looked already.
            due = time.time() + 0.05 if number % 10 == 9 else 0.0
            transport.publish([Publication(message, "q", due=due)])
            assert f"t{number}" in backend.wait([f"t{number}"], 30)
            delays.append(float(line(waiter).split()[1]) - (0.05 if due else 0.0))
    finally:
        backend.close()
        transport.close()
    # Polling would take seconds; the bound leaves room for a busy machine.
    assert statistics.median(delays) < 0.2


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_connections_alone(tmp_path: Path) -> None:
    transport = open_transport(tmp_path)
    consumer = transport.consume([Queue(name="q")], Owner(id=new_owner_id()))
    transport.publish([Publication(Message(b"[]", {"id": "before"}), "q")])
    (held,) = consumer.fetch(1, 0)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            try:
                transport.ping()
            except TransportError:
                code = 2
            transport.close()
            own = open_transport(tmp_path)
            own.publish([Publication(Message(b"[]", {"id": "from the child"}), "q")])
            own.close()
            code += 40
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 42
    try:
        assert consumer.settle([Settlement(held.tag)]) == []
        (delivery,) = consumer.fetch(1, 5)
        assert delivery.message.headers["id"] == "from the child"
    finally:
        transport.close()


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_what_a_child_stores_outlives_its_parents_connection(tmp_path: Path) -> None:
    transport = open_transport(tmp_path)
    asks, answers = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = open_transport(tmp_path)
            own.publish([Publication(Message(b"[]", {"id": "one"}), "q")])
            os.write(answers[1], b"x")
            os.read(asks[0], 1)
            own.publish([Publication(Message(b"[]", {"id": "two"}), "q")])
            code = 0
        finally:
            os._exit(code)  # as if it were killed: nothing is tidied up
    assert os.read(answers[0], 1)
    transport.close()  # not the last to have the file open: the log must stay
    os.write(asks[1], b"x")
    _, status = os.waitpid(child, 0)
    for end in (*asks, *answers):
        os.close(end)
    after = open_transport(tmp_path)
    try:
        assert os.waitstatus_to_exitcode(status) == 0
        assert after.stats(["q"])[0].ready == 2
    finally:
        after.close()


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_child_forked_amid_transactions_of_other_threads_can_work(tmp_path: Path) -> None:
    transport = open_transport(tmp_path)
    ended = threading.Event()
    failures: list[BaseException] = []

    def publish() -> None:
        try:
            while not ended.is_set():
                transport.publish([Publication(Message(b"[]", {"id": "x"}), "busy")])
                transport.stats(["busy"])
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    codes = []
    try:
        for _ in range(30):
            child = os.fork()
            if child == 0:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(20)
                try:
                    own = open_transport(tmp_path)
                    own.publish([Publication(Message(b"[]", {"id": "y"}), "q")])
                    own.close()
                finally:
                    os._exit(1 if sys.exc_info()[0] else 0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
    ready = transport.stats(["q"])[0].ready
    transport.close()
    assert (codes, failures, ready) == ([0] * 30, [], 30)


@posix
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_within_a_transaction_does_not_wait_for_its_end(tmp_path: Path) -> None:
    transport = open_transport(tmp_path, "?busy_timeout=0.01")
    publication = Publication(Message(b"[]", {"id": "x"}), "q")
    transport.publish([publication])
    with transport.file.write() as connection:
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert connection.execute("SELECT count(*) FROM ready").fetchone() == (1,)
    transport.publish([publication])
    assert transport.stats(["q"])[0].ready == 2
    transport.close()


@root
@pytest.mark.parametrize("secured", ["file", "directory"])
def test_a_user_who_may_only_read_is_told_what_to_do(
    start: Start, tmp_path: Path, secured: str
) -> None:
    folder = tmp_path
    while folder != folder.parent and not folder.stat().st_mode & 0o001:
        folder.chmod(folder.stat().st_mode | 0o001)
        folder = folder.parent
    open_transport(tmp_path).close()
    tmp_path.chmod(0o777 if secured == "file" else 0o755)
    (tmp_path / "jobs.db").chmod(0o644)
    said = line(start("attempt", "65534"))
    assert said.startswith("StoreReadOnly")
    assert "hint: Give" in said


@root
def test_a_full_disk_loses_nothing(start: Start, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a tmpfs, which a container may withhold")
    try:
        filler = start("fill", directory=disk)
        output, _ = filler.communicate(timeout=60)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert output.split() == ["StoreFull", "BackendStoreError", "1"]
