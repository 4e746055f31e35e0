from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from caraway.cli import checks
from caraway.errors import ImproperlyConfigured, TransportUnavailable
from caraway.interfaces import Capability
from caraway.message import Owner, OwnerStats, QueueStats
from caraway.settings import Settings


def levels(findings: list[checks.Finding]) -> list[str]:
    return [finding.level for finding in findings]


def test_a_check_that_breaks_is_a_finding() -> None:
    def broken() -> list[checks.Finding]:
        raise ImproperlyConfigured("it is wrong", hint="do that")

    (finding,) = checks.guarded("x", broken)
    assert (finding.level, finding.text, finding.repair) == ("fail", "it is wrong", "do that")
    (finding,) = checks.guarded("x", lambda: 1 / 0)  # type: ignore[arg-type,return-value]
    assert finding.text == "ZeroDivisionError: division by zero"


def test_a_directory_that_is_fine_is_left_as_it_was(tmp_path: Path) -> None:
    assert levels(checks.check_directory(str(tmp_path))) == ["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_missing_and_a_clock_that_differs_are_found(tmp_path: Path) -> None:
    (finding,) = checks.check_directory(str(tmp_path / "gone"))
    assert finding.level == "warn"
    assert "can't be written" in finding.text
    findings = checks.check_directory(str(tmp_path), clock=lambda: 1000.0)
    assert findings[-1].check == "clock"
    assert "ahead" in findings[-1].text


def test_a_clock_that_was_never_set_fails() -> None:
    assert levels(checks.check_clock(lambda: 0.0)) == ["fail"]
    assert levels(checks.check_clock()) == ["ok"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task_serializer": "msgpack"}, "accept_content"),
        ({"result_serializer": "msgpack"}, "accept_content"),
        ({"task_soft_time_limit": 10, "task_time_limit": 10}, "soft"),
        ({"timezone": "Mars/Olympus"}, "Mars"),
        ({"broker_lease": 1}, "broker_lease"),
    ],
)
def test_settings_that_contradict_each_other_are_found(values: dict[str, Any], words: str) -> None:
    settings = Settings()
    assert checks.check_settings(settings) == []
    settings.update(values)
    (finding,) = checks.check_settings(settings)
    assert words in finding.text
    assert finding.repair


def test_root_that_accepts_pickle_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    settings = Settings()
    assert levels(checks.check_user(settings)) == ["warn"]
    settings.accept_content = ("json", "pickle")
    assert levels(checks.check_user(settings)) == ["fail"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert checks.check_user(settings) == []


class Store:
    """What the checks ask of a transport."""

    capabilities = frozenset({Capability.INSPECT, Capability.DEAD_LETTERS})

    def __init__(self, *owners: OwnerStats, dead: int = 0, error: Exception | None = None) -> None:
        self._owners, self._dead, self._error = owners, dead, error

    def ping(self) -> None:
        if self._error:
            raise self._error

    def owners(self) -> tuple[OwnerStats, ...]:
        return self._owners

    def stats(self) -> list[QueueStats]:
        return [QueueStats(name="mail", ready=3, oldest=65.0), QueueStats(name="idle", ready=0)]

    def dead(self, *, limit: int) -> list[int]:
        return list(range(min(self._dead, limit)))


def test_a_broker_is_timed_and_one_that_is_away_is_a_finding() -> None:
    ticks = iter([0, 0.001] * checks.PINGS)
    findings, component = checks.check_component("broker", "B", Store, lambda: next(ticks))
    assert findings[0].text == "B answers in 1 ms"
    assert isinstance(component, Store)
    ticks = iter([0, 3] * checks.PINGS)
    assert levels(checks.check_component("broker", "B", Store, lambda: next(ticks))[0]) == ["warn"]
    away = Store(error=TransportUnavailable("refused", hint="start it"))
    findings, component = checks.check_component("broker", "B", lambda: away)
    assert (findings[0].level, findings[0].repair, component) == ("fail", "start it", None)


def test_messages_that_wait_for_nobody_are_found() -> None:
    findings = checks.check_work(Store(dead=2000), ())
    text = " ".join(finding.text for finding in findings)
    assert "none is alive" in text
    assert "3 messages wait in 'mail', the oldest for 1m05s" in text
    assert "1000 or more" in text
    assert "idle" not in text
    stats = OwnerStats(owner=Owner(id="o", worker="w@h"), queues=("mail",), held=0, expires=0)
    (finding,) = checks.check_work(Store(stats), ("mail",))
    assert finding.text == "1 alive: w@h"
    assert "other" in checks.check_work(Store(stats), ("other",))[-1].text
