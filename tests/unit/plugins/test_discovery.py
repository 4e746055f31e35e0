"""Finding plugins: isolation, states, blocking; one bad plugin never breaks the others."""

from __future__ import annotations

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from caraway.errors import ComponentUnusable, ImproperlyConfigured
from caraway.interfaces import Context
from caraway.plugins import TransportEntry, discovery, hookimpl, manager, scan
from caraway.plugins.registry import Registry
from caraway.plugins.selection import apply_option

Install = Callable[..., None]

GOOD = """
@hookimpl
def caraway_register_transports():
    return [TransportEntry(name="good", factory="good_parts:Good")]
"""
PARTS = """
class Good:
    capabilities = frozenset()
    def __init__(self, url, options, context):
        self.url, self.options, self.context = url, options, context
"""


def states(registry: Registry) -> dict[str, str]:
    return {p.name: p.state for p in registry.plugins() if p.origin != "built-in"}


def plugin(registry: Registry, name: str) -> manager.Plugin:
    return next(p for p in registry.plugins() if p.name == name)


@pytest.fixture
def good(install: Install) -> None:
    install("good-dist", {"good": "good_plugin"}, good_plugin=GOOD, good_parts=PARTS)


def test_an_installed_plugin_is_found_and_its_component_built(good: None) -> None:
    registry = Registry.discover()
    transport = registry.transport("good://host", Context())
    assert type(transport).__name__ == "Good"
    found = plugin(registry, "good")
    assert (found.state, found.distribution, found.version) == ("active", "good-dist", "1.0")


def test_nothing_is_imported_until_somebody_asks(good: None) -> None:
    registry = Registry.discover()
    assert "good_plugin" not in sys.modules
    registry.transport("memory://", Context())
    assert "good_plugin" not in sys.modules
    registry.plugins()
    assert "good_plugin" in sys.modules
    assert "good_parts" not in sys.modules


@pytest.mark.parametrize(
    ("source", "state", "said"),
    [
        ("raise RuntimeError('boom')", "failed", "RuntimeError: boom"),
        ("import no_such_driver", "failed", "No module named 'no_such_driver'"),
        ("def f(:", "failed", "SyntaxError"),
        (
            "@hookimpl\ndef caraway_register_transport(): return []",
            "incompatible",
            "did you mean caraway_register_transports?",
        ),
        (
            "@hookimpl\ndef caraway_configure(app, colour): pass",
            "incompatible",
            "colour",
        ),
    ],
)
def test_a_bad_plugin_gets_a_state_and_breaks_nothing(
    good: None,
    install: Install,
    caplog: pytest.LogCaptureFixture,
    source: str,
    state: str,
    said: str,
) -> None:
    install("bad-dist", {"bad": "bad_plugin"}, version="0.3", bad_plugin=source)
    registry = Registry.discover()
    assert states(registry) == {"bad": state, "good": "active"}
    assert said in plugin(registry, "bad").reason
    assert registry.transport("good://", Context())
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 1
    assert "'bad' (bad-dist 0.3)" in lines[0]
    assert states(Registry.discover())["bad"] == state
    assert len(caplog.records) == 1, "told once a process"


@pytest.mark.parametrize(
    "source",
    [
        "def caraway_register_pools(): raise RuntimeError('boom')",
        "def caraway_register_pools(): return 7",
        "def caraway_register_pools(): return ['solo']",
        "def caraway_register_pools(): return [PoolEntry(name='UPPER', factory='a:b')]",
        "def caraway_register_pools(): return [PoolEntry(name='x', factory='nowhere')]",
        "def caraway_register_pools(): return [TransportEntry(name='x', factory='a:b')]",
    ],
)
def test_a_registration_hook_that_fails_costs_only_its_role(
    install: Install, caplog: pytest.LogCaptureFixture, source: str
) -> None:
    install("half", {"half": "half_plugin"}, half_plugin=f"{GOOD}\n@hookimpl\n{source}\n",
            good_parts=PARTS)  # fmt: skip
    registry = Registry.discover()
    assert registry.transport("good://", Context())
    found = plugin(registry, "half")
    assert found.state == "active"
    assert list(found.problems) == ["caraway_register_pools"]
    with pytest.raises(ComponentUnusable) as caught:
        registry.pool("half", 1, {})
    assert found.problems["caraway_register_pools"] in str(caught.value)
    assert caught.value.__cause__ is found.errors["caraway_register_pools"]


