"""The board: what a lane writes, its supervisor reads, even after the lane's death."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime

import pytest

from caraway.message import Completion, Message, Publication, Settlement, StoredResult
from caraway.worker.board import JOURNAL_SIZE, Board, mark_of


@pytest.fixture
def board() -> Board:
    return Board(lanes=2, slots=3)


def completion(tag: int | str, size: int = 10) -> Completion:
    return Completion(Settlement(tag), StoredResult("id", "SUCCESS", b"x" * size, 60.0))


def test_a_fresh_board_is_empty(board: Board) -> None:
    lane = board.lane(0)
    assert lane.running() == []
    assert list(lane.journal()) == []
    assert lane.seen().tick == 0.0


def test_a_started_run_is_seen_with_its_tag_and_task_id(board: Board) -> None:
    board.lane(1).start(2, 12.5, 3.0, mark_of(42, "some-id"))
    (run,) = board.lane(1).running()
    assert (run.slot, run.tag, run.task_id) == (2, 42, "some-id")
    assert (run.started, run.hard) == (12.5, 3.0)
    assert board.lane(0).running() == []


@pytest.mark.parametrize("tag", [0, 7, -1, 2**62, 2**70, "", "a-text-tag", "5"])
def test_tags_keep_their_type(board: Board, tag: int | str) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, mark_of(tag, "id"))
    assert lane.running()[0].tag == tag
    assert type(lane.running()[0].tag) is type(tag)


@pytest.mark.parametrize("task_id", ["", "id", "x" * 38, "y" * 39, "z" * 160, "\ud800", "日本"])
def test_task_ids_are_whole(board: Board, task_id: str) -> None:
    lane = board.lane(0)
    lane.start(1, 1.0, 0.0, mark_of("other", "a" * 160))
    lane.start(1, 2.0, 0.0, mark_of(5, task_id))
    (run,) = lane.running()
    assert (run.tag, run.task_id) == (5, task_id)


def test_a_task_id_that_is_too_long_is_cut_off(board: Board) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, mark_of("tag", "日" * 100))
    (run,) = lane.running()
    assert run.tag == "tag"
    assert run.task_id.startswith("日" * 53)


@pytest.mark.parametrize("tag", [3, "3-1"])
def test_a_plain_success_is_written_down_in_short(board: Board, tag: int | str) -> None:
    lane = board.lane(0)
    assert lane.note(mark_of(tag, "some-id"), b'"value"', time.monotonic(), 60.0)
    assert lane.record(completion(2))
    short, whole = board.lane(0).journal()
    assert whole == completion(2)
    assert short.settlement == Settlement(tag)
    assert short.result is not None
    assert (short.result.task_id, short.result.state) == ("some-id", "SUCCESS")
    assert short.result.ttl == 60.0
    meta = json.loads(short.result.payload)
    assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", "value", "some-id")
    ended = datetime.fromisoformat(meta["date_done"]).timestamp()
    assert abs(ended - time.time()) < 5


def test_what_is_not_short_is_to_be_recorded_whole(board: Board) -> None:
    lane = board.lane(0)
    assert not lane.note(mark_of(1, "id"), b'"' + b"v" * 30 + b'"', 1.0, 0.0)
    assert not lane.note(mark_of(1, "i" * 60), b"null", 1.0, 0.0)
    assert list(board.lane(0).journal()) == []


def test_a_journal_full_of_short_entries_says_so(board: Board) -> None:
    lane = board.lane(0)
    written = 0
    while lane.note(mark_of(written, "id"), b"null", 1.0, 0.0):
        written += 1
    assert written > 4000  # more than a batch
    assert [c.settlement.tag for c in board.lane(0).journal()] == list(range(written))
    lane.used = 0
    assert lane.note(mark_of(77, "id"), b"null", 1.0, 0.0)
    assert [c.settlement.tag for c in board.lane(0).journal()] == [77]


def test_an_ended_run_is_gone(board: Board) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, mark_of(1, "id"))
    lane.start(1, 1.0, 0.0, mark_of(2, "id"))
    lane.end(0)
    assert [run.tag for run in lane.running()] == [2]


def test_the_journal_gives_completions_back_in_order_and_whole(board: Board) -> None:
    lane = board.lane(0)
    message = Message(b"body", {"id": "1", "retries": 1}, properties={"priority": 3})
    entries = [
        completion(1),
        Completion(
            Settlement("two", "reject", reason="no"),
            None,
            (Publication(message, "celery", priority=3, due=5.0),),
        ),
    ]
    for entry in entries:
        assert lane.record(entry)
    assert list(board.lane(0).journal()) == entries
    lane.used = 0
    lane.record(entries[1])
    assert list(board.lane(0).journal()) == [entries[1]]


def test_a_release_is_not_written_down(board: Board) -> None:
    """Its message may come back under the same tag, of which the entry must not speak."""
    lane = board.lane(0)
    assert lane.record(Completion(Settlement(1, "release", counted=False)))
    assert list(board.lane(0).journal()) == []


def test_what_msgpack_cannot_hold_is_said_to_be_unwritten(board: Board) -> None:
    lane = board.lane(0)
    assert lane.record(completion(1))
    odd = Publication(Message(b"", {"id": "1", "big": 2**70}), "celery")
    assert not lane.record(Completion(Settlement(2), None, (odd,)))
    assert [c.settlement.tag for c in lane.journal()] == [1]


def test_a_tick_beside_a_record_leaves_the_journal_alone(board: Board) -> None:
    """The attendant ticks while the lane's main thread may be writing an entry."""
    lane = board.lane(0)
    assert lane.record(completion(1))
    lane.used = 0  # committed; the count stands until the next entry
    lane.tick(1.0, 0.0)
    assert lane.record(completion(2))
    lane.tick(2.0, 0.0)
    assert [c.settlement.tag for c in board.lane(0).journal()] == [2]


