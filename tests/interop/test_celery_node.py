"""celery-node, a client and worker that neither we nor Celery's authors wrote."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from .conftest import HERE, ROOT, ClientError, Place, Running

VERSION = "0.5.9"
HOME = ROOT / ".nox" / "celery-node"
SCRIPT = str(HERE / "node_side.js")


@pytest.fixture(scope="session")
def node(missing: Callable[[str], NoReturn]) -> str:
    """The program, with celery-node where `node_side.js` finds it."""
    program, npm = shutil.which("node"), shutil.which("npm")
    if program is None or npm is None:
        missing("node and npm not found: apt-get install nodejs npm, or brew install node")
    stamp = HOME / "installed"
    if not stamp.exists() or stamp.read_text() != VERSION:
        from filelock import FileLock

        HOME.mkdir(parents=True, exist_ok=True)
        with FileLock(str(HOME) + ".lock"):
            (HOME / "package.json").write_text('{"private": true}\n')
            subprocess.run(
                [npm, "install", "--no-save", "--no-package-lock", "--omit=dev", "--no-audit",
                 "--no-fund", "--cache", str(ROOT / ".nox" / "npm-cache"),
                 f"celery-node@{VERSION}"],
                cwd=HOME, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
            stamp.write_text(VERSION)
    return program


@pytest.fixture
def ask(node: str, place: Place, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A client that sends to Caraway's worker."""
    env = {**place.env, "INTEROP_NODE": str(HOME), "INTEROP_QUEUE": "ours"}
    with (tmp_path / "node.log").open("w") as log:
        process = subprocess.Popen(
            [node, SCRIPT], env=env, cwd=tmp_path, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def ask(task: str, *args: Any, **order: Any) -> Any:
        stdin.write(json.dumps({"task": task, "args": args, **order}) + "\n")
        stdin.flush()
        line = stdout.readline()
        assert line, (tmp_path / "node.log").read_text()
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError({"module": "", **answer})
        return answer["ok"]

    yield ask
    stdin.close()
    process.wait(10)
    stdout.close()


@pytest.mark.parametrize("protocol", [1, 2])
def test_its_client_gets_results_from_our_worker(ask: Any, protocol: int) -> None:
    assert ask("add", 2, 3, protocol=protocol) == 5
    found = ask("echo", 1, "é\u2028", None, [1.5], kwargs={"ü": {"a": None}}, protocol=protocol)
    assert found == [[1, "é\u2028", None, [1.5]], {"ü": {"a": None}}]


@pytest.mark.parametrize("protocol", [1, 2])
def test_its_client_learns_of_failures(ask: Any, protocol: int) -> None:
    with pytest.raises(ClientError) as caught:
        ask("fail", "colour", protocol=protocol)
    assert caught.value.name == "FAILURE"
    record = json.loads(caught.value.arguments[0])
    assert (record["exc_type"], record["exc_message"]) == ("ValueError", ["colour", 42])


def test_its_worker_runs_what_our_client_sends(node: str, place: Place, tmp_path: Path) -> None:
    env = {**place.env, "INTEROP_NODE": str(HOME), "INTEROP_QUEUE": "node"}
    worker = Running([node, SCRIPT, "worker"], tmp_path / "worker.log", env)
    try:
        with place.client("caraway", "node") as ours:
            worker.ready()
            assert ours("call", task="add", args=[2, 3]) == 5
            found = ours("call", task="echo", args=[1, "é", None], kwargs={"a": [1]})
            assert found == [[1, "é", None], {"a": [1]}]
            failed = ours("send", task="fail", args=["colour"])
            # It stores no exception, so there is none to raise but one of ours.
            with pytest.raises(ClientError) as caught:
                ours("get", id=failed)
            assert caught.value.name == "RuntimeError"
            assert ours("state", id=failed)["state"] == "FAILURE"
    finally:
        worker.kill()
