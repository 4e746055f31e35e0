"""From an object with hooks to a `Plugin`: the one place that speaks to pluggy.

A plugin is loaded once a process and not changed after.  Whatever it does wrong becomes
its state, never somebody else's exception; `BaseException` (Ctrl-C, `SystemExit`) passes.
"""

from __future__ import annotations

import os
import sys
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct, field

from caraway.errors import ComponentUnusable
from caraway.plugins.entries import APIS, ROLES, AnyEntry, Role
from caraway.plugins.markers import HookOptions, hook_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from caraway.plugins.scan import Candidate

State = Literal["active", "blocked", "failed", "incompatible", "shadowed"]
Origin = Literal["built-in", "installed", "app"]

BUILTIN = "caraway.builtin.plugin"
"""Where the built-in plugins are; named, not imported, as any other plugin."""

lock = RLock()
"""Held while plugins are found and loaded; pluggy has none of its own."""

if hasattr(os, "register_at_fork"):
    # A child forked while another thread loads plugins would find the lock held for ever.
    os.register_at_fork(
        before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
    )


class Implementation(Struct, frozen=True):
    """One hook of one plugin."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    options: HookOptions


class Plugin(Struct, kw_only=True):
    """A plugin as found: what it is, what became of it, what it offers.

    Attributes:
        name: of the entry point, or of the built-in or the app's own.
        origin: ``built-in``, ``installed`` or ``app``.
        distribution: where it comes from, empty if unknown.
        version: of the distribution.
        module: where its hooks are.
        state: ``active``; ``blocked`` (never imported), ``failed`` (raised),
            ``incompatible`` (wants another Caraway), ``shadowed`` (another has its name).
        reason: why, for people, if it isn't active.
        error: what it raised, if it failed.
        problems: by hook, what went wrong in an otherwise active plugin.
        hooks: its implementations by hook.
        entries: what it registered, by role.
    """

    name: str
    origin: Origin
    distribution: str = ""
    version: str = ""
    module: str = ""
    state: State = "active"
    reason: str = ""
    error: Exception | None = None
    problems: dict[str, str] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)
    hooks: dict[str, Implementation] = field(default_factory=dict)
    entries: dict[str, tuple[AnyEntry, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Plugin {self.label()}: {self.state}>"

    def label(self) -> str:
        """``'redis' (caraway-redis 0.1.0)``."""
        if not self.distribution:
            return repr(self.name)
        return f"{self.name!r} ({self.distribution} {self.version})".replace(" )", ")")

    def fail(self, exc: Exception) -> None:
        self.state = "failed"
        self.reason = describe(exc)
        self.error = exc
        if strict():
            raise ComponentUnusable(f"plugin {self.label()} failed: {self.reason}") from exc


def describe(exc: BaseException) -> str:
    """One line: ``ModuleNotFoundError: No module named 'redis'``."""
    text = " ".join(str(exc).split())
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__


def strict() -> bool:
    """``CARAWAY_PLUGINS_STRICT=1``: errors of plugins are raised at once."""
    return os.environ.get("CARAWAY_PLUGINS_STRICT", "") not in {"", "0"}


def trace(text: str) -> None:
    """``CARAWAY_TRACE_PLUGINS=1``: say what plugins do, on standard error."""
    if os.environ.get("CARAWAY_TRACE_PLUGINS", "") not in {"", "0"}:
        sys.stderr.write(f"caraway.plugins: {text}\n")


# -- loading ---------------------------------------------------------------------------

_loaded: dict[Candidate, Plugin] = {}
_builtins: list[Plugin] = []
_pluggy: Any = None


def load_builtins() -> Iterable[Plugin]:
    """The built-in plugins, loaded without pluggy: they are on every start's way.

    A test holds that pluggy finds the same in them.
    """
    with lock:
        if not _builtins:
            from caraway import __version__

            builtin = load_object(BUILTIN)
            for name, obj in builtin.PLUGINS.items():
                record = Plugin(
                    name=name,
                    origin="built-in",
                    distribution="caraway",
                    version=__version__,
                    module=BUILTIN,
                )
                for hook in dir(obj):
                    options = hook_options(getattr(obj, hook))
                    if options is not None:
                        record.hooks[hook] = Implementation(
                            name, hook, getattr(obj, hook), (), options
                        )
                _register(record)
                _builtins.append(record)
        return _builtins


def load_candidate(candidate: Candidate) -> Plugin:
    """The plugin of an entry point: imported and registered, at most once a process."""
    with lock:
        record = _loaded.get(candidate)
        if record is not None:
            return record
        record = Plugin(
            name=candidate.name,
            origin="installed",
            distribution=candidate.distribution,
            version=candidate.version,
            module=candidate.value,
        )
        trace(f"loading {record.label()} from {candidate.value}")
        try:
            obj = load_object(candidate.value)
        except Exception as exc:  # noqa: BLE001 - one plugin must not break the others
            record.fail(exc)
        else:
            _read_hooks(record, obj)
        _loaded[candidate] = record
        return record


def load_given(given: object) -> Plugin:
    """The plugin that an app was given: an object, or the dotted name of one."""
    with lock:
        record = Plugin(name=_name_of(given), origin="app", module=_module_of(given))
        try:
            obj = load_object(given) if isinstance(given, str) else given
            obj = obj() if isinstance(obj, type) else obj
        except Exception as exc:  # noqa: BLE001
            record.fail(exc)
        else:
            _read_hooks(record, obj, shared=False)
        return record


def _name_of(given: object) -> str:
    if isinstance(given, str):
        return given
    name = getattr(given, "__name__", None) or type(given).__name__
    return str(name)


def _module_of(given: object) -> str:
    if isinstance(given, str):
        return given
    return str(getattr(given, "__module__", None) or getattr(given, "__name__", ""))


def load_object(path: str) -> Any:
    """Import ``package.module`` or ``package.module:attribute.of.it``.

    Raises:
        ImportError, AttributeError, or whatever the module raises.
    """
    from importlib import import_module

    module_name, _, attributes = path.partition(":")
    obj: Any = import_module(module_name)
    for attribute in filter(None, attributes.split(".")):
        obj = getattr(obj, attribute)
    return obj


# -- reading hooks, with pluggy --------------------------------------------------------


def _new_manager() -> Any:
    import pluggy

    from caraway.plugins import specs

    class Manager(pluggy.PluginManager):
        """Knows our marker instead of pluggy's."""

        def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
            if not name.startswith("caraway_"):
                return None
            try:
                options = hook_options(getattr(plugin, name))
            except Exception:  # noqa: BLE001 - a property that raises is no hook
                return None
            if options is None:
                return None
            return {
                "wrapper": False,
                "hookwrapper": False,
                "optionalhook": options.optionalhook,
                "tryfirst": options.tryfirst,
                "trylast": options.trylast,
                "specname": None,
            }

    manager = Manager("caraway")
    manager.add_hookspecs(specs)
    return manager


