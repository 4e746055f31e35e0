"""Entries: the light records that registration hooks return.

An entry describes a component with strings.  Nothing of the component is imported until
somebody asks for it by scheme or name, so that `caraway plugins list`, ``--help`` and
start-up checks cost nothing and can't fail.

Public; versioned by ``api``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

if TYPE_CHECKING:
    from caraway.interfaces.context import Capability

APIS = frozenset({1})
"""Versions of entries that this Caraway understands."""

OptionType = Literal["int", "float", "bool", "str", "duration", "size", "list"]


class Option(Struct, frozen=True):
    """One option of a component: a query parameter of its URL, or a key of the mapping
    setting of its role (``broker_transport_options`` ...).

    Attributes:
        name: as written in the URL.
        type: ``int``, ``float``, ``bool`` (``true/false``, ``yes/no``, ``on/off``,
            ``1/0``), ``str``, ``duration`` (a number of seconds, or ``500ms``, ``5m``,
            ``1h30m``; given as float seconds), ``size`` (bytes, or ``64k``, ``16M``;
            given as int), ``list`` (commas; given as tuple of str).
        default: what the factory gets if nobody set it; None is "not set".
        doc: one sentence.
        unit: for people, e.g. ``seconds``.
        choices: if not empty, the only values allowed.
    """

    name: str
    type: OptionType = "str"
    default: Any = None
    doc: str = ""
    unit: str = ""
    choices: tuple[str, ...] = ()


class Entry(Struct, frozen=True, kw_only=True):
    """What all entries have in common.

    Attributes:
        name: of the component, lower-case, unique in its role.
        factory: ``package.module:attribute`` of what builds it; imported at first use.
        summary: one line for lists.
        doc: URL of its documentation.
        api: version of this record (`APIS`); one that a Caraway doesn't know is kept
            out, with the version that it needs in the error.
        driver: distribution name of the client library it is built on, empty if none.
        capabilities: what it can do beyond its base duties.  The conformance kit
            verifies that this is true.
        options: its option table.
        any_option: True hands on options that the table doesn't name, as text.
    """

    name: str
    factory: str
    summary: str = ""
    doc: str = ""
    api: int = 1
    driver: str = ""
    capabilities: frozenset[Capability] = frozenset()
    options: tuple[Option, ...] = ()
    any_option: bool = False

    def found_by(self) -> tuple[str, ...]:
        """What it is found by."""
        return (self.name,)


class TransportEntry(Entry, frozen=True, kw_only=True):
    """A broker.  ``factory(url: Url, options: Mapping, context: Context) -> Transport``.

    Attributes:
        schemes: URL schemes, lower-case, without ``+driver``; the name if empty.
        by_driver: capabilities by what follows the first ``+`` of the scheme, where they
            depend on that; for any other driver ``capabilities`` holds, as on the class.
        notes: what people should know of each such driver, one line.
        joined: schemes of which several URLs name one broker, and not a failover list.
            They are handed over as one URL, its hosts with commas between them.
    """

    schemes: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    by_driver: dict[str, frozenset[Capability]] = {}
    notes: dict[str, str] = {}

    def found_by(self) -> tuple[str, ...]:
        return self.schemes or (self.name,)


class BackendEntry(Entry, frozen=True, kw_only=True):
    """A result backend.  ``factory(url: Url, options: Mapping, context: Context) -> Backend``.

    Attributes:
        schemes: URL schemes, lower-case, without ``+driver``; the name if empty.
        joined: see `TransportEntry`.
    """

    schemes: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()

    def found_by(self) -> tuple[str, ...]:
        return self.schemes or (self.name,)


class SerializerEntry(Entry, frozen=True, kw_only=True):
    """A serializer.  ``factory() -> Serializer``.  Found by name and content type.

    Attributes:
        content_type: e.g. ``application/json``.
        content_encoding: ``utf-8`` for text, else ``binary``.
        safe: False if reading hostile bytes can run code; such a one is only accepted
            where ``accept_content`` names it.
        aliases: further names and content types.
    """

    content_type: str
    content_encoding: str = "utf-8"
    safe: bool = True
    aliases: tuple[str, ...] = ()

    def found_by(self) -> tuple[str, ...]:
        return (self.name, self.content_type, *self.aliases)


class CompressorEntry(Entry, frozen=True, kw_only=True):
    """A compression method.  ``factory() -> Compressor``.  Found by name and content type.

    Attributes:
        content_type: what the message header ``compression`` says.
        aliases: further names.
    """

    content_type: str
    aliases: tuple[str, ...] = ()

    def found_by(self) -> tuple[str, ...]:
        return (self.name, self.content_type, *self.aliases)


class PoolEntry(Entry, frozen=True, kw_only=True):
    """A worker pool.  ``factory(concurrency: int, settings: Mapping) -> Pool``.

    Attributes:
        preload: ``package.module:function`` called without arguments before anything
            else is imported, for libraries that patch the standard library.
        aliases: further names.
    """

    preload: str = ""
    aliases: tuple[str, ...] = ()

    def found_by(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)


class ScheduleEntry(Entry, frozen=True, kw_only=True):
    """A schedule store for beat.

    ``factory(url: Url, options: Mapping, context: Context) -> ScheduleStore``.

    Attributes:
        schemes: URL schemes, lower-case, without ``+driver``; the name if empty.
    """

    schemes: tuple[str, ...] = ()

    def found_by(self) -> tuple[str, ...]:
        return self.schemes or (self.name,)


class MiddlewareEntry(Entry, frozen=True, kw_only=True):
    """A middleware that settings may name.  ``factory`` is the middleware itself, imported
    and handed over as it is.  Never active unless a setting lists it."""


class IntegrationEntry(Entry, frozen=True, kw_only=True):
    """Something that joins an app to a framework.  ``factory(app) -> None``.

    Attributes:
        detect: when it applies: ``env:NAME`` (the environment variable is set) or
            ``module:NAME`` (the module is imported already); any one is enough.
            Empty: never by itself.
    """

    detect: tuple[str, ...] = ()


class CommandEntry(Struct, frozen=True, kw_only=True):
    """A command of the ``caraway`` program.

    Attributes:
        name: what the user types; the names of built-in commands can't be taken.
        help: one line; shown by ``caraway --help`` without importing the command.
        target: ``package.module:attribute`` of a `click.Command`.
        doc: URL of its documentation.
        api: see `Entry`.
    """

    name: str
    help: str
    target: str
    doc: str = ""
    api: int = 1

    def found_by(self) -> tuple[str, ...]:
        return (self.name,)


AnyEntry = Entry | CommandEntry


class Role(Struct, frozen=True):
    """One kind of component: its word, its registration hook, its entry."""

    name: str
    plural: str
    hook: str
    entry: type[Entry | CommandEntry]
    by: str = "name"


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role("transport", "transports", "caraway_register_transports", TransportEntry, "scheme"),
        Role("backend", "backends", "caraway_register_backends", BackendEntry, "scheme"),
        Role("serializer", "serializers", "caraway_register_serializers", SerializerEntry),
        Role("compressor", "compressors", "caraway_register_compressors", CompressorEntry),
        Role("pool", "pools", "caraway_register_pools", PoolEntry),
        Role("schedule", "schedules", "caraway_register_schedules", ScheduleEntry, "scheme"),
        Role("middleware", "middleware", "caraway_register_middleware", MiddlewareEntry),
        Role("integration", "integrations", "caraway_register_integrations", IntegrationEntry),
        Role("command", "commands", "caraway_register_commands", CommandEntry),
    )
}
"""The nine roles by name."""
