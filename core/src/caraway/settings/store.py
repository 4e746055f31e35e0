"""`Settings`: the values in force, each with where it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway.errors import ImproperlyConfigured
from caraway.settings import names
from caraway.settings.beat import Beat, Events
from caraway.settings.broker import Broker
from caraway.settings.general import General
from caraway.settings.project import Project
from caraway.settings.result import Results
from caraway.settings.task import Tasks
from caraway.settings.values import redact
from caraway.settings.worker import Workers

if TYPE_CHECKING:
    from caraway.settings.declare import Setting


class Layer(IntEnum):
    """Who has the last word: a higher layer overrules a lower one.

    What an operator says at the run overrules what a programmer wrote, so that one
    build runs everywhere.
    """

    DEFAULT = 0
    ADDED_DEFAULT = 1
    """`Caraway.add_defaults`."""
    FILE = 2
    """``caraway.toml`` or ``[tool.caraway]``."""
    OBJECT = 3
    """`config_from_object`, `config_from_envvar`."""
    KEYWORD = 4
    """Keywords of ``Caraway(...)``, assignments to ``app.conf``."""
    ENVIRONMENT = 5
    COMMAND_LINE = 6


class Source(Struct, frozen=True):
    """Where a value came from.

    Attributes:
        layer: who said it.
        label: for people: ``caraway.toml, line 3``, ``CARAWAY_BROKER_URL`` ...
    """

    layer: Layer
    label: str

    def __str__(self) -> str:
        return self.label


DEFAULT = Source(Layer.DEFAULT, "default")
_NOTHING: Any = object()


class SettingsWarning(UserWarning):
    """A setting was accepted and has no effect."""


class Settings(General, Broker, Tasks, Results, Workers, Beat, Events, Mapping[str, Any]):
    """All settings: attributes of their declared types, and a mapping by name.

    The base classes hold declarations only.  Values that were set lie in the instance's
    ``__dict__``, so reading one costs what reading any attribute costs.

    Attributes:
        project: where the project's directory and file are.
        notes: what was accepted without effect, as sentences.
    """

    project: Project
    notes: list[str]
    _sources: dict[str, Source]

    def __init__(self, project: Project | None = None) -> None:
        data = self.__dict__
        data["project"] = project or Project(".")
        data["notes"] = []
        data["_sources"] = {}

    # -- reading -----------------------------------------------------------------------

    def __getitem__(self, name: str) -> Any:
        if name in names.DECLARED:
            return getattr(self, name)
        found = names.canonical(name)
        if found is None:
            raise KeyError(name)
        bundle = names.bundle_of(found)
        if bundle is None:
            return getattr(self, found)
        try:
            return self.plugins[bundle[0]][bundle[1]]
        except KeyError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(names.DECLARED)

    def __len__(self) -> int:
        return len(names.DECLARED)

    def __contains__(self, name: object) -> bool:
        return name in names.DECLARED

    def __repr__(self) -> str:
        changed = {name: self.shown(name) for name in self._sources if name in names.DECLARED}
        return f"<Settings of {self.project.directory}: {changed}>"

    # A settings object stands for itself: comparing all values would be slow, and hashing
    # impossible.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def source_of(self, name: str) -> Source:
        """Where the value of a setting came from.

        Raises:
            KeyError: there is no such setting.
        """
        found = names.canonical(name)
        if found is None:
            raise KeyError(name)
        return self._sources.get(found, DEFAULT)

    def is_set(self, name: str) -> bool:
        """True if anybody set it, even to its default."""
        return self.source_of(name).layer is not Layer.DEFAULT

    def shown(self, name: str) -> Any:
        """The value as it may be printed: passwords blacked out."""
        return redact(self[name])

    def changed(self) -> dict[str, Any]:
        """What was set, by name."""
        return {name: self[name] for name in names.DECLARED if name in self._sources}

    # -- writing -----------------------------------------------------------------------

    def apply(
        self,
        values: Mapping[str, Any],
        layer: Layer = Layer.KEYWORD,
        label: str = "",
        *,
        prefix: str = "",
        lenient: bool = False,
        text: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Set many values, all or none; those that a higher layer set stay.

        Args:
            values: by name; Celery's old names are understood.
            layer: who says it.
            label: where it was said, for people.
            prefix: of namespaced names (``CELERY_``); others are passed over.
            lenient: pass over unknown names that don't look like a setting, as the
                modules that `config_from_object` reads are full of other things.
            text: values are text (environment, command line).
            labels: a label per written name, in place of ``label``.

        Raises:
            ImproperlyConfigured: a name is unknown or a value bad; nothing was set.
        """
        ready: dict[str, tuple[Any, Source]] = {}
        bundles: list[tuple[str, str, Any, str]] = []
        notes: list[str] = []
        for written, value in values.items():
            where = labels.get(written, label) if labels else label
            name = names.canonical(written, prefix)
            if name is None:
                if prefix and not written.startswith(prefix):
                    continue
                if names.is_program_option(written.lower()):
                    notes.append(f"{where or written}: {written!r} is an option of the command")
                    continue
                if lenient and not names.looks_ours(written):
                    continue
                raise _unknown(written[len(prefix) :] if prefix else written, where)
            bundle = None if name in names.DECLARED else names.bundle_of(name)
            if bundle is not None:
                bundles.append((*bundle, value, where))
                continue
            declared = names.DECLARED[name]
            if declared.refused:
                raise _at(where, f"{written!r} is not accepted", declared.refused)
            checked = _check(declared, written, value, where, text=text)
            if name in ready and ready[name][0] != checked:
                raise _at(
                    where,
                    f"{written!r} and another spelling of {name!r} say different things",
                    "keep one of them",
                )
            if name == "plugins":
                _check_tables(checked, where)
            if declared.void:
                notes.append(f"{where or 'settings'}: {written!r} has no meaning in Caraway: "
                             f"{declared.void}")  # fmt: skip
            if declared.awaits and checked != declared.default:
                notes.append(
                    f"{where or 'settings'}: {written!r} has no effect yet: {declared.awaits}"
                )
            ready[name] = (checked, Source(layer, where or layer.name.lower().replace("_", " ")))
        self._keep(ready, bundles, layer)
        self._note(notes)

    def _keep(
        self,
        ready: Mapping[str, tuple[Any, Source]],
        bundles: Iterable[tuple[str, str, Any, str]],
        layer: Layer,
    ) -> None:
        data, sources = self.__dict__, self._sources
        for name, (value, source) in ready.items():
            if name == "plugins":
                bundles = [
                    *bundles,
                    *(
                        (bundle, option, item, source.label)
                        for bundle, options in value.items()
                        for option, item in options.items()
                    ),
                ]
                continue
            if name not in sources or layer >= sources[name].layer:
                data[name] = value
                sources[name] = source
        for bundle, option, value, where in bundles:
            key = f"plugins.{bundle}.{option}"
            if key not in sources or layer >= sources[key].layer:
                # The outer and inner tables are copied, never shared with the source's.
                table = dict(self.plugins)
                table[bundle] = {**table.get(bundle, {}), option: value}
                data["plugins"] = table
                sources[key] = Source(layer, where)
                if "plugins" not in sources or layer >= sources["plugins"].layer:
                    sources["plugins"] = Source(layer, where)

    def _note(self, notes: list[str]) -> None:
        fresh = [note for note in notes if note not in self.notes]
        if fresh:
            import warnings

            self.notes.extend(fresh)
            warnings.warn("; ".join(fresh), SettingsWarning, stacklevel=4)

    def update(self, values: Mapping[str, Any] | None = None, /, **keywords: Any) -> None:
        """Set values from code, as `apply` with the layer of keywords does."""
        self.apply({**(values or {}), **keywords}, Layer.KEYWORD, "app.conf")

    def __setitem__(self, name: str, value: Any) -> None:
        self.apply({name: value}, Layer.KEYWORD, "app.conf")

    def __delattr__(self, name: str) -> None:
        if name not in names.DECLARED:
            raise AttributeError(name)
        self.__dict__.pop(name, None)
        self._sources.pop(name, None)

    if not TYPE_CHECKING:  # type checkers then find misspelt names, too

        def __setattr__(self, name: str, value: Any) -> None:
            self.apply({name: value}, Layer.KEYWORD, "app.conf")

        def __getattr__(self, name: str) -> Any:
            # Reached for what is neither declared nor set.
            if name.startswith("_"):
                raise AttributeError(name)
            found = names.canonical(name)
            if found is not None and found != name:
                return self[found]
            near = names.nearest(name)
            hint = f"; did you mean {near!r}?" if near else ""
            raise AttributeError(f"no setting {name!r}{hint}")


def _check(declared: Setting[Any], written: str, value: Any, where: str, *, text: bool) -> Any:
    kind = declared.kind
    try:
        return kind.read(value) if text and isinstance(value, str) else kind.check(value)
    except ValueError as exc:
        shown = "that" if declared.secret else repr(redact(value))
        raise _at(
            where,
            f"{written!r} {exc}, not {shown[:200]}",
            f"{declared.name}: {declared.doc}",
        ) from None


def _check_tables(tables: Mapping[str, Any], where: str) -> None:
    for bundle, options in tables.items():
        if not isinstance(options, Mapping):
            raise _at(
                where,
                f"plugins.{bundle} must be a table of options",
                f"write [plugins.{bundle}] and its options below; "
                "[plugins] itself knows block and prefer",
            )


def _unknown(written: str, where: str) -> ImproperlyConfigured:
    near = names.nearest(written)
    hint = f"did you mean {near!r}?" if near else "`caraway config show --all` lists all settings"
    return _at(where, f"unknown setting {written!r}", hint)


def _at(where: str, message: str, hint: str) -> ImproperlyConfigured:
    return ImproperlyConfigured(f"{where}: {message}" if where else message, hint=hint)
