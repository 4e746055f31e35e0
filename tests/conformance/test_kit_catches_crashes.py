"""The suites' processes that are killed find what only a crash shows.

The broken implementations are made of the SQLite ones, in a module that the killed
processes can import.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

from caraway.interfaces import Capability
from caraway.testing.conformance import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from caraway.testing.conformance import Report

BROKEN = '''
import os, time
from caraway.builtin.sqlite import SqliteBackend, SqliteTransport
from caraway.interfaces import Capability
from caraway.message import StoredResult


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


class Chords(SqliteBackend):
    """Sound, for the ends that the suite reports: one for each index.  The others are
    made of it."""

    capabilities = SqliteBackend.capabilities | {Capability.CHORDS}

    def chord_parts(self, parts):
        return [self.count(part) for part in parts]

    def count(self, part):
        ends = [f"{part.group_id}/{index}" for index in range(part.size)]
        self.store([StoredResult(ends[part.index], part.state, part.payload)])
        if not self.join(part.group_id, part.task_id, part.size, part.ttl):
            return None
        found = self.get(ends)
        return [found[end].payload for end in ends]


class CountsInProcess(Chords):
    """Counts the ends that this process has seen."""

    def count(self, part):
        seen = self.__dict__.setdefault("seen", {}).setdefault(part.group_id, set())
        seen.add(part.task_id)
        return super().count(part) if len(seen) >= part.size else None


class CompletesInProcess(Chords):
    """Only the process that completed a chord knows who did."""

    def count(self, part):
        answer = super().count(part)
        whole = f"{part.group_id}/whole"
        mine = self.__dict__.setdefault("mine", set())
        if answer is not None and not self.get([whole]):
            self.store([StoredResult(whole, "SUCCESS", part.payload)])
            mine.add(part.group_id)
        return answer if part.group_id in mine else None


class ReportsLater(Chords):
    """Counts now and then what was reported since."""

    def chord_parts(self, parts):
        if os.environ.get("MAIN") == str(os.getpid()):
            return super().chord_parts(parts)
        waiting = self.__dict__.setdefault("waiting", [])
        waiting += parts
        if len(waiting) >= 50:
            time.sleep(0.05)
            super().chord_parts(waiting)
            waiting.clear()
        return [None] * len(parts)
'''

BETWEEN = "of_many_processes_exactly_one_completes_a_chord"
OUTLIVES = "a_members_end_outlives_who_reported_it"

CASES = [
    ("transport", "Buffers", ["what_was_published_outlives_its_publisher"]),
    ("transport", "ThreeSteps", ["a_kill_leaves_each_commit_whole_or_undone"]),
    ("transport", "Peeks", ["a_message_goes_to_one_of_many_processes"]),
    ("backend", "Forgets", ["what_was_stored_outlives_who_stored_it"]),
    ("backend", "JoinsInProcess", ["of_many_processes_exactly_one_completes_a_join"]),
    ("backend", "CountsInProcess", [BETWEEN, OUTLIVES]),
    ("backend", "CompletesInProcess", [BETWEEN]),
    ("backend", "ReportsLater", [OUTLIVES]),
]


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Report]:
    """Runs tests of a suite over one of these stores."""
    (tmp_path / "broken_stores.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.path", sys.path)
    monkeypatch.setenv("MAIN", str(os.getpid()))
    sys.modules.pop("broken_stores", None)

    def checked(kind: str, store: str, names: Sequence[str]) -> Report:
        attributes: dict[str, Any] = {"backend_factory": "caraway.builtin.sqlite:SqliteBackend"}
        report = run(
            kind,
            f"broken_stores:{store}",
            lambda path: f"sqlite:///{path}/store.db",
            only=lambda name: name.removeprefix("test_") in names,
            patience=4.0,
            **(attributes if kind == "transport" else {}),
        )
        assert Capability.SHARED.value in report.declared
        return report

    return checked


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "broken", "expected"), CASES, ids=[case[1] for case in CASES])
def test_a_broken_store_fails_the_tests_that_kill(
    kind: str, broken: str, expected: list[str], check: Callable[..., Report]
) -> None:
    report = check(kind, broken, expected)
    assert sorted(each.name for each in report.failed) == sorted(expected)


@pytest.mark.slow
def test_the_sound_store_of_chords_that_broken_ones_are_made_of_passes(
    check: Callable[..., Report],
) -> None:
    report = check("backend", "Chords", [BETWEEN, OUTLIVES])
    assert [each.result for each in report.checks] == ["passed"] * 2, report.render()
