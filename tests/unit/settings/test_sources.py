from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from caraway.errors import ImproperlyConfigured
from caraway.settings import Settings, command_line, find_project, load


def test_the_file_is_found_upward(project: Path) -> None:
    inner = project / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project(str(inner)).directory == str(inner)
    (project / "caraway.toml").write_text("")
    found = find_project(str(inner))
    assert (found.directory, found.file) == (str(project), str(project / "caraway.toml"))


def test_a_pyproject_counts_only_with_our_table(project: Path) -> None:
    inner = project / "a"
    inner.mkdir()
    (project / "pyproject.toml").write_text("[tool.caraway]\nworker_pool='solo'\n")
    (inner / "pyproject.toml").write_text("[project]\ndependencies=['caraway']\n")
    assert find_project(str(inner)).file == str(project / "pyproject.toml")
    assert load(start=str(inner), environ={}).worker_pool == "solo"


def test_caraway_toml_goes_before_pyproject(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.caraway]\nworker_pool='solo'\n")
    (project / "caraway.toml").write_text("worker_pool='threads'\n")
    assert load(environ={}).worker_pool == "threads"


def test_groups_and_full_names_mean_the_same(from_text: Callable[[str], Settings]) -> None:
    settings = from_text(
        """
        broker_url = "redis://h"
        [task]
        acks_late = false
        [task.routes]
        "shop.*" = "shop"
        [task.annotations."shop.add"]
        rate_limit = "10/m"
        [worker]
        pool = "solo"
        shutdown_timeout = "1m30s"
        [plugins]
        block = ["x"]
        prefer = { redis = "mine" }
        [plugins.redis]
        max_connections = 3
        """
    )
    assert settings.broker_url == "redis://h"
    assert settings.task_acks_late is False
    assert settings.task_routes == {"shop.*": "shop"}
    assert settings.task_annotations == {"shop.add": {"rate_limit": "10/m"}}
    assert settings.worker_shutdown_timeout == 90.0
    assert settings.plugins_block == ("x",)
    assert settings.plugins_prefer == {"redis": "mine"}
    assert settings.plugins == {"redis": {"max_connections": 3}}
    assert str(settings.source_of("worker_pool")) == "caraway.toml, line 10"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\ntask_ack_late = 1", r"caraway.toml, line 1: unknown setting 'a'"),
        ("\n\ntask_ack_late = 1", r"caraway.toml, line 3: .*\n.*'task_acks_late'"),
        ("[task]\n# acks_late\nack_late = 1", r"line 3: unknown setting 'task_ack_late'"),
        ("[worker]\n\nconcurrency = 'x'", r"line 3: 'worker_concurrency' wants a whole number"),
        ("worker.concurrency = 0", r"line 1: 'worker_concurrency' must be at least 1"),
        ("[task.publish_retry_polcy]\na=1", r"line 1: .*\n.*task_publish_retry_policy"),
        ("task_acks_late=true\n[task]\nacks_late=true", r"line 3: .*set twice.*line 1"),
        ("= 3", r"caraway.toml: not a TOML file: .*line 1"),
        ("[plugins]\nredis = 3", r"line 2: plugins.redis must be a table"),
        ("worker_lease = 'soon'", r"unknown setting 'worker_lease'"),
        ("broker_lease = 'soon'", r"'broker_lease' wants a duration.*not 'soon'"),
    ],
)
def test_a_mistake_in_the_file_is_shown_with_its_place(
    from_text: Callable[[str], Settings], text: str, message: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=message):
        from_text(text)


def test_a_file_that_is_no_text_is_an_error(project: Path) -> None:
    (project / "caraway.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ImproperlyConfigured, match="not a TOML file"):
        load(environ={})


def test_the_file_can_be_named(project: Path) -> None:
    (project / "caraway.toml").write_text("worker_pool='threads'\n")
    other = project / "conf" / "live.toml"
    other.parent.mkdir()
    other.write_text("worker_pool='solo'\n")
    settings = load(config="conf/live.toml", environ={})
    assert settings.worker_pool == "solo"
    assert settings.project.directory == str(other.parent)
    assert load(environ={"CARAWAY_CONFIG": str(other)}).worker_pool == "solo"
    with pytest.raises(ImproperlyConfigured, match=r"gone.toml: can't be read"):
        load(config="gone.toml", environ={})


def test_a_module_can_be_named_in_place_of_the_file(project: Path) -> None:
    (project / "celeryconfig_x.py").write_text("worker_pool='solo'\n")
    assert load(config="celeryconfig_x", environ={}).worker_pool == "solo"


def test_variables_are_read_by_their_kind(project: Path) -> None:
    settings = load(
        environ={
            "CARAWAY_TASK_ACKS_LATE": "no",
            "CARAWAY_WORKER_CONCURRENCY": "4",
            "CARAWAY_BROKER_LEASE": "1m",
            "CARAWAY_ACCEPT_CONTENT": "json,msgpack",
            "CARAWAY_TASK_TIME_LIMIT": "none",
            "CARAWAY_PLUGIN_OPTIONS": '{"redis": {"a": 1}}',
            "CARAWAY_PLUGINS": "only,these",
            "CARAWAY_REDIS_B": "2",
        }
    )
    assert settings.task_acks_late is False
    assert settings.worker_concurrency == 4
    assert settings.broker_lease == 60.0
    assert settings.accept_content == ("json", "msgpack")
    assert settings.task_time_limit is None
    assert settings.plugins == {"redis": {"a": 1, "b": "2"}}


def test_a_misspelt_variable_is_an_error_and_a_foreign_one_is_not(project: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match="did you mean CARAWAY_TASK_ACKS_LATE"):
        load(environ={"CARAWAY_TASK_ACK_LATE": "1"})
    load(environ={"CARAWAY_DISABLE_PLUGINS": "a", "CARAWAY_SOMETHING": "1", "PATH": "x"})
    (note,) = load(environ={"CARAWAY_BROKERURL": "redis://h"}).notes
    assert "CARAWAY_BROKER_URL" in note


def test_an_empty_variable_counts_as_not_set(project: Path) -> None:
    settings = load(environ={"CARAWAY_BROKER_URL": "", "CARAWAY_TASK_ACKS_LATE": ""})
    assert settings.broker_url == "sqlite://"
    assert settings.task_acks_late is True


def test_the_command_line_has_the_last_word(project: Path) -> None:
    command_line["worker_pool"] = "solo"
    settings = load({"worker_pool": "asyncio"}, environ={"CARAWAY_WORKER_POOL": "threads"})
    assert settings.worker_pool == "solo"
    assert str(settings.source_of("worker_pool")) == "command line"


def test_reading_settings_imports_nothing_heavy(project: Path) -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "import msgspec; from caraway.settings import load; base = set(sys.modules)\n"
        "load(environ={})\n"
        "heavy = {'tomllib', 'difflib', 'logging', 'asyncio', 'pluggy', 'json', 'dataclasses',\n"
        "         'importlib.metadata', 'subprocess'}\n"
        "print(sorted(heavy & (set(sys.modules) - before)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project
    )
    assert out.stdout.strip() == "[]"
