from __future__ import annotations

import os
import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from caraway.testing.servers import (
    KINDS,
    ServerFailed,
    ServerKind,
    ServerMissing,
    find_program,
    free_port,
    server,
)


def http(program: str, port: int, directory: Path) -> Sequence[str]:
    return [program, "-m", "http.server", str(port), "--bind", "127.0.0.1"]


HTTP = ServerKind(
    name="http",
    programs=(sys.executable,),
    install="install Python",
    command=http,
    url="http://127.0.0.1:{port}/",
)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_runs_for_the_length_of_the_block() -> None:
    with server(HTTP) as running:
        assert running.url == f"http://127.0.0.1:{running.port}/"
        (running.directory / "hello.txt").write_text("hello")
        with urllib.request.urlopen(running.url + "hello.txt") as answer:
            assert answer.read() == b"hello"
        assert alive(running.pid)
    assert not alive(running.pid)
    assert not running.directory.exists()


def test_a_server_is_stopped_when_the_test_fails() -> None:
    with pytest.raises(ZeroDivisionError), server(HTTP) as running:
        _ = 1 / 0
    assert not alive(running.pid)


def test_servers_run_beside_each_other() -> None:
    with server(HTTP) as one, server(HTTP) as two:
        assert one.port != two.port


MISSING = ServerKind(
    name="missing",
    programs=("no-such-program-1", "no-such-program-2"),
    install="plant one",
    command=http,
)


def test_a_missing_program_skips_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with (
        pytest.raises(ServerMissing, match=r"no-such-program-1 or .*-2 not found: plant one"),
        server(MISSING),
    ):
        pass


@pytest.mark.parametrize("value", ["true", "1", "True"])
def test_in_ci_a_missing_program_fails(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    with pytest.raises(ServerFailed, match="plant one"), server(MISSING):
        pass


def test_a_program_can_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAWAY_TEST_MISSING", sys.executable)
    assert find_program(MISSING) == sys.executable


def test_a_server_that_dies_at_once_fails_with_what_it_said() -> None:
    def command(program: str, port: int, directory: Path) -> Sequence[str]:
        return [program, "-c", "raise SystemExit('no such option')"]

    broken = ServerKind(name="broken", programs=(sys.executable,), install="", command=command)
    with pytest.raises(ServerFailed, match=r"ended with code 1\s+no such option"), server(broken):
        pass


def test_a_server_that_never_answers_is_stopped_and_fails() -> None:
    def command(program: str, port: int, directory: Path) -> Sequence[str]:
        return [program, "-c", "import time; time.sleep(60)"]

    mute = ServerKind(name="mute", programs=(sys.executable,), install="", command=command)
    with pytest.raises(ServerFailed, match="doesn't answer after"), server(mute, timeout=0.2):
        pass


def test_a_free_port_is_free() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_redis_answers_where_it_is_installed() -> None:
    with server("redis") as running:
        assert running.url == f"redis://127.0.0.1:{running.port}/0"
        assert KINDS["redis"].ready is not None
        assert KINDS["redis"].ready(running.port)
