"""Looking components up: the three errors, conflicts, options, the escape hatch, hooks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from caraway.errors import (
    ComponentNotInstalled,
    ComponentUnusable,
    ImproperlyConfigured,
    UnknownComponent,
)
from caraway.interfaces import Context
from caraway.plugins import (
    BackendEntry,
    CommandEntry,
    CompressorEntry,
    Entry,
    IntegrationEntry,
    MiddlewareEntry,
    Option,
    PoolEntry,
    ScheduleEntry,
    SerializerEntry,
    TransportEntry,
    hookimpl,
    known,
)
from caraway.plugins import (
    registry as registry_module,
)
from caraway.plugins.known import Bundle
from caraway.plugins.registry import Registry
from caraway.url import Url

Install = Callable[..., None]


class Parcel:
    """A component that remembers how it was built."""

    capabilities: frozenset[Any] = frozenset()

    def __init__(self, *args: Any) -> None:
        self.args = args


@pytest.fixture(autouse=True)
def parcels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module named ``parcels`` with `Parcel` in it."""
    module = type(sys)("parcels")
    vars(module).update(Parcel=Parcel, nested=type("n", (), {"Parcel": Parcel}))
    monkeypatch.setitem(sys.modules, "parcels", module)


def offering(name: str, *entries: Entry | CommandEntry) -> object:
    """A plugin object, named and with these entries."""

    class Offer:
        __name__ = name

        @hookimpl
        def caraway_register_transports(self) -> list[Any]:
            return [e for e in entries if isinstance(e, TransportEntry)]

        @hookimpl
        def caraway_register_serializers(self) -> list[Any]:
            return [e for e in entries if isinstance(e, SerializerEntry)]

        @hookimpl
        def caraway_register_pools(self) -> list[Any]:
            return [e for e in entries if isinstance(e, PoolEntry)]

        @hookimpl
        def caraway_register_middleware(self) -> list[Any]:
            return [e for e in entries if isinstance(e, MiddlewareEntry)]

        @hookimpl
        def caraway_register_integrations(self) -> list[Any]:
            return [e for e in entries if isinstance(e, IntegrationEntry)]

        @hookimpl
        def caraway_register_commands(self) -> list[Any]:
            return [e for e in entries if isinstance(e, CommandEntry)]

    return Offer()


class Everything:
    """One entry in each of the roles that `offering` leaves out."""

    @hookimpl
    def caraway_register_backends(self) -> list[BackendEntry]:
        return [BackendEntry(name="x", schemes=("b1", "b2"), factory="parcels:Parcel")]

    @hookimpl
    def caraway_register_compressors(self) -> tuple[CompressorEntry, ...]:
        entry = CompressorEntry(
            name="x", content_type="application/x-x", aliases=("ex",), factory="parcels:Parcel"
        )
        return (entry,)

    @hookimpl
    def caraway_register_schedules(self) -> Iterator[ScheduleEntry]:
        yield ScheduleEntry(name="s", factory="parcels:Parcel")


def shelf(name: str = "shelf", **more: Any) -> TransportEntry:
    return TransportEntry(name=name, factory="parcels:Parcel", **more)


def built(registry: Registry, url: str, context: Context | None = None, **more: Any) -> Parcel:
    parcel = registry.transport(url, context or Context(), **more)
    assert isinstance(parcel, Parcel)
    return parcel


# -- the three errors ------------------------------------------------------------------


@pytest.fixture
def bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        known,
        "BUNDLES",
        (
            Bundle("redis", "caraway-redis", "shipped", "", {"transport": ("redis", "rediss")}),
            Bundle("riak", "caraway-riak", "planned", "", {"transport": ("riak",)}),
        ),
    )


def test_known_but_not_installed_says_what_to_install(bundles: None) -> None:
    with pytest.raises(ComponentNotInstalled) as caught:
        Registry.discover().transport("rediss://h", Context())
    assert str(caught.value) == (
        "transport 'rediss' comes with caraway-redis, which is not installed\n"
        '  hint: pip install "caraway[redis]"'
    )


