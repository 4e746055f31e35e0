"""The tables of one registry: who offers what, and whose offer is taken."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from caraway.errors import ComponentUnusable, ImproperlyConfigured
from caraway.plugins import lookup
from caraway.plugins.discovery import find_plugins, report
from caraway.plugins.entries import APIS, ROLES, AnyEntry, Entry, Role
from caraway.plugins.manager import (
    Plugin,
    describe,
    load_builtins,
    load_given,
    load_object,
    lock,
)
from caraway.plugins.options import resolve_options
from caraway.plugins.selection import Selection, normal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from caraway.interfaces.context import Capability, Context
    from caraway.url import Url

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})

_OPTIONS_SETTING = {
    "transport": "broker_transport_options",
    "backend": "result_backend_transport_options",
}


class Provider(Struct, frozen=True):
    """One plugin's offer of one key."""

    plugin: Plugin
    entry: AnyEntry

    @property
    def usable(self) -> bool:
        """False if the entry is of a version that this Caraway doesn't know."""
        return self.entry.api in APIS


Table = dict[str, dict[str, list[Provider]]]
"""By role, by key: the offers."""


class Tables:
    """What the plugins of one app offer; filled at the first look-up."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._builtin: Table | None = None
        self._table: Table | None = None
        self._found: tuple[Plugin, ...] = ()
        self._added: list[Plugin] = []

    def plugins(self) -> Sequence[Plugin]:
        """Every plugin, whatever its state."""
        self.load()
        return (*self._found, *self._added)

    def add(self, given: object) -> Plugin:
        """Add a plugin that came later."""
        with lock:
            table = self.load()
            plugin = load_given(given)
            self._added.append(plugin)
            _add(table, plugin)
            return plugin

    def load(self) -> Table:
        """Everything: built in, installed, given.  Once."""
        table = self._table
        if table is not None:
            return table
        with lock:
            if self._table is None:
                found = tuple(find_plugins(self._selection))
                table = _empty()
                for plugin in found:
                    _add(table, plugin)
                self._found = found
                self._table = table
                report(found)
            return self._table

    def _load_builtin(self) -> Table:
        if self._builtin is None:
            with lock:
                table = _empty()
                for plugin in load_builtins():
                    if not self._selection.refusal(plugin.name, "caraway", builtin=True):
                        _add(table, plugin)
                self._builtin = table
        return self._builtin

    def providers(self, role: str) -> list[Provider]:
        """The usable providers of a role, each once."""
        out: list[Provider] = []
        for several in self.load()[role].values():
            out += [p for p in several if p.usable and p not in out]
        return out

    def find(self, role_name: str, key: str) -> Provider:
        role = ROLES[role_name]
        key = key.lower()
        if self._table is None and key not in self._selection.prefer:
            several = self._load_builtin()[role_name].get(key)
            if several:
                return several[0]
        several = self.load()[role_name].get(key)
        if not several:
            raise self._missing(role, key)
        return self._choose(role, key, several)

    def _choose(self, role: Role, key: str, several: list[Provider]) -> Provider:
        wanted = self._selection.prefer.get(key)
        if wanted is not None:
            several = [
                p
                for p in several
                if self._selection.prefers(key, p.plugin.name, p.plugin.distribution)
            ]
            if not several:
                raise ImproperlyConfigured(
                    f"the setting plugins.prefer gives {role.name} {key!r} to {wanted!r},"
                    " which doesn't offer it",
                    hint="'caraway plugins list' shows which plugin offers what.",
                )
        for provider in several:
            if provider.plugin.origin == "built-in":
                return provider
        usable = [p for p in several if p.usable]
        if not usable:
            entry = several[0].entry
            raise lookup.unusable(
                role,
                key,
                several[0].plugin,
                f"its entry {entry.name!r} has api {entry.api}, and this Caraway knows"
                f" {', '.join(map(str, sorted(APIS)))}: upgrade caraway",
            )
        if len({p.plugin.name for p in usable}) > 1:
            raise lookup.conflict(role, key, [p.plugin for p in usable])
        return usable[0]

    def _missing(self, role: Role, key: str) -> ImproperlyConfigured:
        """Which of the three errors."""
        from caraway.plugins.known import BUNDLES

        names = self.load()[role.name]
        troubled = [p for p in self.plugins() if p.state != "active" or p.problems]
        homes = {normal(b.dist) for b in BUNDLES if key in b.roles.get(role.name, ())}
        for plugin in troubled:
            if normal(plugin.distribution) in homes or normal(plugin.name) == normal(key):
                return lookup.unusable(role, key, plugin, plugin.problems.get(role.hook, ""))
        return lookup.not_installed(role, key, names) or lookup.unknown(role, key, names, troubled)

    def factory(self, role_name: str, key: str) -> Callable[..., Any]:
        """The imported factory of a component, by name or ``package.module:attribute``."""
        if ":" in key:
            return _load_path(role_name, key)
        provider = self.find(role_name, key)
        factory = cast("Entry", provider.entry).factory
        try:
            return cast("Callable[..., Any]", load_object(factory))
        except Exception as exc:
            error = lookup.unusable(
                ROLES[role_name], key, provider.plugin, f"importing {factory}: {describe(exc)}"
            )
            driver = cast("Entry", provider.entry).driver
            if isinstance(exc, ModuleNotFoundError) and driver:
                error.hint = f"pip install {driver}"
            raise error from exc

    def maker(
        self, role: str, url: Url, context: Context, options: Mapping[str, Any] | None
    ) -> Callable[[], Any]:
        """What builds the component of a URL: all checks done, nothing built."""
        factory = self.factory(role, url.scheme)
        values = self.options(role, url, context, options)
        return lambda: factory(url, values, context)

    def options(
        self, role: str, url: Url, context: Context, given: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        """A component's options: its table's defaults, ``[plugins.<name>]``, the setting
        of its role (or ``given`` instead), the URL's query; later ones win."""
        setting = "options"
        if given is None:
            setting = _OPTIONS_SETTING.get(role, "")
            given = context.settings.get(setting) or _NO_OPTIONS
        if ":" in url.scheme:
            return {**given, **url.query}
        provider = self.find(role, url.scheme)
        entry = cast("Entry", provider.entry)
        return resolve_options(
            entry.options,
            (f"plugins.{provider.plugin.name}", _own_table(provider.plugin, entry, context)),
            (setting, given),
            ("URL", url.query),
            what=f"{role} {url.scheme!r}",
            any_option=entry.any_option,
        )

    def capabilities(self, role: str, url: Url) -> frozenset[Capability]:
        """What is declared of the component of a URL."""
        if ":" in url.scheme:
            return getattr(self.factory(role, url.scheme), "capabilities", frozenset())
        entry = cast("Entry", self.find(role, url.scheme).entry)
        by_driver: Mapping[str, frozenset[Capability]] = getattr(entry, "by_driver", _NO_OPTIONS)
        return by_driver.get(url.driver.partition("+")[0], entry.capabilities)


def _load_path(role: str, path: str) -> Callable[..., Any]:
    try:
        return cast("Callable[..., Any]", load_object(path))
    except Exception as exc:
        raise ComponentUnusable(
            f"{role} {path!r} can't be imported: {describe(exc)}",
            hint="Write it as 'package.module:Class', importable from where this runs.",
        ) from exc


def _own_table(plugin: Plugin, entry: Entry, context: Context) -> Mapping[str, Any]:
    """The settings' table ``[plugins.<name>]``, as far as it is for this component: the
    components of one plugin share it."""
    tables = context.settings.get("plugins") or _NO_OPTIONS
    own = tables.get(plugin.name) or _NO_OPTIONS
    mine = {option.name for option in entry.options}
    others = {
        option.name
        for entries in plugin.entries.values()
        for other in entries
        for option in getattr(other, "options", ())
    }
    return {name: value for name, value in own.items() if name in mine or name not in others}


def _empty() -> Table:
    return {name: {} for name in ROLES}


def _add(table: Table, plugin: Plugin) -> None:
    if plugin.state != "active":
        return
    for role, entries in plugin.entries.items():
        for entry in entries:
            for key in entry.found_by():
                table[role].setdefault(key, []).append(Provider(plugin, entry))
