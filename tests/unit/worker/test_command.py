"""The command ``worker``: options become settings, names are filled in, one pidfile each."""

from __future__ import annotations

import os

import click
import pytest
from click.testing import CliRunner

from caraway.cli import worker as module
from caraway.cli.program import Program
from caraway.cli.worker import command, expand, held_pidfile
from caraway.errors import ImproperlyConfigured
from caraway.settings import DECLARED, command_line


@pytest.fixture(autouse=True)
def _clean():
    command_line.clear()
    yield
    command_line.clear()


def test_every_option_that_is_a_setting_names_one():
    assert {name for name in module._SETTINGS.values() if name not in DECLARED} == set()
    parameters = {param.name for param in command.params}
    assert set(module._SETTINGS) <= parameters
    assert set(module._ELSEWHERE) <= parameters


def test_given_options_overrule_and_others_stay_silent():
    module._to_settings({"loglevel": "info", "log_json": True, "health": None, "pool": ""})
    assert command_line == {"worker_log_level": "info", "worker_log_json": "true"}


@pytest.mark.parametrize("flags", [["-D"], ["--detach"], ["-B"], ["--uid", "1"], ["--umask", "2"]])
def test_what_is_done_elsewhere_says_where(flags):
    answer = CliRunner().invoke(command, flags, obj=Program())
    assert answer.exit_code == 2
    assert "doesn't exist here: " in answer.output


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_concurrency_that_is_no_number_is_told(value):
    answer = CliRunner().invoke(command, ["-c", value], obj=Program())
    assert answer.exit_code == 2
    assert "or auto" in answer.output


def test_names_come_with_commas_between():
    assert module._names(None, None, "a, b,,c ") == ["a", "b", "c"]
    assert module._names(None, None, None) == []


def test_options_of_celery_without_meaning_are_taken_in_silence():
    context = command.make_context(
        "worker",
        ["-O", "fair", "--without-gossip", "--without-mingle", "--without-heartbeat",
         "--heartbeat-interval", "5", "--prefetch-multiplier", "1"],
        obj=Program(),
    )  # fmt: skip
    assert isinstance(context, click.Context)
    assert context.params["prefetch_multiplier"] == "1"


@pytest.mark.parametrize(
    ("path", "full"),
    [
        ("plain.log", "plain.log"),
        ("%n-%h.log", "one-box.example.org.log"),
        ("%p", "one@box.example.org"),
        ("%d/%i%I", "example.org/0"),
        ("100%%", "100%"),
        ("%x %", "%x %"),
    ],
)
def test_signs_in_paths_are_filled_in(path, full):
    assert expand(path, "one@box.example.org") == full


def test_a_pidfile_holds_the_id_while_the_worker_runs(tmp_path):
    path = tmp_path / "worker.pid"
    with held_pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"
    assert not path.exists()
    with held_pidfile(""):
        pass


def test_a_pidfile_of_a_live_process_is_respected(tmp_path):
    path = tmp_path / "worker.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(ImproperlyConfigured, match=str(os.getppid())), held_pidfile(str(path)):
        pytest.fail("must not begin")
    assert path.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("content", ["", "nonsense", "4194305", "-5", str(2**70)])
def test_a_pidfile_left_behind_is_taken_over(tmp_path, content):
    path = tmp_path / "worker.pid"
    path.write_text(content)
    with held_pidfile(str(path)):
        assert path.read_text() == f"{os.getpid()}\n"


def test_our_own_pidfile_is_taken_over_after_starting_anew(tmp_path):
    path = tmp_path / "worker.pid"
    path.write_text(str(os.getpid()))
    with held_pidfile(str(path)):
        assert path.exists()


def test_a_pidfile_that_another_took_over_is_left_to_it(tmp_path):
    path = tmp_path / "worker.pid"
    with held_pidfile(str(path)):
        path.write_text("1")
    assert path.read_text() == "1"


def test_a_pidfile_that_can_not_be_written_is_told(tmp_path):
    with (
        pytest.raises(ImproperlyConfigured, match="pidfile"),
        held_pidfile(str(tmp_path / "missing" / "pid")),
    ):
        pytest.fail("must not begin")