def test_known_but_not_released_says_so_and_what_there_is(bundles: None) -> None:
    with pytest.raises(ComponentNotInstalled) as caught:
        Registry.discover().transport("riak://h", Context())
    assert str(caught.value) == (
        "transport 'riak' belongs to caraway-riak, which is not released yet\n"
        "  hint: Usable now: memory, sqlite."
    )


def test_installed_but_failed_says_why_and_chains_the_error(
    bundles: None, install: Install
) -> None:
    install("caraway-redis", {"cache": "redis_plugin"}, version="0.4", redis_plugin="import nope")
    with pytest.raises(ComponentUnusable) as caught:
        Registry.discover().transport("rediss://h", Context())
    text = str(caught.value)
    assert text.startswith(
        "transport 'rediss' can't be used: plugin 'cache' (caraway-redis 0.4) is failed:"
        " ModuleNotFoundError: No module named 'nope'"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_unknown_names_the_nearest_and_lists_all(bundles: None) -> None:
    with pytest.raises(UnknownComponent) as caught:
        Registry.discover().transport("reddis://h", Context())
    assert str(caught.value) == (
        "no transport has the scheme 'reddis'\n"
        "  hint: Did you mean 'redis'? Known transports: memory, sqlite."
        " A class of your own is written 'package.module:Class'."
    )


def test_unknown_mentions_plugins_that_might_have_had_it(bundles: None, install: Install) -> None:
    install("bad", {"bad": "bad_plugin"}, bad_plugin="import nope")
    with pytest.raises(UnknownComponent, match=r"not active: bad \(failed\)"):
        Registry.discover().transport("xyzzy://h", Context())


@pytest.mark.parametrize(
    ("look", "said"),
    [
        (lambda r: r.serializer("jsn"), "no serializer has the name 'jsn'"),
        (lambda r: r.compressor("zlob"), "no compressor has the name 'zlob'"),
        (lambda r: r.pool("thraeds", 1, {}), "Did you mean 'threads'"),
        (lambda r: r.backend("squlite://", Context()), "no backend has the scheme"),
        (lambda r: r.schedule_store("squlite://", Context()), "no schedule has the scheme"),
        (lambda r: r.middleware("none"), "Known middleware: none"),
    ],
)
def test_every_look_up_has_the_same_errors(look: Callable[[Registry], Any], said: str) -> None:
    with pytest.raises(UnknownComponent) as caught:
        look(Registry.discover())
    assert said in str(caught.value)


def test_a_missing_driver_is_an_error_of_the_component_with_the_pip_command() -> None:
    entry = TransportEntry(name="shelf", factory="no_driver_here.x:Y", driver="shelf-client")
    with pytest.raises(ComponentUnusable, match="pip install shelf-client") as caught:
        Registry.discover(plugins=[offering("one", entry)]).transport("shelf://", Context())
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_an_entry_of_a_future_api_is_kept_out(install: Install) -> None:
    registry = Registry.discover(plugins=[offering("one", shelf(api=2), shelf("other"))])
    assert built(registry, "other://")
    with pytest.raises(ComponentUnusable, match=r"has api 2, .* knows 1: upgrade caraway"):
        registry.transport("shelf://", Context())


def test_backends_compressors_and_schedule_stores_of_plugins_are_found() -> None:
    registry = Registry.discover(plugins=[Everything])
    for scheme in ("b1", "b2"):
        assert isinstance(registry.backend(f"{scheme}://", Context()), Parcel)
    for name in ("x", "ex", "application/x-x"):
        assert isinstance(registry.compressor(name), Parcel)
    assert isinstance(registry.schedule_store("s://", Context()), Parcel)
    with pytest.raises(UnknownComponent):
        registry.backend("x://", Context())


# -- conflicts -------------------------------------------------------------------------


def test_two_plugins_with_one_scheme_are_an_error_that_names_both() -> None:
    both = [offering("one", shelf()), offering("two", shelf())]
    with pytest.raises(ComponentUnusable) as caught:
        Registry.discover(plugins=both).transport("shelf://", Context())
    assert "'one' and 'two'" in str(caught.value)
    assert '[plugins.prefer] "shelf" = "one"' in str(caught.value)
    registry = Registry.discover(plugins=both, prefer={"shelf": "two"})
    assert registry.plugin_of("transport", "shelf").name == "two"


def test_a_built_in_is_replaced_only_by_preference() -> None:
    other = [offering("one", shelf("memory"))]
    assert not isinstance(
        Registry.discover(plugins=other).transport("memory://", Context()), Parcel
    )
    loaded = Registry.discover(plugins=other)
    loaded.plugins()
    assert loaded.plugin_of("transport", "memory").origin == "built-in"
    assert built(Registry.discover(plugins=other, prefer={"memory": "one"}), "memory://")


def test_preferring_who_does_not_offer_it_is_an_error() -> None:
    registry = Registry.discover(prefer={"memory": "nobody"})
    with pytest.raises(ImproperlyConfigured, match=r"'nobody', which doesn't offer it"):
        registry.transport("memory://", Context())


# -- URLs and options ------------------------------------------------------------------

OPTIONS = (
    Option("size", "int", 3, "How many."),
    Option("wait", "duration", 1.0, "How long.", "seconds"),
    Option("mode", "str", "a", "Which.", choices=("a", "b")),
    Option("token_size", "size", None, "Some secret."),
)


def test_options_come_from_table_plugin_setting_and_url_in_this_order() -> None:
    registry = Registry.discover(plugins=[offering("one", shelf(options=OPTIONS))])
    settings = {
        "plugins": {"one": {"size": 4, "wait": "2s", "mode": "b"}},
        "broker_transport_options": {"size": 5, "wait": 3},
    }
    context = Context(settings=settings)
    url, options, given = built(registry, "shelf://h?size=6", context).args
    assert options == {"size": 6, "wait": 3.0, "mode": "b", "token_size": None}
    assert given is context
    assert url == Url.parse("shelf://h?size=6")
    defaults = {"size": 3, "wait": 1.0, "mode": "a", "token_size": None}
    assert built(registry, "shelf://").args[1] == defaults
    assert built(registry, "shelf://", context, options={"size": 7}).args[1]["wait"] == 2.0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("shelf://?sise=1", "has no option 'sise' (URL)"),
        ("shelf://?sise=1", "Did you mean 'size'? Its options: mode, size, token_size, wait."),
        ("shelf://?size=big", "option 'size' (URL) is 'big', not a whole number"),
        ("shelf://?wait=-1", "a duration of 0 or more"),
        ("shelf://?mode=c", "one of 'a', 'b'"),
        ("shelf://?token_size=hunter2", "option 'token_size' (URL) not a number of bytes"),
    ],
)
def test_a_wrong_option_says_what_is_right(url: str, said: str) -> None:
    registry = Registry.discover(plugins=[offering("one", shelf(options=OPTIONS))])
    with pytest.raises(ImproperlyConfigured) as caught:
        registry.transport(url, Context())
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_component_may_take_options_it_has_no_table_for() -> None:
    registry = Registry.discover(plugins=[offering("one", shelf(any_option=True))])
    assert built(registry, "shelf://?x=1").args[1] == {"x": "1"}


