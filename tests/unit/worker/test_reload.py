"""Watching source files, and starting a command anew."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from caraway.worker import reload


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "tasks.py").write_text("x = 1\n")
    (tmp_path / "notes.txt").write_text("no source\n")
    for skipped in (".git", "__pycache__", "node_modules"):
        (tmp_path / skipped).mkdir()
        (tmp_path / skipped / "a.py").write_text("")
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    (tmp_path / "env" / "lib.py").write_text("")
    return tmp_path


def test_written_created_and_removed_files_are_told_once(tree):
    watcher = reload.Watcher([str(tree)])
    assert watcher.changed() == []
    (tree / "shop" / "tasks.py").write_text("x = 22\n")
    (tree / "new.py").write_text("")
    (tree / "caraway.toml").write_text("")
    assert watcher.changed() == [
        str(tree / "caraway.toml"), str(tree / "new.py"), str(tree / "shop" / "tasks.py"),
    ]  # fmt: skip
    assert watcher.changed() == []
    (tree / "new.py").unlink()
    assert watcher.changed() == [str(tree / "new.py")]


def test_what_is_no_source_of_the_project_is_left_out(tree):
    watcher = reload.Watcher([str(tree)])
    for path in (".git/a.py", "__pycache__/a.py", "node_modules/a.py", "env/lib.py", "notes.txt"):
        (tree / path).write_text("changed, and longer\n")
    assert watcher.changed() == []


def test_files_outside_can_be_named(tree, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "settings.json"
    outside.write_text("1")
    watcher = reload.Watcher([str(tree)], [str(outside), str(outside) + ".missing"])
    outside.write_text("22")
    assert watcher.changed() == [str(outside)]


def test_the_first_syntax_error_is_found(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("x = 1\n")
    bad.write_text("x = 1\ndef (:\n")
    missing = tmp_path / "missing.py"
    assert reload.broken([str(good), str(missing), str(tmp_path / "caraway.toml")]) == ""
    assert reload.broken([str(good), str(bad)]).startswith(f"{bad}:2: ")
    bad.write_bytes(b"x = '\x00'")
    assert str(bad) in reload.broken([str(bad)])


def test_the_inner_process_knows_and_its_children_do_not(monkeypatch):
    monkeypatch.setenv(reload.CHILD, "1")
    assert reload.is_child() is True
    assert reload.is_child() is False
    assert reload.CHILD not in os.environ


def test_a_change_starts_the_command_anew_and_a_syntax_error_does_not(tmp_path):
    """Drives `run` step by step through what it says."""
    source, log = tmp_path / "shop.py", tmp_path / "log"
    source.write_text("x = 1\n")
    program = tmp_path / "program.sh.txt"
    program.write_text(
        "import os, sys, time\n"
        "sys.stdout = open(sys.argv[1], 'a')\n"
        "print(os.environ['CARAWAY_RELOAD_CHILD'], flush=True)\n"
        "time.sleep(60)\n"
    )
    said: list[str] = []
    steps = iter(["x = 22\n", "def (:\n", "x = 333\n"])

    def starts() -> int:
        return len(log.read_text().splitlines()) if log.exists() else 0

    wanted = [1]

    def sleep(_seconds: float) -> None:
        """Stands in for the pause: the next step, once the command is up."""
        if starts() < wanted[0]:
            threading.Event().wait(0.01)
            return
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        source.write_text(step)
        if "def" not in step:
            wanted[0] += 1

    old, reload.time.sleep = reload.time.sleep, sleep
    try:
        code = reload.run(
            [str(tmp_path)],
            command=[sys.executable, str(program), str(log)],
            patience=0.2,
            say=said.append,
        )
    finally:
        reload.time.sleep = old
    assert code == 0
    assert starts() == 3
    assert [line.split(":")[0].split(",")[0] for line in said] == [
        "changed", "not restarted", "changed",
    ]  # fmt: skip


def test_a_command_that_ignores_the_first_signal_is_killed():
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print(1, flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    reload.end(child, 0.05)
    assert child.poll() is not None
    child.stdout.close()
    reload.end(child, 0.05)
