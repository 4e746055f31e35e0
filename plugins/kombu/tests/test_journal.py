"""The journal of what was taken from brokers that forget what they have given away."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caraway.errors import ImproperlyConfigured, StoreFull, TransportUnavailable
from caraway.interfaces import Context
from caraway.message import Message, Owner, Publication, Queue, Settlement, new_owner_id
from caraway.url import Url
from caraway_kombu.journal import Journal, sweep
from caraway_kombu.marks import Found
from caraway_kombu.transport import KombuTransport


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[KombuTransport]:
    made = build(tmp_path)
    yield made
    made.close()


def build(folder: Path, **options: Any) -> KombuTransport:
    url = Url.parse(f"kombu+sqla+sqlite:///{folder}/jobs.db")
    return KombuTransport(url, options, Context(node="x@here", directory=str(folder)))


def consume(broker: KombuTransport) -> Any:
    return broker.consume([Queue(name="celery")], Owner(id=new_owner_id(), lease=30.0))


def publish(broker: KombuTransport, *bodies: bytes) -> None:
    broker.publish([Publication(Message(body, {"id": "1"}), "celery") for body in bodies])


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(".caraway/kombu/*/*/*") if path.is_file())


def test_what_is_taken_is_in_files_until_it_is_settled(
    broker: KombuTransport, tmp_path: Path
) -> None:
    publish(broker, b"1", b"2", b"3")
    consumer = consume(broker)
    taken = [*consumer.fetch(3, 5.0)]
    assert len(taken) == 3
    assert len(files(tmp_path)) == 3
    consumer.settle([Settlement(taken[0].tag), Settlement(taken[1].tag, "release")])
    assert len(files(tmp_path)) == 1
    consumer.settle([Settlement(taken[2].tag, "reject")])
    assert not files(tmp_path)


def test_a_closed_consumer_leaves_no_files(broker: KombuTransport, tmp_path: Path) -> None:
    publish(broker, b"1")
    consumer = consume(broker)
    assert consumer.fetch(1, 5.0)
    consumer.close()
    assert not [*tmp_path.glob(".caraway/kombu/*/*")]
    assert broker.stats(["celery"])[0].ready == 1


@pytest.mark.parametrize("way", ["reclaim", "fetch"])
def test_what_a_killed_process_held_is_put_back_counted(
    broker: KombuTransport, tmp_path: Path, way: str
) -> None:
    publish(broker, b"1", b"2")
    broker.close()
    ready, told = os.pipe()
    child = os.fork()
    if not child:
        try:
            victim = build(tmp_path)
            taken = consume(victim).fetch(2, 5.0)
            os.write(told, b"%d" % len(taken))
            signal.pause()
        finally:
            os._exit(1)
    try:
        assert os.read(ready, 1) == b"2"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    heir = build(tmp_path)
    try:
        assert len(files(tmp_path)) == 2
        assert heir.stats(["celery"])[0].ready == 0
        if way == "reclaim":
            assert heir.reclaim("whoever") == 2
            assert not files(tmp_path)
        consumer = consume(heir)
        taken = [*consumer.fetch(2, 5.0)]
        assert sorted((d.message.body, d.attempt) for d in taken) == [(b"1", 2), (b"2", 2)]
        assert {d.message.headers["id"] for d in taken} == {"1"}
    finally:
        heir.close()


def test_nobody_takes_what_the_living_hold(broker: KombuTransport, tmp_path: Path) -> None:
    publish(broker, b"1")
    consumer = consume(broker)
    assert consumer.fetch(1, 5.0)
    other = build(tmp_path)
    try:
        assert other.reclaim("whoever") == 0
        assert not consume(other).fetch(1, 0.0)
    finally:
        other.close()
    assert len(files(tmp_path)) == 1


def test_a_message_that_an_error_left_in_nobody_s_hands_is_put_back(
    broker: KombuTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Taken from the broker, and then what was to be done with it failed."""
    message = Message(b"1", {"id": "1"})
    broker.publish([Publication(message, "celery")])
    consumer = consume(broker)
    link = consumer._link
    monkeypatch.setattr(consumer, "_admit", _fails)
    with pytest.raises(TransportUnavailable):
        consumer.fetch(1, 5.0)
    monkeypatch.undo()
    link.close()
    (delivery,) = consumer.fetch(1, 5.0)
    assert (delivery.message.body, delivery.attempt) == (b"1", 1)


def _fails(*_: object) -> None:
    raise TransportUnavailable("gone")


def test_without_room_for_its_file_a_message_goes_back(
    broker: KombuTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(broker, b"1")
    consumer = consume(broker)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(Journal, "write", full)
    with pytest.raises(StoreFull):
        consumer.fetch(1, 5.0)
    monkeypatch.undo()
    assert [d.message.body for d in consumer.fetch(1, 5.0)] == [b"1"]


def test_a_journal_that_can_t_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    broker = build(tmp_path, journal="file")
    try:
        with pytest.raises(ImproperlyConfigured, match="journal") as raised:
            consume(broker)
    finally:
        broker.close()
    assert '"journal": False' in str(raised.value.hint)


def test_without_a_journal_it_is_said_that_things_are_lost(tmp_path: Path) -> None:
    broker = build(tmp_path, journal=False)
    try:
        assert "is lost" in broker.caution
        publish(broker, b"1")
        assert consume(broker).fetch(1, 5.0)
        assert not (tmp_path / ".caraway").exists()
    finally:
        broker.close()


def test_each_broker_has_a_journal_of_its_own_and_files_only_its_user_reads(
    broker: KombuTransport, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = KombuTransport(
        Url.parse(f"kombu+sqla+sqlite:///{tmp_path}/other/jobs.db"), {}, broker.context
    )
    consume(broker)
    consume(other)
    folders = [*tmp_path.glob(".caraway/kombu/*")]
    assert len(folders) == 2
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}
    other.close()


def test_what_only_kombu_can_write_is_kept_too(tmp_path: Path) -> None:
    headers = {"big": 2**70, "surrogate": "\ud800", "deep": [[{"": None}]]}
    found = Found(Message(b"\xff", headers, properties={"reply_to": "x"}), "tag", 1, due=3.5)
    journal = Journal(tmp_path / "journal")
    journal.write("celery", found)
    journal.home.forget()
    seen: list[tuple[str, Found]] = []
    assert sweep(journal.folder, lambda queue, found: seen.append((queue, found))) == 1
    ((queue, again),) = seen
    assert (queue, again.attempts, again.due) == ("celery", 2, 3.5)
    assert again.message == found.message


def test_what_was_being_written_at_a_kill_is_kept_for_people(tmp_path: Path) -> None:
    above = tmp_path / "journal"
    dead = Journal(above)
    dead.write("celery", Found(Message(b"whole", {"id": "1"}), 1))
    path = dead.home.folder / "000000000000"
    torn = path.read_bytes()[:-5]
    (dead.home.folder / "000000000001").write_bytes(torn)
    dead.home.forget()
    back: list[bytes] = []

    assert sweep(above, lambda queue, found: back.append(found.message.body)) == 1

    assert back == [b"whole"]
    assert [each.read_bytes() for each in above.glob("*.broken")] == [torn]