def test_options_of_a_plugins_other_components_are_no_mistake() -> None:
    entries = (shelf(options=OPTIONS), shelf("box", options=(Option("lid", "bool", False),)))
    registry = Registry.discover(plugins=[offering("one", *entries)])
    context = Context(settings={"plugins": {"one": {"size": 1, "lid": True}}})
    assert built(registry, "box://", context).args[1] == {"lid": True}
    wrong = Context(settings={"plugins": {"one": {"hinge": 1}}})
    with pytest.raises(ImproperlyConfigured, match=r"'hinge' \(plugins\.one\)"):
        registry.transport("box://", wrong)


@pytest.mark.parametrize("path", ["parcels:Parcel", "parcels:nested.Parcel"])
def test_a_class_path_is_accepted_wherever_a_scheme_or_name_is(path: str) -> None:
    registry = Registry.discover()
    parcel = built(registry, f"{path}+redis://h?x=1")
    assert parcel.args[0].driver == "redis"
    assert parcel.args[1] == {"x": "1"}
    assert isinstance(registry.backend(f"{path}://", Context()), Parcel)
    assert isinstance(registry.serializer(path), Parcel)
    pool = registry.pool(path, 3, {"a": 1})
    assert isinstance(pool, Parcel)
    assert pool.args == (3, {"a": 1})
    assert registry.middleware(path) is Parcel


