"""Programs and workers of a new project start at the same moment."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

from caraway import Caraway


def test_a_file_that_another_process_is_just_making_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")  # as SQLite does itself, when it switches to its log
    waited = threading.Event()

    def let_go() -> None:
        waited.wait(0.3)
        other.execute("ROLLBACK")
        other.close()

    thread = threading.Thread(target=let_go)
    thread.start()
    app = Caraway("new", broker=f"sqlite:///{path}")
    try:
        app.transport.ping()
    finally:
        waited.set()
        thread.join()
        app.close()

    with contextlib.closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)
