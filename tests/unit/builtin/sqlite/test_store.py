from __future__ import annotations

import os
import sqlite3
import threading
from typing import Any

import pytest

from caraway.builtin.sqlite import schema
from caraway.errors import (
    BackendError,
    BackendStoreError,
    OwnerLost,
    SchemaMismatch,
    StoreCorrupt,
    StoreFull,
    StoreReadOnly,
    TransportError,
    TransportUnavailable,
)
from caraway.message import Completion, Message, Publication, Settlement, StoredResult


def test_a_new_file_is_marked_as_ours(bench: Any) -> None:
    bench.transport()
    assert bench.sql("PRAGMA application_id") == [(schema.APPLICATION_ID,)]
    assert bench.sql("PRAGMA user_version") == [(schema.VERSION,)]
    assert bench.sql("PRAGMA journal_mode") == [("wal",)]


def test_many_that_come_first_at_once_make_one_schema(bench: Any) -> None:
    barrier = threading.Barrier(8)
    failures: list[BaseException] = []

    def come(number: int) -> None:
        barrier.wait()
        try:
            # Options of its own, so that each opens the file by itself.
            bench.publish(bench.transport(busy_timeout=20 + number), str(number))
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=come, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert bench.sql("SELECT count(*) FROM ready") == [(8,)]


def test_a_newer_schema_is_refused_and_left_alone(bench: Any) -> None:
    bench.transport().close()
    bench.sql(f"PRAGMA user_version={schema.VERSION + 1}")
    with pytest.raises(SchemaMismatch, match="schema 2, this Caraway knows 1") as caught:
        bench.transport()
    assert "Upgrade Caraway" in caught.value.hint
    assert bench.sql("PRAGMA user_version") == [(schema.VERSION + 1,)]


def test_another_programs_database_is_refused_and_left_alone(bench: Any) -> None:
    bench.sql("CREATE TABLE customer(name TEXT)")
    before = bench.path.read_bytes()
    with pytest.raises(StoreCorrupt, match="of another program") as caught:
        bench.transport()
    assert "another file" in caught.value.hint
    assert bench.path.read_bytes() == before


def test_what_is_no_database_is_refused_and_left_alone(bench: Any) -> None:
    bench.path.write_bytes(b"all sorts of things, but no database " * 100)
    before = bench.path.read_bytes()
    with pytest.raises(StoreCorrupt, match="isn't a SQLite database"):
        bench.transport()
    with pytest.raises(BackendError, match="isn't a SQLite database"):
        bench.backend()
    assert bench.path.read_bytes() == before


def test_a_damaged_file_is_told(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, *map(str, range(500)))
    transport.close()
    whole = bytearray(bench.path.read_bytes())
    whole[8192:] = b"\xa5" * (len(whole) - 8192)
    bench.path.write_bytes(whole)
    with pytest.raises(StoreCorrupt) as caught:
        bench.publish(bench.transport(), "x")
    assert ".recover" in caught.value.hint


def test_an_empty_file_is_filled(bench: Any) -> None:
    bench.path.touch()
    bench.publish(bench.transport(), "x")


