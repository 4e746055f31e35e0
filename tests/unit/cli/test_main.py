from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from caraway import __version__
from caraway.cli.main import COMMANDS, group
from caraway.cli.program import Program


def walk(command: click.Command, path: str) -> list[tuple[str, click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command, obj=Program())):
            inner = command.get_command(click.Context(command, obj=Program()), name)
            assert inner is not None
            found += walk(inner, f"{path} {name}")
    return found


def test_the_version_is_printed_both_ways(caraway: Callable[..., Any]) -> None:
    assert caraway("--version").out.strip() == __version__
    out = subprocess.run(
        [sys.executable, "-m", "caraway.cli", "--version"], capture_output=True, text=True
    )
    assert (out.returncode, out.stdout.strip()) == (0, __version__)


def test_help_lists_every_command_without_importing_one(project: Path) -> None:
    code = (
        "import sys; from caraway.cli.main import run; code = run(['--help']);"
        "print('LOADED', sorted(m for m in sys.modules if m.startswith('caraway.cli.')"
        " and m not in ('caraway.cli.main', 'caraway.cli.program', 'caraway.cli.exits')),"
        " 'rich' in sys.modules, 'asyncio' in sys.modules); sys.exit(code)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project)
    assert out.returncode == 0, out.stderr
    for name, (_, line) in COMMANDS.items():
        assert name in out.stdout
        assert line in out.stdout
    assert "LOADED [] False False" in out.stdout


def test_every_command_teaches_with_an_example() -> None:
    for path, command in walk(group, "caraway"):
        text = command.help or ""
        assert "Example" in text or path == "caraway", path
        assert "caraway " in text, path
        for param in command.params:
            if isinstance(param, click.Option) and not param.hidden:
                assert param.help, f"{path} {param.opts}"


def test_no_option_of_a_command_is_taken_twice() -> None:
    for path, command in walk(group, "caraway"):
        flags = [flag for p in command.params for flag in (*p.opts, *p.secondary_opts)]
        assert len(flags) == len(set(flags)), path


@pytest.mark.parametrize(
    "args",
    [
        ["-b", "memory://", "config", "show", "broker_url", "--json"],
        ["config", "-b", "memory://", "show", "broker_url", "--json"],
        ["config", "show", "broker_url", "--json", "-b", "memory://"],
        ["config", "show", "--broker", "memory://", "broker_url", "--json"],
    ],
)
def test_global_options_stand_before_and_after_the_command(
    caraway: Callable[..., Any], args: list[str]
) -> None:
    answer = caraway(*args)
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["broker_url"] == {
        "value": "memory://",
        "from": "command line",
        "layer": "command_line",
    }


def test_an_unknown_command_is_told_with_the_nearest_one(caraway: Callable[..., Any]) -> None:
    answer = caraway("wroker")
    assert answer.code == 2
    assert "worker" in answer.err


def test_a_wrong_setting_ends_with_its_own_exit_code(
    caraway: Callable[..., Any], project: Path
) -> None:
    (project / "caraway.toml").write_text("task_ack_late = true\n")
    answer = caraway("config", "show")
    assert answer.code == 3
    assert "caraway.toml, line 1" in answer.err
    assert "hint: did you mean 'task_acks_late'" in answer.err
    assert "Traceback" not in answer.err


def test_another_directory_is_gone_to_first(caraway: Callable[..., Any], project: Path) -> None:
    inner = project / "inner"
    inner.mkdir()
    (inner / "caraway.toml").write_text("worker_pool = 'solo'\n")
    assert json.loads(
        caraway("--workdir", "inner", "config", "show", "--json").out
    )["worker_pool"]["value"] == "solo"  # fmt: skip
    answer = caraway("config", "show", "--workdir", "nowhere")
    assert answer.code == 2
    assert "nowhere" in answer.err


def test_plugins_are_left_out_by_name(caraway: Callable[..., Any]) -> None:
    assert caraway("-p", "no:x", "config", "check").code == 0
    assert os.environ["CARAWAY_DISABLE_PLUGINS"] == "x"
    assert caraway("-p", "x", "config", "check").code == 0
    assert os.environ["CARAWAY_PLUGINS"] == "x"
    assert caraway("-p", "no:", "config", "check").code == 3


def test_config_shows_what_was_set_and_where(caraway: Callable[..., Any], project: Path) -> None:
    assert "nothing is set" in caraway("config", "show").out
    (project / "pyproject.toml").write_text(
        "[tool.caraway]\nbroker_url = 'redis://:hunter2@h/0'\n[tool.caraway.task]\nacks_late=false"
    )
    answer = caraway("config", "show")
    assert "pyproject.toml, line 2" in answer.out
    assert "hunter2" not in answer.out
    one = caraway("config", "show", "task_acks_late").out
    assert "task_acks_late = False" in one
    assert "CARAWAY_TASK_ACKS_LATE" in one
    assert "at-least-once" in one
    assert len(caraway("config", "show", "--all").out.splitlines()) > 150
    assert "did you mean 'broker_url'" in caraway("config", "show", "broker_ulr").err


def test_config_check_tells_contradictions(caraway: Callable[..., Any], project: Path) -> None:
    assert caraway("config", "check").code == 0
    (project / "caraway.toml").write_text("task_serializer = 'msgpack'\n")
    answer = caraway("config", "check", "--json")
    assert answer.code == 3
    assert json.loads(answer.out)["ok"] is False


def test_a_command_that_cant_be_imported_is_told_and_the_others_work(
    caraway: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COMMANDS, "broken", ("caraway.cli.no_such", "Broken."))
    answer = caraway("broken")
    assert answer.code == 3
    assert "'broken' can't be loaded" in answer.err
    assert caraway("--help").code == 0


def test_a_reader_that_goes_away_ends_the_command_quietly(project: Path) -> None:
    command = f"{sys.executable} -m caraway.cli config show --all --json | head -c 10"
    out = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, cwd=project
    )
    assert out.stderr == ""


def test_doctor_answers_when_settings_are_broken(
    caraway: Callable[..., Any], project: Path
) -> None:
    (project / "caraway.toml").write_text("task_ack_late = true\n")
    answer = caraway("doctor", "--json")
    assert answer.code == 1
    report = json.loads(answer.out)
    assert any("line 1" in f["text"] and f["level"] == "fail" for f in report["findings"])


def test_doctor_answers_when_the_app_is_broken(caraway: Callable[..., Any], project: Path) -> None:
    (project / "shop_broken.py").write_text("1/0\n")
    answer = caraway("-b", "memory://", "-A", "shop_broken", "doctor", "--json")
    assert answer.code == 1
    found = {f["check"]: f for f in json.loads(answer.out)["findings"]}
    assert "ZeroDivisionError" in found["app"]["text"]
    assert {"python", "directory", "plugins", "broker"} <= set(found)