def _read_hooks(record: Plugin, obj: object, *, shared: bool = True) -> None:
    """Let pluggy validate the implementations of ``obj``, then register its entries."""
    global _pluggy  # noqa: PLW0603 - one manager a process, made on first need
    import pluggy

    try:
        if not shared:
            manager = _new_manager()
        else:
            _pluggy = manager = _pluggy or _new_manager()
        other = manager.get_name(obj)
        if other is not None:
            record.state, record.reason = "shadowed", f"it is the same module as plugin {other!r}"
            return
        try:
            manager.register(obj, name=record.name)
        except pluggy.PluginValidationError as exc:
            # pluggy 1.6 leaves the implementations that came before the bad one.
            if manager.is_registered(obj):
                manager.unregister(obj)
            record.state, record.reason, record.error = "incompatible", describe(exc), exc
            if strict():
                raise ComponentUnusable(
                    f"plugin {record.label()} is incompatible: {record.reason}"
                ) from exc
            return
        _take_hooks(record, obj, manager)
    except ComponentUnusable:
        raise
    except Exception as exc:  # noqa: BLE001 - e.g. an attribute that raises when looked at
        record.fail(exc)
        return
    if record.state == "active":
        _register(record)


def _take_hooks(record: Plugin, obj: object, manager: Any) -> None:
    for caller in manager.get_hookcallers(obj) or ():
        implementation = next(i for i in caller.get_hookimpls() if i.plugin is obj)
        if not caller.has_spec():
            if implementation.optionalhook:
                continue
            record.state = "incompatible"
            record.reason = (
                f"hook {caller.name} is misspelt, or needs a newer Caraway{_near_hook(caller.name)}"
            )
            record.hooks.clear()
            manager.unregister(obj)
            if strict():
                raise ComponentUnusable(f"plugin {record.label()}: {record.reason}")
            return
        options = hook_options(getattr(obj, caller.name)) or HookOptions()
        record.hooks[caller.name] = Implementation(
            record.name,
            caller.name,
            implementation.function,
            tuple(implementation.argnames),
            options,
        )