def test_an_old_library_is_told(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    with pytest.raises(SchemaMismatch, match=r"needs 3\.35\.0 or newer"):
        bench.transport()


def test_a_missing_directory_is_told(bench: Any) -> None:
    with pytest.raises(TransportError, match="there is no directory"):
        bench.transport("sqlite:///absent/jobs.db")
    with pytest.raises(BackendError, match="there is no directory"):
        bench.backend("sqlite:///absent/jobs.db")


def _limit_pages(bench: Any, component: Any, more: int) -> None:
    (used,) = component.file._writer.execute("PRAGMA page_count").fetchone()
    component.file._writer.execute(f"PRAGMA max_page_count={used + more}")


def test_a_full_store_keeps_nothing_of_a_batch_and_goes_on_when_there_is_room(bench: Any) -> None:
    transport = bench.transport()
    bench.publish(transport, "before")
    _limit_pages(bench, transport, 4)
    large = Publication(Message(b"x" * 200_000, {"id": "large"}), "q")
    with pytest.raises(StoreFull) as caught:
        transport.publish([Publication(bench.message("small"), "q"), large])
    assert "Free space" in caught.value.hint
    assert transport.stats(["q"])[0].ready == 1
    _limit_pages(bench, transport, 10_000)
    transport.publish([large])
    assert transport.stats(["q"])[0].ready == 2


def test_a_full_store_keeps_nothing_of_a_commit_and_the_delivery_stays_ours(bench: Any) -> None:
    transport, backend = bench.transport(), bench.backend()
    bench.publish(transport, "one", "two")
    consumer = bench.consumer(transport)
    one, two = consumer.fetch(2, 0)
    _limit_pages(bench, transport, 2)
    completions = [
        Completion(Settlement(one.tag), StoredResult("one", "SUCCESS", b"1")),
        Completion(Settlement(two.tag), StoredResult("two", "SUCCESS", b"x" * 200_000)),
    ]
    with pytest.raises(StoreFull):
        consumer.commit(completions)
    assert backend.get(["one", "two"]) == {}
    with pytest.raises(BackendStoreError, match="no space"):
        backend.store([completions[1].result])
    _limit_pages(bench, transport, 10_000)
    assert consumer.commit(completions) == []
    assert set(backend.get(["one", "two"])) == {"one", "two"}


def test_a_lock_that_is_never_given_back_ends_in_an_error_that_says_where_to_look(
    bench: Any,
) -> None:
    transport = bench.transport(busy_timeout=0.05)
    other = sqlite3.connect(bench.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(TransportUnavailable, match="locked by another process") as caught:
            transport.publish([Publication(bench.message("x"), "q")], timeout=0.05)
        assert "fuser" in caught.value.hint
        with pytest.raises(TransportUnavailable):
            transport.ping()
        assert transport.stats() == []  # who only reads doesn't wait
    finally:
        other.execute("ROLLBACK")
        other.close()
    bench.publish(transport, "x")


def test_a_file_removed_in_use_is_told_and_the_next_attempt_opens_a_new_one(bench: Any) -> None:
    transport = bench.transport()
    consumer = bench.consumer(transport)
    bench.path.unlink()
    with pytest.raises(TransportUnavailable, match="removed or replaced"):
        bench.publish(transport, "x")
    bench.publish(transport, "x")
    assert bench.sql("SELECT count(*) FROM ready") == [(1,)]
    with pytest.raises(OwnerLost):  # its lease went with the file
        consumer.fetch(1, 0)


def test_a_waiting_consumer_notices_that_its_file_was_removed(bench: Any) -> None:
    consumer = bench.consumer(bench.transport(poll_interval=0.01))
    assert list(consumer.fetch(1, 0.001)) == []
    bench.path.unlink()
    with pytest.raises(TransportUnavailable, match="removed or replaced"):
        consumer.fetch(1, 5)


def test_components_of_one_file_share_its_connections_and_the_last_closes(bench: Any) -> None:
    transport, backend, schedule = bench.transport(), bench.backend(), bench.schedule()
    assert transport.file is backend.file is schedule.file
    transport.close()
    transport.close()
    backend.ping()
    assert (bench.directory / "jobs.db-wal").exists()
    backend.close()
    schedule.close()
    assert not (bench.directory / "jobs.db-wal").exists()
    with pytest.raises(TransportError, match="closed"):
        transport.ping()
    with pytest.raises(BackendError, match="closed"):
        backend.ping()


def test_links_to_one_file_are_one_store(bench: Any) -> None:
    transport = bench.transport()
    (bench.directory / "link.db").symlink_to(bench.path)
    assert transport.shares_store(bench.backend("sqlite:///link.db"))
    assert not transport.shares_store(bench.backend("sqlite:///other.db"))


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files synced by us."""
    names: list[str] = []
    real = os.fdatasync

    def note(descriptor: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")))
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", note)
    return names


needs_proc = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="reads /proc")


@needs_proc
def test_the_name_of_a_new_log_is_synced_before_anything_counts_as_kept(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    transport = bench.transport()
    bench.publish(transport, "1")
    assert synced == [str(bench.directory)]
    bench.publish(transport, "2")
    assert synced == [str(bench.directory)], "once is enough"


def test_what_must_last_is_synced_and_what_may_be_lost_is_not(bench: Any, syncs: list[str]) -> None:
    transport, backend = bench.transport(), bench.backend()
    consumer = bench.consumer(transport)
    syncs.clear()
    bench.publish(transport, "x")
    assert syncs == ["jobs.db-wal"]
    (delivery,) = consumer.fetch(1, 0)
    transport.renew([consumer.owner.id])
    assert list(consumer.fetch(1, 0.001)) == []
    assert syncs == ["jobs.db-wal"]
    consumer.commit([Completion(Settlement(delivery.tag))])
    assert len(syncs) == 2
    backend.store([StoredResult("x", "SUCCESS", b"")])
    assert len(syncs) == 3


@needs_proc
@pytest.mark.parametrize("option", ["normal", "off"])
def test_durability_can_be_relaxed(bench: Any, syncs: list[str], option: str) -> None:
    transport = bench.transport(synchronous=option)
    bench.publish(transport, "x")
    assert syncs == []
    level = {"normal": 1, "off": 0}[option]
    assert transport.file._writer.execute("PRAGMA synchronous").fetchone() == (level,)


def test_without_a_sync_of_our_own_sqlite_syncs(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "fdatasync")
    transport = bench.transport()
    bench.publish(transport, "x")
    assert transport.file._writer.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a_disk_that_fails_to_sync_is_told(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = bench.transport()

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with pytest.raises(TransportError, match="disk doesn't take"):
        bench.publish(transport, "x")


def test_the_write_lock_is_free_after_any_error(bench: Any) -> None:
    transport = bench.transport()

    def fail_half_way() -> None:
        with transport.file.write() as connection:
            connection.execute("INSERT INTO queue(name, hidden) VALUES('undone', 0)")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert transport.stats() == []
    with pytest.raises(TransportError), transport.file.write() as connection:
        connection.execute("SELECT nonsense")
    transport.ping()


def test_a_log_that_grew_is_cut(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from caraway.builtin.sqlite import store

    monkeypatch.setattr(store, "_WAL_LIMIT", 100_000)
    monkeypatch.setattr(store, "_COMMITS_BETWEEN_LOOKS", 3)
    transport = bench.transport()
    log = bench.directory / "jobs.db-wal"
    sizes = []
    for number in range(40):
        bench.publish(transport, f"{number}" * 1000)
        sizes.append(log.stat().st_size)
    assert max(sizes) < 400_000
    assert min(sizes[10:]) < 100_000


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="root may write anything: tests/integration/sqlite tries it as another user",
)
def test_a_directory_that_cannot_be_written_is_told(bench: Any) -> None:
    bench.directory.chmod(0o500)
    try:
        with pytest.raises(StoreReadOnly):
            bench.transport()
    finally:
        bench.directory.chmod(0o700)
