"""``caraway plugins`` and ``caraway new-plugin``: they work when every plugin is broken."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from caraway.cli.main import run

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("NO_COLOR", "1")
    logger = logging.getLogger("caraway.plugins")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(logger, "handlers", [])


def caraway(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = run(list(args))
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.fixture
def all_broken(install: Install) -> None:
    install("bad-one", {"one": "bad_one"}, version="0.1", bad_one="raise RuntimeError('boom')")
    install("bad-two", {"two": "bad_two_is_gone"}, version="0.2")
    install(
        "bad-three", {"three": "bad_three"}, version="0.3",
        bad_three="@hookimpl\ndef caraway_register_commands(): raise ValueError('no commands')\n"
        "@hookimpl\ndef caraway_register_pools(): return 7",
    )  # fmt: skip
    install("bad-four", {"four": "bad_four"}, version="0.4",
            bad_four="@hookimpl\ndef caraway_registr_pools(): pass")  # fmt: skip


def test_list_shows_state_and_trouble_of_broken_plugins(
    all_broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = caraway(capsys, "plugins", "list", "--json")
    assert code == 0
    assert err == ""
    found = {plugin["name"]: plugin for plugin in json.loads(out)}
    assert {name: found[name]["state"] for name in ("one", "two", "three", "four", "json")} == {
        "one": "failed",
        "two": "failed",
        "three": "active",
        "four": "incompatible",
        "json": "active",
    }
    assert "boom" in found["one"]["reason"]
    assert "no commands" in found["three"]["problems"]["caraway_register_commands"]
    assert found["one"]["distribution"] == "bad-one"
    code, out, err = caraway(capsys, "plugins", "list")
    assert code == 0
    assert "active, with problems" in out
    assert "one: failed: RuntimeError: boom" in err


@pytest.mark.parametrize("setting", ["CARAWAY_PLUGINS_STRICT", "CARAWAY_TRACE_PLUGINS"])
def test_list_works_under_strict_and_tracing(
    all_broken: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
) -> None:
    monkeypatch.setenv(setting, "1")
    code, out, _ = caraway(capsys, "plugins", "list", "--json")
    assert code == 0
    assert len(json.loads(out)) == 12


def test_list_works_with_broken_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "work" / "caraway.toml").write_text("nonsense = [")
    code, out, err = caraway(capsys, "plugins", "list", "--json")
    assert code == 0
    assert "settings can't be read" in err
    assert len(json.loads(out)) == 8


def test_help_and_version_work_with_broken_plugins(
    all_broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert caraway(capsys, "--version")[0] == 0
    assert caraway(capsys, "--help")[0] == 0
    for command in ("list", "show", "check"):
        assert caraway(capsys, "plugins", command, "--help")[0] == 0
    assert caraway(capsys, "new-plugin", "--help")[0] == 0


def test_a_blocked_plugin_is_listed_as_such(
    all_broken: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CARAWAY_DISABLE_PLUGINS", "one,memory")
    found = {p["name"]: p for p in json.loads(caraway(capsys, "plugins", "list", "--json")[1])}
    assert found["one"]["state"] == "blocked"
    assert found["memory"]["state"] == "active"


def test_list_all_shows_what_could_be_installed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = caraway(capsys, "plugins", "list", "--all", "--json")
    assert code == 0
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(out)}
    assert states["msgpack"] == "not installed"
    assert states["riak"] == "planned"


def test_show_tells_the_whole_error_of_a_failed_plugin(
    all_broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = caraway(capsys, "plugins", "show", "one")
    assert code == 0
    assert "one: failed" in out
    assert "bad-one 0.1" in out
    assert "Traceback" in out
    assert "RuntimeError: boom" in out


@pytest.mark.parametrize("name", ["sqlite", "prefork", "application/json", "processes"])
def test_show_takes_a_name_or_what_a_plugin_offers(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    code, out, _ = caraway(capsys, "plugins", "show", name, "--json")
    assert code == 0
    (plugin,) = json.loads(out)
    assert plugin["entries"]
    assert caraway(capsys, "plugins", "show", name)[0] == 0


def test_show_tells_options_capabilities_and_factory(capsys: pytest.CaptureFixture[str]) -> None:
    out = caraway(capsys, "plugins", "show", "sqlite")[1]
    assert "?synchronous=  str; default 'full'" in out
    assert "One of: full, normal, off." in out
    assert "atomic-commit" in out
    assert "caraway.builtin.sqlite:SqliteTransport" in out


def test_show_of_what_is_not_installed_says_how_to_get_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert 'pip install "caraway[msgpack]"' in caraway(capsys, "plugins", "show", "msgpack")[1]
    assert "planned" in caraway(capsys, "plugins", "show", "riak")[1]
    assert caraway(capsys, "plugins", "show", "riak", "--json")[0] == 0


def test_show_of_the_unknown_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = caraway(capsys, "plugins", "show", "sqlit")
    assert code == 1
    assert "Did you mean 'sqlite'?" in err


def test_check_prints_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = caraway(capsys, "plugins", "check", "json")
    assert code == 0
    assert "It keeps the contract." in out
    code, out, _ = caraway(capsys, "plugins", "check", "json", "--json")
    assert [(r["kind"], r["ok"]) for r in json.loads(out)] == [("serializer", True)]


def test_check_fails_where_the_contract_is_broken(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        "liar", {"liar": "liar_plugin"},
        liar_plugin="@hookimpl\ndef caraway_register_serializers():\n"
        "    return [SerializerEntry(name='liar', content_type='x/liar', factory='liar_parts:X')]",
        liar_parts="from caraway.interfaces import Serializer\n"
        "class X(Serializer):\n"
        "    name, content_type = 'liar', 'x/liar'\n"
        "    def dumps(self, value): return b''\n"
        "    def loads(self, data): return None\n",
    )  # fmt: skip
    code, out, _ = caraway(capsys, "plugins", "check", "liar")
    assert code == 1
    assert "FAILED" in out


def test_check_needs_a_url_for_a_store(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = caraway(capsys, "plugins", "check", "memory")
    assert code == 1
    assert "give the --url" in err


def test_check_of_a_broken_plugin_says_its_state(
    all_broken: None, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = caraway(capsys, "plugins", "check", "one")
    assert code == 1
    assert "is failed" in err


# -- new-plugin ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["transport", "backend", "serializer", "pool"])
def test_a_new_plugin_has_its_name_everywhere(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, kind: str
) -> None:
    code, out, _ = caraway(
        capsys, "new-plugin", "caraway-my-store", "--kind", kind, "--output", str(tmp_path)
    )
    assert code == 0
    folder = tmp_path / "caraway-my-store"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert f"wrote {len(files)} files" in out
    assert (folder / "src/caraway_my_store" / f"{kind}.py").exists()
    for path in files:
        text = path.read_text()
        assert "shelf" not in text.lower()
        assert "{{" not in text
        if path.suffix == ".py":
            compile(text, str(path), "exec")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("My-Store", "lower-case"),
        ("1st", "lower-case"),
        ("a--b", "lower-case"),
        ("redis", "is a bundle of the project"),
        ("sqlite", "built in"),
        ("processes", "built in"),
    ],
)
def test_a_name_that_can_not_be_is_refused(
    capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    code, _, err = caraway(capsys, "new-plugin", name)
    assert code == 2
    assert said in err


def test_nothing_is_overwritten(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "work/caraway-mine").mkdir()
    (tmp_path / "work/caraway-mine/precious.txt").write_text("mine")
    code, _, err = caraway(capsys, "new-plugin", "mine")
    assert code == 1
    assert "not empty" in err
    assert [p.name for p in (tmp_path / "work/caraway-mine").iterdir()] == ["precious.txt"]