def _near_hook(name: str) -> str:
    from caraway.plugins import specs
    from caraway.plugins.lookup import nearest

    near = nearest(name, [n for n in vars(specs) if n.startswith("caraway_")])
    return f" (did you mean {near}?)" if near else ""


# -- registration hooks ----------------------------------------------------------------


def _register(record: Plugin) -> None:
    """Call the registration hooks of one plugin; each fails alone."""
    for role in ROLES.values():
        implementation = record.hooks.get(role.hook)
        if implementation is None:
            continue
        try:
            returned = implementation.function()
            entries = tuple(returned if returned is not None else ())
            for entry in entries:
                check_entry(role, entry)
        except Exception as exc:
            record.problems[role.hook] = describe(exc)
            record.errors[role.hook] = exc
            trace(f"{record.label()}: {role.hook}() raised {describe(exc)}")
            if strict():
                raise ComponentUnusable(
                    f"plugin {record.label()}: {role.hook} failed: {describe(exc)}"
                ) from exc
            continue
        record.entries[role.name] = entries
        trace(f"{record.label()}: {role.hook}() -> {', '.join(e.name for e in entries)}")


def check_entry(role: Role, entry: object) -> None:
    """Raise `TypeError` or `ValueError` for what isn't a sound entry of the role."""
    if not isinstance(entry, role.entry):
        raise TypeError(f"returns {role.entry.__name__} records, not {type(entry).__name__}")
    if entry.api not in APIS:
        return  # the rest of it may mean anything; the look-up says what is needed
    for key in entry.found_by():
        if str(key).strip().lower() != key or not key:
            raise ValueError(f"{role.by} {key!r} isn't a lower-case text")
    path = getattr(entry, "factory", "") or getattr(entry, "target", "")
    module, colon, attribute = str(path).partition(":")
    if not colon or not module or not attribute:
        raise ValueError(f"{entry.name!r}: {path!r} isn't of the form 'package.module:attribute'")


# -- life-cycle hooks ------------------------------------------------------------------


def call_hook(implementations: Iterable[Implementation], arguments: Mapping[str, Any]) -> None:
    """Call implementations one by one; one that raises is logged and the rest go on."""
    for implementation in implementations:
        values = [arguments[name] for name in implementation.arguments]
        call_guarded(implementation.plugin, implementation.hook, implementation.function, *values)


def call_guarded(plugin: str, what: str, function: Callable[..., Any], *values: Any) -> None:
    """Call a plugin's function; log what it raises, unless `strict`."""
    trace(f"{plugin}: {what}()")
    try:
        function(*values)
    except Exception:
        if strict():
            raise
        import logging

        logging.getLogger("caraway.plugins").exception("plugin %r: %s failed", plugin, what)


def in_order(implementations: Iterable[Implementation]) -> list[Implementation]:
    """``tryfirst``, then as they came, then ``trylast``."""

    def rank(implementation: Implementation) -> int:
        return implementation.options.trylast - implementation.options.tryfirst

    return sorted(implementations, key=rank)
