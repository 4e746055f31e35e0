"""Every example of the documentation runs.

How a page is read, block by block, in order, in an empty folder:

- a block whose first line is a comment with a file's name (``# tasks.py``,
  ``# caraway.toml``) is written to that file
- a ``console`` block's lines that begin with ``$`` are run by a shell and must end well;
  where output follows, what was printed must match it (``...`` stands for anything).
  ``caraway ... worker`` without ``--help`` is started in the background, and must
  still be running when the page ends, and stop well.  A line ``[1]`` after a command
  says that it ends with this exit code
- other ``python`` blocks of a page are one program, run once at each block's end
- a ``toml`` block without a name must parse
- ``<!-- not run: reason -->`` before a block excuses it; ``text`` and others are prose
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("core/README.md"), *ROOT.glob("docs/**/*.md"))
    if "_build" not in path.parts and "```" in path.read_text()
)
BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<excuse>[^\n]+?) -->\n+)?"
    r"^(?P<indent> *)(?P<fence>```+)(?P<language>[\w{}-]*)[^\n]*\n(?P<body>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
NAMED = re.compile(r"^(?:#|//) ([\w./-]+\.(?:py|toml|cfg|ini|txt))\s*$")
LANGUAGES = {"python", "console", "toml"}
TIMEOUT = 60
"""Seconds a command of an example may take."""


class Page:
    """A page's folder, its program so far, and the workers it started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program = ""
        self.workers: list[tuple[str, subprocess.Popen[bytes], Path]] = []
        self.ran = 0
        scripts = Path(sys.executable).parent
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("CARAWAY_")},
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "NO_COLOR": "1",
            "COLUMNS": "100",
        }

    def run(self, block: re.Match[str]) -> None:
        """Do what one block says."""
        body = re.sub(f"^{block['indent']}", "", block["body"], flags=re.MULTILINE)
        first, _, rest = body.partition("\n")
        if name := NAMED.match(first):
            path = self.folder / name[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(body)
            if path.suffix == ".py":
                compile(rest, name[1], "exec")
        elif block["language"] == "console":
            self.shell(body)
        elif block["language"] == "toml":
            tomllib.loads(body)
        else:
            self.python(body)
        self.ran += 1

    def python(self, body: str) -> None:
        """Add to the page's program and run the addition, after what came before."""
        if body.startswith(">>>"):
            raise AssertionError("write examples as programs, not as sessions of the prompt")
        self.program += body + "\n"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", self.program],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"

    def shell(self, body: str) -> None:
        """Run the commands of a console block and compare what they print."""
        for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            while command.endswith("\\"):
                line, _, shown = shown.partition("\n")
                command = command[:-1] + line.strip()
            wanted = 0
            if code := re.search(r"^\[(\d+)\]$", shown, re.MULTILINE):
                wanted = int(code[1])
                shown = shown.replace(code[0], "")
            if re.search(r"^caraway .*\bworker\b", command) and "--help" not in command:
                self.worker(command)
                continue
            done = subprocess.run(
                command,
                shell=True,
                executable="/bin/bash",
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=TIMEOUT,
                check=False,
            )
            assert done.returncode == wanted, f"$ {command}\n{done.stdout}{self.last_words()}"
            if shown.strip():
                pattern = re.escape(shown.strip()).replace(r"\.\.\.", ".*")
                pattern = re.sub(r"(\\\s|\s)+", r"\\s+", pattern)
                assert re.search(pattern, done.stdout, re.DOTALL), (
                    f"$ {command}\nprinted:\n{done.stdout}\nthe page shows:\n{shown}"
                )

    def worker(self, command: str) -> None:
        """Start a worker that runs until the page ends."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/bash", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.workers.append((command, process, log))

    def last_words(self) -> str:
        """What the page's workers printed."""
        return "".join(f"\n--- {c}\n{log.read_text()[-2000:]}" for c, _, log in self.workers)

    def end(self) -> None:
        """Stop the page's workers; each must have lived until now and must end well."""
        problems = []
        for command, process, log in self.workers:
            if process.poll() is not None:
                problems.append(f"{command} ended early: {process.returncode}")
            else:
                # One that has only just begun hasn't got its handlers yet.
                deadline = time.monotonic() + 15
                while "is ready" not in log.read_text() and time.monotonic() < deadline:
                    time.sleep(0.02)
                process.terminate()
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = process.wait()
            if code != 0:
                problems.append(f"{command}: exit code {code}")
        assert problems == [], self.last_words()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path)
    try:
        yield page
    finally:
        page.end()


def blocks(path: Path) -> list[re.Match[str]]:
    return list(BLOCK.finditer(path.read_text()))


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_every_example_of_the_page_runs(name: str, page: Page) -> None:
    for block in blocks(ROOT / name):
        if not block["excuse"] and block["language"] in LANGUAGES:
            page.run(block)


@pytest.mark.parametrize("name", PAGES)
def test_every_block_says_what_language_it_is(name: str) -> None:
    nameless = [b["body"] for b in blocks(ROOT / name) if not b["language"]]

    assert nameless == [], "write ```text where it is nothing to run"


@pytest.mark.parametrize("name", PAGES)
def test_only_blocks_with_a_good_reason_are_not_run(name: str) -> None:
    excuses = [b["excuse"] for b in blocks(ROOT / name) if b["excuse"]]

    assert [e for e in excuses if len(e.split()) < 3] == []
    assert len(excuses) <= max(3, len(blocks(ROOT / name)) // 2), "too many are excused"