def test_a_hook_that_returns_none_offers_nothing(install: Install) -> None:
    install("mute", {"mute": "mute_plugin"},
            mute_plugin="@hookimpl\ndef caraway_register_pools(): pass")  # fmt: skip
    found = plugin(Registry.discover(), "mute")
    assert (found.state, found.problems, found.entries) == ("active", {}, {"pool": ()})


def test_an_optional_hook_of_a_newer_caraway_is_no_fault(install: Install) -> None:
    install(
        "newer", {"newer": "newer_plugin"},
        newer_plugin="@hookimpl(optionalhook=True)\ndef caraway_from_the_future(): pass",
    )  # fmt: skip
    assert states(Registry.discover()) == {"newer": "active"}


def test_a_function_without_the_marker_is_no_hook(install: Install) -> None:
    install("plain", {"plain": "plain_plugin"},
            plain_plugin="def caraway_register_pools(): raise RuntimeError\n"
                         "def caraway_nonsense(): pass")  # fmt: skip
    found = plugin(Registry.discover(), "plain")
    assert (found.state, found.hooks) == ("active", {})


def test_ctrl_c_and_exit_during_an_import_pass(install: Install) -> None:
    install("quitter", {"quitter": "quitter_plugin"}, quitter_plugin="raise SystemExit(3)")
    with pytest.raises(SystemExit):
        Registry.discover().plugins()


