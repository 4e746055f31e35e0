"""The board: what a lane writes, its supervisor reads, even after the lane's death."""

from __future__ import annotations

import os
import signal

import pytest

from caraway.message import Completion, Message, Publication, Settlement, StoredResult
from caraway.worker.board import JOURNAL_SIZE, Board


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
    board.lane(1).start(2, 12.5, 3.0, 42, "some-id")
    (run,) = board.lane(1).running()
    assert (run.slot, run.tag, run.task_id) == (2, 42, "some-id")
    assert (run.started, run.hard) == (12.5, 3.0)
    assert board.lane(0).running() == []


@pytest.mark.parametrize("tag", [0, 7, 2**62, "a-text-tag", "5"])
def test_tags_keep_their_type(board: Board, tag: int | str) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, tag, "id")
    assert lane.running()[0].tag == tag
    assert type(lane.running()[0].tag) is type(tag)


def test_an_ended_run_is_gone(board: Board) -> None:
    lane = board.lane(0)
    lane.start(0, 1.0, 0.0, 1, "id")
    lane.start(1, 1.0, 0.0, 2, "id")
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
    lane.start(0, 1.0, 5.0, 1, "id", True)
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
    lane.start(0, 1.0, 0.0, 1, "id")
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
        lane.start(0, 2.0, 0.0, 2, "running")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [c.settlement.tag for c in board.lane(1).journal()] == [1]
    assert [run.task_id for run in board.lane(1).running()] == ["running"]