def test_a_class_path_that_leads_nowhere_says_why() -> None:
    with pytest.raises(ComponentUnusable, match="No module named 'nowhere'"):
        Registry.discover().transport("nowhere.at:All", Context())
    with pytest.raises(ComponentUnusable, match="AttributeError"):
        Registry.discover().pool("parcels:Missing", 1, {})


def test_a_backend_has_one_url() -> None:
    with pytest.raises(ImproperlyConfigured, match="one URL, not 2"):
        Registry.discover().backend("memory://a;memory://b", Context())


def test_a_component_is_found_by_each_of_its_schemes() -> None:
    registry = Registry.discover(plugins=[offering("one", shelf(schemes=("a", "b")))])
    assert built(registry, "A://")
    assert built(registry, "b+driver://")
    with pytest.raises(UnknownComponent):
        registry.transport("shelf://", Context())


# -- serializers, commands, middleware -------------------------------------------------


def test_a_serializer_is_one_object_found_by_name_and_content_type() -> None:
    registry = Registry.discover()
    assert registry.serializer("json").name == "json"
    assert registry.serializer("json") is registry.serializer("json")
    assert registry.serializer("application/json").content_type == "application/json"
    assert registry.compressor("gzip").content_type == "application/x-gzip"


def test_accepted_names_become_content_types_without_an_import() -> None:
    entry = SerializerEntry(name="shelf", content_type="application/x-shelf", factory="no_such:X")
    registry = Registry.discover(plugins=[offering("one", entry)])
    assert registry.content_types(["json", "shelf", "application/json"]) == {
        "application/json",
        "application/x-shelf",
    }


def test_commands_are_listed_and_conflicts_left_out() -> None:
    def command(name: str) -> CommandEntry:
        return CommandEntry(name=name, help="Help.", target="parcels:Parcel")

    registry = Registry.discover(
        plugins=[offering("one", command("a"), command("b")), offering("two", command("b"))]
    )
    assert list(registry.commands()) == ["a"]
    assert registry.names("command") == ["a", "b"]


def test_middleware_is_handed_over_as_it_is() -> None:
    entry = MiddlewareEntry(name="timer", factory="parcels:Parcel")
    assert Registry.discover(plugins=[offering("one", entry)]).middleware("timer") is Parcel


# -- life-cycle ------------------------------------------------------------------------


def recorder(name: str, log: list[Any], **options: bool) -> object:
    class Recorder:
        __name__ = name

        @hookimpl(**options)
        def caraway_configure(self, app: Any) -> None:
            log.append((name, "configure", app))

        @hookimpl(**options)
        def caraway_worker_start(self, worker: Any) -> None:
            log.append((name, "start", worker))

        @hookimpl(**options)
        def caraway_worker_stop(self) -> None:
            log.append((name, "stop"))

        @hookimpl(**options)
        def caraway_child_start(self, index: int, app: Any) -> None:
            log.append((name, "child", app, index))

        @hookimpl(**options)
        def caraway_child_stop(self, index: int) -> None:
            log.append((name, "child end", index))

    return Recorder()