def test_strict_raises_at_once(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("bad-dist", {"bad": "bad_plugin"}, bad_plugin="raise RuntimeError('boom')")
    monkeypatch.setenv("CARAWAY_PLUGINS_STRICT", "1")
    with pytest.raises(ComponentUnusable, match="boom") as caught:
        Registry.discover().plugins()
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_plugin_is_loaded_once_however_many_registries_and_threads(install: Install) -> None:
    install("once", {"once": "once_plugin"}, once_plugin="import sys\n"
            "sys.once_count = getattr(sys, 'once_count', 0) + 1\n" + GOOD)  # fmt: skip
    registries: list[Registry] = []

    def look() -> None:
        registry = Registry.discover()
        registry.plugins()
        registries.append(registry)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.once_count == 1  # type: ignore[attr-defined]
    assert len({id(plugin(registry, "once")) for registry in registries}) == 1
    del sys.once_count  # type: ignore[attr-defined]


# -- names that are taken --------------------------------------------------------------


def test_of_two_distributions_with_one_plugin_name_the_second_is_shadowed(
    good: None, install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("zzz-dist", {"good": "zzz_plugin"}, zzz_plugin="raise RuntimeError('never loaded')")
    found = [p for p in Registry.discover().plugins() if p.name == "good"]
    assert [(p.distribution, p.state) for p in found] == [
        ("good-dist", "active"),
        ("zzz-dist", "shadowed"),
    ]
    assert "zzz_plugin" not in sys.modules
    assert "good-dist" in caplog.text


def test_prefer_chooses_which_of_the_two_is_loaded(good: None, install: Install) -> None:
    install("zzz-dist", {"good": "zzz_plugin"}, zzz_plugin=GOOD)
    registry = Registry.discover(prefer={"good": "zzz_dist"})
    assert registry.plugin_of("transport", "good").distribution == "zzz-dist"


def test_a_plugin_with_the_name_of_a_built_in_one_is_shadowed(install: Install) -> None:
    install("evil", {"sqlite": "evil_plugin"}, evil_plugin=GOOD)
    assert states(Registry.discover()) == {"sqlite": "shadowed"}


def test_one_module_under_two_names_is_registered_once(install: Install) -> None:
    install("twin", {"one": "twin_plugin", "two": "twin_plugin"}, twin_plugin=GOOD)
    registry = Registry.discover()
    assert states(registry) == {"one": "active", "two": "shadowed"}
    assert "same module as plugin 'one'" in plugin(registry, "two").reason


# -- blocking --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["good", "good-dist", "Good_Dist"])
def test_a_blocked_plugin_is_not_imported(good: None, name: str) -> None:
    registry = Registry.discover(block=[name])
    assert states(registry) == {"good": "blocked"}
    assert "good_plugin" not in sys.modules
    with pytest.raises(ComponentUnusable, match=r"is blocked: by the setting plugins\.block"):
        registry.transport("good://", Context())


def test_the_environment_blocks_too(good: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CARAWAY_DISABLE_PLUGINS", "other, good")
    assert states(Registry.discover()) == {"good": "blocked"}
    monkeypatch.setenv("CARAWAY_DISABLE_PLUGINS", "*")
    assert states(Registry.discover()) == {"good": "blocked"}


def test_without_autoload_only_what_is_named_is_loaded(
    good: None, install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("mute", {"mute": "mute_plugin"}, mute_plugin="")
    monkeypatch.setenv("CARAWAY_PLUGIN_AUTOLOAD", "0")
    assert states(Registry.discover()) == {"good": "blocked", "mute": "blocked"}
    monkeypatch.setenv("CARAWAY_PLUGINS", "mute")
    assert states(Registry.discover()) == {"good": "blocked", "mute": "active"}


def test_the_options_of_the_command_line_go_into_the_environment() -> None:
    environ: dict[str, str] = {}
    apply_option("no:Redis", environ)
    apply_option("no:other", environ)
    assert environ["CARAWAY_DISABLE_PLUGINS"] == "redis,other"
    apply_option("redis", environ)
    assert environ == {"CARAWAY_DISABLE_PLUGINS": "other", "CARAWAY_PLUGINS": "redis"}
    with pytest.raises(ImproperlyConfigured):
        apply_option("no:", environ)


@pytest.mark.parametrize("name", ["memory", "sqlite", "json", "solo"])
def test_essential_plugins_refuse_to_be_blocked(name: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="essential"):
        Registry.discover(block=[name])
    registry = Registry.discover(block=[name, "threads"], lenient=True)
    assert plugin(registry, name).state == "active"
    assert plugin(registry, "threads").state == "blocked"


def test_a_built_in_that_is_not_essential_can_be_blocked() -> None:
    registry = Registry.discover(block=["prefork"])
    with pytest.raises(ComponentUnusable, match="blocked"):
        registry.entry("pool", "prefork")
    with pytest.raises(ComponentUnusable, match="blocked"):
        registry.entry("pool", "prefork")


# -- an app's own ----------------------------------------------------------------------


class Own:
    @hookimpl
    def caraway_register_transports(self) -> list[TransportEntry]:
        return [TransportEntry(name="own", factory="collections:OrderedDict")]


@pytest.mark.parametrize("given", [Own(), Own, "own_module"])
def test_an_app_adds_plugins_of_its_own(install: Install, given: object) -> None:
    install("own", {}, own_module=GOOD.replace('"good"', '"own"'))
    assert Registry.discover(plugins=[given]).entry("transport", "own").name == "own"
    with pytest.raises(ImproperlyConfigured):
        Registry.discover().entry("transport", "own")


def test_a_broken_plugin_of_the_app_is_isolated_too() -> None:
    class Broken:
        def __init__(self) -> None:
            raise RuntimeError("boom")

    registry = Registry.discover(plugins=["no_such_module_at_all", Broken])
    assert states(registry) == {"no_such_module_at_all": "failed", "Broken": "failed"}


def test_an_object_whose_attributes_raise_is_isolated() -> None:
    class Thorny:
        @property
        def caraway_register_transports(self) -> object:
            raise RuntimeError("boom")

        @property
        def other(self) -> object:
            raise RuntimeError("boom")

    assert states(Registry.discover(plugins=[Thorny()])) == {"Thorny": "active"}


# -- the scan --------------------------------------------------------------------------


def test_entry_points_are_read_as_the_standard_library_reads_them(
    good: None, install: Install, tmp_path: Path
) -> None:
    install("Other.Dist", {"one": "one_plugin [extra]", "two": "one_plugin:two"}, one_plugin=GOOD)
    info = tmp_path / "site" / "good_dist-1.0.dist-info" / "entry_points.txt"
    for text in (
        "[caraway]\ngood = good_plugin\n",
        "[console_scripts]\nx = y\n\n[ caraway ]\ngood=good_plugin\n# remark\n[x]\na = b\n",
        "[console_scripts]\ncaraway = y:z\n",
    ):
        info.write_text(text)
        theirs = [
            scan.Candidate(p.name, p.value.partition("[")[0].strip(), p.dist.name, p.dist.version)
            for p in metadata.entry_points(group="caraway")
            if p.dist is not None
        ]
        ours = scan._read_plain()
        assert ours is not None
        assert sorted(map(repr, ours)) == sorted(map(repr, theirs))
    assert {c.distribution for c in ours} == {"Other.Dist"}


def test_plugins_are_found_without_the_standard_librarys_metadata(
    good: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "importlib.metadata", None)
    assert [c.name for c in scan.candidates()] == ["good"]


def test_a_distribution_with_broken_metadata_costs_only_its_own(
    good: None, install: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install("torn", {"torn": "torn_plugin"}, torn_plugin=GOOD)
    (tmp_path / "site" / "torn-1.0.dist-info" / "entry_points.txt").write_text(
        "[caraway]\nno equals sign here\n"
    )
    assert states(Registry.discover()) == {"good": "active"}
    assert "entry points of distribution 'torn' can't be read" in caplog.text


def test_a_distribution_without_a_name_is_found_all_the_same(
    install: Install, tmp_path: Path
) -> None:
    install("anon", {"anon": "anon_plugin"}, anon_plugin=GOOD)
    (tmp_path / "site" / "anon-1.0.dist-info" / "METADATA").unlink()
    assert states(Registry.discover()) == {"anon": "active"}


def test_extras_of_an_entry_point_are_left_out(install: Install) -> None:
    install("extra", {"extra": "extra_plugin [fancy]"}, extra_plugin=GOOD)
    assert states(Registry.discover()) == {"extra": "active"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_while_plugins_are_loaded_is_not_stuck() -> None:
    loading, forked = threading.Event(), threading.Event()

    def load() -> None:
        with manager.lock:
            loading.set()
            forked.wait(0.2)  # the fork has to wait for this

    thread = threading.Thread(target=load)
    thread.start()
    loading.wait()
    child = os.fork()
    if child == 0:
        with manager.lock:
            os._exit(7)
    forked.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_without_plugins_neither_pluggy_nor_metadata_is_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("pluggy", "importlib.metadata", "caraway.plugins.specs"):
        monkeypatch.setitem(sys.modules, name, None)
    registry = Registry.discover()
    assert len(registry.plugins()) == 8
    registry.configure(object())


def test_a_finder_of_another_kind_is_left_to_the_standard_library(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Finder:
        @staticmethod
        def find_spec(*args: object) -> None:
            return None

        @staticmethod
        def find_distributions(*args: object) -> list[object]:
            return []

    assert scan._read_plain() == []
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert scan._read_plain() is None
    assert scan.candidates() == ()


def test_pluggy_finds_in_the_built_in_plugins_what_the_direct_way_finds() -> None:
    builtin = importlib.import_module(manager.BUILTIN)
    for record in manager.load_builtins():
        again = manager.Plugin(name=record.name, origin="built-in")
        manager._read_hooks(again, builtin.PLUGINS[record.name], shared=False)
        assert again.state == "active"
        assert again.entries == record.entries
        assert again.entries


def test_tracing_tells_what_plugins_do(
    good: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CARAWAY_TRACE_PLUGINS", "1")
    Registry.discover().plugins()
    told = capsys.readouterr().err
    assert "loading 'good' (good-dist 1.0) from good_plugin" in told
    assert "caraway_register_transports() -> good" in told
    assert "first asked for by" in told
    assert "test_discovery.py" in told


# -- preload ---------------------------------------------------------------------------


def test_a_pool_is_preloaded_without_loading_other_plugins(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        "green", {"green": "green_plugin", "other": "other_plugin"},
        green_plugin="@hookimpl\ndef caraway_register_pools():\n"
        "    return [PoolEntry(name='green', factory='a:b', preload='green_patch:patch')]",
        green_patch="import sys\ndef patch(): sys.green_patched = True",
        other_plugin="raise RuntimeError",
    )  # fmt: skip
    monkeypatch.setattr(sys, "green_patched", False, raising=False)
    discovery.preload("prefork")
    discovery.preload("no_such")
    discovery.preload("some.module:Pool")
    assert not sys.green_patched  # type: ignore[attr-defined]
    discovery.preload("green")
    assert sys.green_patched  # type: ignore[attr-defined]
    assert "other_plugin" not in sys.modules


def test_report_is_silent_about_blocked_plugins(
    good: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        Registry.discover(block=["good"]).plugins()
    assert not caplog.records