def test_a_run_acknowledged_before_it_began_is_marked(board: Board) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 5.0, mark_of(1, "id", early=True))
    (run,) = lane.running()
    assert (run.tag, run.hard, run.early) == (1, 5.0, True)


def test_a_full_journal_says_so_and_keeps_what_it_has(board: Board) -> None:
    lane = board.lane(0)
    written = 0
    while lane.record(completion(written, 10_000)):
        written += 1
    assert written == JOURNAL_SIZE // (JOURNAL_SIZE // written)
    assert len(list(lane.journal())) == written
    assert not lane.record(completion(999, JOURNAL_SIZE))


def test_clear_makes_room_for_another_lane(board: Board) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, mark_of(1, "id"))
    lane.record(completion(1))
    lane.tick(5.0, 4.0)
    board.lane(0).clear()
    assert board.lane(0).running() == []
    assert list(board.lane(0).journal()) == []
    assert board.lane(0).seen().tick == 0.0


def test_what_a_killed_process_wrote_is_still_there(board: Board) -> None:
    pid = os.fork()
    if pid == 0:
        lane = board.lane(1)
        lane.record(completion(1))
        lane.start(0, 2.0, 0.0, mark_of(2, "running"))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [c.settlement.tag for c in board.lane(1).journal()] == [1]
    assert [run.task_id for run in board.lane(1).running()] == ["running"]


def test_both_halves_of_the_journal_are_read(board: Board) -> None:
    lane, reader = board.lane(0), board.lane(0)

    def said() -> set[int]:
        return {c.settlement.tag for c in reader.journal()}

    assert lane.record(completion(1))
    lane.turn()
    assert said() == {1}
    assert lane.record(completion(2))
    assert lane.note(mark_of(3, "id"), b"3", 1.0, 60.0)
    assert said() == {1, 2, 3}
    # What the first half says is committed by now, and may be written over.
    lane.turn()
    assert said() == {1, 2, 3}
    assert lane.record(completion(4))
    assert said() == {2, 3, 4}
    lane.turn()
    while lane.record(completion(5, 10_000)):
        pass
    assert said() == {4, 5}
    assert not list(board.lane(1).journal())
    reader.clear()
    assert said() == set()