def test_life_cycle_hooks_run_in_order_and_stop_in_the_opposite() -> None:
    log: list[Any] = []
    registry = Registry.discover(
        plugins=[
            recorder("late", log, trylast=True),
            recorder("one", log),
            recorder("two", log),
            recorder("early", log, tryfirst=True),
        ]
    )
    forwards = ["early", "one", "two", "late"]
    calls: list[tuple[Callable[[], None], list[str], tuple[Any, ...]]] = [
        (lambda: registry.configure("app"), forwards, ("configure", "app")),
        (lambda: registry.worker_start("w"), forwards, ("start", "w")),
        (lambda: registry.child_start("app", 3), forwards, ("child", "app", 3)),
        (lambda: registry.child_stop("app", 3), forwards[::-1], ("child end", 3)),
        (lambda: registry.worker_stop("w"), forwards[::-1], ("stop",)),
    ]
    for call, order, rest in calls:
        log.clear()
        call()
        assert log == [(name, *rest) for name in order]


def test_a_life_cycle_hook_that_raises_costs_only_itself(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Bad:
        @hookimpl
        def caraway_worker_start(self) -> None:
            raise RuntimeError("boom")

    log: list[Any] = []
    registry = Registry.discover(plugins=[Bad(), recorder("good", log)])
    registry.worker_start("w")
    assert log == [("good", "start", "w")]
    assert "plugin 'Bad': caraway_worker_start failed" in caplog.text
    assert "boom" in caplog.text
    monkeypatch.setenv("CARAWAY_PLUGINS_STRICT", "1")
    with pytest.raises(RuntimeError):
        registry.worker_start("w")


def test_a_plugin_that_comes_late_is_configured_for_the_apps_there_are() -> None:
    registry = Registry.discover()
    registry.configure("first")
    registry.configure("second")
    log: list[Any] = []
    registry.register(recorder("late", log))
    assert log == [("late", "configure", "first"), ("late", "configure", "second")]
    registry.register(offering("parcel", shelf()))
    assert built(registry, "shelf://")


def test_integrations_apply_where_they_are_detected(monkeypatch: pytest.MonkeyPatch) -> None:
    joined: list[Any] = []
    vars(sys.modules["parcels"]).update(join=joined.append)

    def integration(name: str, *detect: str) -> IntegrationEntry:
        return IntegrationEntry(name=name, factory="parcels:join", detect=detect)

    monkeypatch.setenv("SHELF_SETTINGS", "x")
    registry = Registry.discover(
        plugins=[
            offering("a", integration("env", "env:SHELF_SETTINGS")),
            offering("b", integration("module", "module:parcels")),
            offering("c", integration("neither", "env:SHELF_NOT", "module:not_imported")),
            offering("d", integration("never")),
            offering("e", IntegrationEntry(name="bad", factory="no:x", detect=("module:sys",))),
        ]
    )
    registry.configure("app")
    assert joined == ["app", "app"]


def test_the_registry_says_which_errors_it_raises() -> None:
    for name in ("transport", "serializer", "pool", "entry"):
        assert "ComponentNotInstalled" in (getattr(Registry, name).__doc__ or "")
    assert registry_module.__doc__


def test_several_urls_of_one_server_are_one_where_the_entry_says_so() -> None:
    entry = TransportEntry(
        name="many",
        factory="parcels:Parcel",
        schemes=("many", "other"),
        joined=("many",),
        any_option=True,
    )
    registry = Registry.discover(plugins=[offering("many", entry)])

    built: Any = registry.transport("many://u:p@a:1/x?q=1;many://b:2?q=2&r=3;many://c", Context())
    apart: Any = registry.transport("other://a;other://b", Context())

    url = built.args[0]
    assert (url.host, url.port, url.username, url.password, url.path) == (
        "a:1,b:2,c", None, "u", "p", "/x",
    )  # fmt: skip
    assert url.query == {"q": "1", "r": "3"}
    assert "p@" not in str(url)
    assert type(apart).__name__ == "FailoverTransport"
