"""Build a text index over the files of a folder, with a real worker and no server.

    python examples/index/demo.py [FOLDER] [--lanes N] [--keep]

1. starts ``caraway worker`` with two lanes in a project folder of its own; client and
   worker meet in the SQLite file that Caraway makes there by default
2. cuts the files into some thousand pieces and publishes a task for each; every
   hundredth is made to fail at its first run
3. sends one task that is due in three seconds, and one that it revokes at once
4. merges results as they come in, and shows how that goes
5. times round trips through the idle worker, asks the index, and checks all it got
   against a plain loop over the same files: any difference ends in exit code 1
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LEFT_OUT = {"node_modules", "__pycache__", "_build", "build", "dist", "venv"}
"""Folders that tools fill; so are those whose names begin with a dot, but for ``.ci``."""
LARGEST = 2_000_000
"""Bytes of a file above which it is no text that people wrote."""
MOST = 50_000_000
"""Bytes of text after which it is enough for a demo: the index is kept in memory."""
PIECES = 5000
"""About so many tasks, however much text there is."""
DELAY = 3.0
"""Seconds the delayed task is delayed."""
STARTING = 60.0
"""Seconds the demo waits for the worker's first result."""
PATIENCE = 300.0
"""Seconds the demo waits for the whole index."""
STUMBLE_EVERY = 100


class Demo:
    """One run: what was asked for, and what came of it."""

    def __init__(self, folder: Path, lanes: int, project: Path, console: Console) -> None:
        self.folder = folder
        self.lanes = lanes
        self.project = project
        self.console = console
        self.lines = 0
        self.retries = 0
        self.where: dict[str, dict[str, list[int]]] = defaultdict(dict)
        self.counts: Counter[str] = Counter()
        self.processes: set[int] = set()
        self.wrong: list[str] = []

    def check(self, holds: bool, claim: str) -> None:
        """Note a claim that turned out false."""
        if not holds:
            self.wrong.append(claim)

    def add(self, piece: dict[str, Any]) -> None:
        """Merge one piece into the index."""
        self.lines += piece["lines"]
        self.retries += piece["attempts"] - 1
        self.processes.add(piece["pid"])
        for word, lines in piece["words"].items():
            self.counts[word] += len(lines)
            self.where[word].setdefault(piece["path"], []).extend(lines)

    def search(self, *words: str) -> list[tuple[int, str]]:
        """Files with all of these words, those with most occurrences first."""
        found = set.intersection(*(set(self.where.get(word, {})) for word in words))
        score = {path: sum(len(self.where[w][path]) for w in words) for path in found}
        return sorted(((n, path) for path, n in score.items()), key=lambda x: (-x[0], x[1]))


def text_files(folder: Path) -> list[Path]:
    """The text files under a folder, up to `MOST` bytes, without what tools put there."""
    files = []
    total = 0
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(
            name for name in set(folders) - LEFT_OUT if name[0] != "." or name == ".ci"
        )
        for name in sorted(names):
            path = Path(base, name)
            try:
                size = path.stat().st_size
                if path.is_symlink() or not 0 < size < LARGEST:
                    continue
                with path.open("rb") as file:
                    if b"\0" in file.read(4096):
                        continue
            except OSError:
                continue
            total += size
            if total > MOST:
                return files
            files.append(path)
    return files


