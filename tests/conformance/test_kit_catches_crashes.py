"""The suites' processes that are killed find what only a crash shows.

The broken implementations are made of the SQLite ones, in a module that the killed
processes can import.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from caraway.interfaces import Capability
from caraway.testing.conformance import run

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = '''
import os, time
from caraway.builtin.sqlite import SqliteBackend, SqliteTransport


class Buffers(SqliteTransport):
    """Says that messages are in the broker while they are still in its memory."""

    def publish(self, publications, *, timeout=5.0):
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += publications
        if len(waiting) >= 50 or os.environ.get("MAIN") == str(os.getpid()):
            time.sleep(0.05)
            super().publish(waiting)
            waiting.clear()


class ThreeSteps(SqliteTransport):
    """Its commit is three transactions, in the wrong order."""

    def consume(self, queues, owner):
        consumer = super().consume(queues, owner)
        transport = self

        def commit(completions):
            fenced = consumer.settle([c.settlement for c in completions])
            time.sleep(0.02)
            backend = SqliteBackend(transport_url, {}, transport_context)
            backend.store([c.result for c in completions if c.result])
            backend.close()
            time.sleep(0.02)
            transport.publish([p for c in completions for p in c.publications])
            return fenced

        consumer.commit = commit
        return consumer

    def __init__(self, url, options, context):
        global transport_url, transport_context
        transport_url, transport_context = url, context
        super().__init__(url, options, context)


class Peeks(SqliteTransport):
    """Processes look at the same messages: each delivers them from a copy."""

    def consume(self, queues, owner):
        consumer = super().consume(queues, owner)
        fetch = consumer.fetch
        transport = self

        def copying(limit, timeout):
            taken = fetch(limit, timeout)
            if taken and taken[0].message.headers.get("copied") is None and not transport.copied:
                transport.copied = True
                from msgspec.structs import replace
                from caraway.message import Publication
                transport.publish([Publication(taken[0].message, taken[0].queue)])
            return taken

        consumer.fetch = copying
        return consumer

    copied = False


class Forgets(SqliteBackend):
    """Stores now and then what it was given since."""

    def store(self, results):
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += results
        if len(waiting) >= 50:
            time.sleep(0.05)
            super().store(waiting)
            waiting.clear()


class JoinsInProcess(SqliteBackend):
    """Counts the members that this process has seen."""

    def join(self, group_id, member, size, ttl):
        seen = self.__dict__.setdefault("seen", {}).setdefault(group_id, set())
        seen.add(member)
        return super().join(group_id, member, size, ttl) and len(seen) >= size
'''

CASES = [
    ("transport", "Buffers", ["what_was_published_outlives_its_publisher"]),
    ("transport", "ThreeSteps", ["a_kill_leaves_each_commit_whole_or_undone"]),
    ("transport", "Peeks", ["a_message_goes_to_one_of_many_processes"]),
    ("backend", "Forgets", ["what_was_stored_outlives_who_stored_it"]),
    ("backend", "JoinsInProcess", ["of_many_processes_exactly_one_completes_a_join"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "broken", "expected"), CASES, ids=[case[1] for case in CASES])
def test_a_broken_store_fails_the_tests_that_kill(
    kind: str,
    broken: str,
    expected: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_stores.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.path", sys.path)
    monkeypatch.setenv("MAIN", str(os.getpid()))
    sys.modules.pop("broken_stores", None)
    attributes = {"backend_factory": "caraway.builtin.sqlite:SqliteBackend"}
    report = run(
        kind,
        f"broken_stores:{broken}",
        lambda path: f"sqlite:///{path}/store.db",
        only=lambda name: name.removeprefix("test_") in expected,
        patience=4.0,
        **(attributes if kind == "transport" else {}),
    )
    assert Capability.SHARED.value in report.declared
    assert sorted(check.name for check in report.failed) == sorted(expected)