def cut(files: list[Path]) -> list[tuple[str, int, int, int, bool]]:
    """Arguments of one task per piece: whole lines, pieces of about equal size."""
    aim = max(400, sum(path.stat().st_size for path in files) // PIECES)
    pieces = []
    for path in files:
        data = path.read_bytes()
        offset, line = 0, 1
        while offset < len(data):
            end = data.find(b"\n", min(offset + aim, len(data)) - 1) + 1 or len(data)
            stumble = len(pieces) % STUMBLE_EVERY == STUMBLE_EVERY - 1
            pieces.append((str(path), offset, end - offset, line, stumble))
            line += data.count(b"\n", offset, end)
            offset = end
    return pieces


@contextmanager
def worker(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of the demo's project, ended on the way out whatever happens."""
    command = [
        *(sys.executable, "-m", "caraway.cli", "-A", "textindex", "worker"),
        *("--pool", "prefork", "--concurrency", str(demo.lanes), "--loglevel", "warning"),
    ]
    log = demo.project / "worker.log"
    environment = {**os.environ, "PYTHONPATH": str(HERE), "NO_COLOR": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=demo.project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the demo, which then ends the worker
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                demo.check(False, "the worker stopped when it was asked to")


def alive(process: subprocess.Popen[bytes], demo: Demo) -> None:
    """Raise with the worker's last words if it has ended."""
    if process.poll() is not None:
        words = (demo.project / "worker.log").read_text(errors="replace")[-3000:]
        raise SystemExit(f"the worker ended early (exit code {process.returncode}):\n{words}")


class Display:
    """How far the work is: a live bar on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console, total: int) -> None:
        self.console = console
        self.total = total
        self.started = time.perf_counter()
        self._next = 1.0
        self._live = console.is_terminal
        self._bar = Progress(
            TextColumn("[bold]indexing"),
            BarColumn(None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>9,.0f} tasks/s"),
            TextColumn("{task.fields[retries]} retried"),
            TextColumn("{task.fields[words]:,} words"),
            TimeElapsedColumn(),
            console=console,
            refresh_per_second=20,
            disable=not self._live,
        )
        self._row = self._bar.add_task("", total=total, rate=0.0, retries=0, words=0)

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def show(self, done: int, demo: Demo) -> None:
        """Show where we are."""
        seconds = time.perf_counter() - self.started
        rate = done / seconds if seconds else 0.0
        fields = {"rate": rate, "retries": demo.retries, "words": len(demo.counts)}
        if self._live:
            self._bar.update(self._row, completed=done, **fields)
        elif seconds >= self._next:
            self._next = seconds + 2.0
            self.console.print(
                f"  {done}/{self.total} done, {rate:,.0f} tasks/s, "
                f"{demo.retries} retried, {len(demo.counts):,} words"
            )


def run(demo: Demo, keep_names: int = 5) -> None:
    """Everything between the worker's start and its end."""
    import textindex
    from caraway import as_completed
    from caraway.errors import TaskRevokedError

    say = demo.console.print
    files = text_files(demo.folder)
    pieces = cut(files)
    if not pieces:
        raise SystemExit(f"no text files in {demo.folder}")
    say(f"{len(files):,} files in {demo.folder}, cut into {len(pieces):,} pieces")

    with worker(demo) as process:
        began = time.perf_counter()
        hello = textindex.echo.delay(0)
        while True:
            try:
                hello.get(timeout=1)
                break
            except TimeoutError:
                alive(process, demo)
                if time.perf_counter() - began > STARTING:
                    raise SystemExit(f"the worker did nothing for {STARTING:.0f} s") from None
        first = time.perf_counter() - began
        say(f"worker with {demo.lanes} lanes is up: first result after {first:.2f} s")

        precious = demo.project / "precious"
        precious.write_text("still here")
        sent = time.time()
        late = textindex.tell_time.apply_async(countdown=DELAY)
        never = textindex.erase.apply_async(args=(str(precious),), countdown=1.0)
        never.revoke()

        began = time.perf_counter()
        results = list(textindex.index_piece.delay_many(pieces))
        publishing = time.perf_counter() - began
        with Display(demo.console, len(results)) as display:
            for done, result in enumerate(as_completed(results, timeout=PATIENCE), 1):
                demo.add(result.get())
                if done % 50 == 0:
                    alive(process, demo)
                display.show(done, demo)
        indexing = time.perf_counter() - began

        if not late.ready():
            say("waiting for the delayed task to be due")
        ran = late.get(timeout=DELAY + 10)
        demo.check(ran - sent >= DELAY, f"the delayed task waited {DELAY} s")
        try:
            never.get(timeout=10)
            demo.check(False, "the revoked task was not run")
        except TaskRevokedError:
            pass
        demo.check(precious.exists(), "the revoked task did nothing")

        trips = []
        for number in range(300):
            start = time.perf_counter()
            demo.check(textindex.echo.delay(number).get(timeout=10) == number, "echo echoes")
            trips.append((time.perf_counter() - start) * 1000)

    compare(demo, files)
    demo.check(demo.retries == len(pieces) // STUMBLE_EVERY, "each stumbling piece retried once")
    demo.check(process.returncode == 0, f"the worker ended well, not with {process.returncode}")
    show_index(demo, files, keep_names)
    cuts = statistics.quantiles(trips, n=100)
    table = Table(box=None, show_header=False, pad_edge=False, title="How it went")
    table.title_justify = "left"
    for name, value in (
        ("published", f"{len(pieces):,} tasks at {len(pieces) / publishing:,.0f} a second"),
        (
            "done",
            f"{len(pieces):,} tasks at {len(pieces) / indexing:,.0f} a second, publishing included",
        ),
        ("processes", f"{len(demo.processes)} lanes took part"),
        ("round trip", f"p50 {cuts[49]:.1f} ms, p99 {cuts[98]:.1f} ms through the idle worker"),
        ("failed at first", f"{demo.retries} tasks, each retried and done"),
        ("delayed", f"ran {ran - sent:.2f} s after it was sent, due after {DELAY:.0f} s"),
        ("revoked", "never ran: the file it was to delete is still there"),
    ):
        table.add_row(name, value)
    say()
    say(table)


def compare(demo: Demo, files: list[Path]) -> None:
    """Check the index against a plain loop: nothing lost, nothing twice."""
    import textindex

    plain: Counter[str] = Counter()
    lines = 0
    for path in files:
        data = path.read_bytes()
        lines += len(data.splitlines())
        for word, on in textindex.scan(data, 1).items():
            plain[word] += len(on)
            if sorted(demo.where[word].get(str(path), [])) != on:
                demo.check(False, f"{word!r} stands where the index says in {path}")
    demo.check(lines == demo.lines, f"{lines} lines were read, not {demo.lines}")
    demo.check(plain == demo.counts, "every word counted exactly once")


def show_index(demo: Demo, files: list[Path], names: int) -> None:
    """The result: sizes, the commonest words, the answer to a question."""
    say = demo.console.print
    say(
        f"\nThe index: {len(files):,} files, {demo.lines:,} lines, "
        f"{sum(demo.counts.values()):,} words, {len(demo.counts):,} distinct"
    )
    common = ", ".join(f"{word} {count:,}" for word, count in demo.counts.most_common(8))
    say(f"commonest: {common}")
    question = ("task", "queue")
    if not demo.search(*question):
        question = tuple(word for word, _ in demo.counts.most_common(2))
    found = demo.search(*question)
    say(f"asked for {' and '.join(question)}: {len(found):,} files, first of them")
    for count, path in found[:names]:
        say(f"  {count:>5}  {os.path.relpath(path, demo.folder)}", soft_wrap=True)


def main() -> int:
    """Parse the command line, run, report."""
    parser = argparse.ArgumentParser(description="Build a text index with a real worker.")
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT, help="default: this checkout")
    parser.add_argument("--lanes", type=int, default=2, help="worker processes (default 2)")
    parser.add_argument("--keep", action="store_true", help="keep the project folder and its log")
    options = parser.parse_args()
    folder = options.folder.resolve()
    if not folder.is_dir():
        parser.error(f"{folder} is not a folder")

    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    project = Path(tempfile.mkdtemp(prefix="caraway-demo-"))
    (project / "caraway.toml").write_text("# The defaults will do.\n")
    demo = Demo(folder, options.lanes, project, console)
    os.chdir(project)  # client and worker of one project find the same file
    sys.path.insert(0, str(HERE))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        run(demo)
    except KeyboardInterrupt:
        console.print("stopped; the worker has ended too")
        return 130
    finally:
        os.chdir(ROOT)
        if options.keep:
            console.print(f"kept: {project}")
        else:
            shutil.rmtree(project, ignore_errors=True)
    if demo.wrong:
        for claim in dict.fromkeys(demo.wrong):
            console.print(f"WRONG: it should hold that {claim}")
        return 1
    console.print("\nChecked against a plain loop over the same files: all equal.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
