"""The tables of components: by URL scheme, name or content type to the built object.

One `Registry` per app.  What is installed is found once a process; a registry adds the
app's own plugins and leaves out what the app blocks.  Built-in components are found
without looking at what is installed, which is why a program that needs only them starts
fast; an installed plugin takes a built-in's place only through ``plugins.prefer``.

Not public: the app hands out what users need.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

from msgspec.structs import replace

from caraway.errors import ImproperlyConfigured
from caraway.plugins.discovery import applies
from caraway.plugins.manager import Plugin, call_guarded, call_hook, in_order, load_object
from caraway.plugins.selection import Selection
from caraway.plugins.tables import Tables
from caraway.url import Url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from caraway.interfaces.backend import Backend
    from caraway.interfaces.context import Capability, Context
    from caraway.interfaces.pool import Pool
    from caraway.interfaces.schedule import ScheduleStore
    from caraway.interfaces.serializer import Compressor, Serializer
    from caraway.interfaces.transport import Transport
    from caraway.plugins.entries import CommandEntry, Entry, IntegrationEntry, SerializerEntry


class Registry:
    """Finds and builds components.  Thread-safe; make it with `discover`."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._apps: list[Any] = []
        self._built: dict[tuple[str, str], Any] = {}

    @classmethod
    def discover(
        cls,
        *,
        plugins: Iterable[object] = (),
        block: Iterable[str] = (),
        prefer: Mapping[str, str] | None = None,
        lenient: bool = False,
    ) -> Registry:
        """A registry of what is built in, installed, and given.

        Nothing is loaded yet: that happens at the first look-up.

        Args:
            plugins: the app's own: objects with hooks, or dotted names of such.
            block: names of plugins (or distributions) to leave out, unimported.  The
                environment's ``CARAWAY_DISABLE_PLUGINS`` comes on top.
            prefer: by scheme or name, the plugin or distribution that is to provide it.
            lenient: True ignores a block on an essential plugin.

        Raises:
            ImproperlyConfigured: an essential plugin is to be blocked.
        """
        return cls(Tables(Selection.make(plugins, block, prefer or {}, lenient=lenient)))

    # -- components --------------------------------------------------------------------

    def transport(
        self,
        url: str | Url | Sequence[Url],
        context: Context,
        options: Mapping[str, Any] | None = None,
    ) -> Transport:
        """The broker of a URL; of several (``;``), the first that can be reached.

        Args:
            url: text, parsed, or a list of parsed ones.
            context: what the factory may use.
            options: instead of the setting ``broker_transport_options``.

        Raises:
            ComponentNotInstalled, ComponentUnusable, UnknownComponent: no such scheme.
            ImproperlyConfigured: malformed URL, unknown or bad option.
        """
        urls = self._joined("transport", _urls(url))
        if len(urls) > 1:
            from caraway.plugins.failover import FailoverTransport

            return FailoverTransport(
                [
                    (str(one), self._tables.maker("transport", one, context, options))
                    for one in urls
                ],
                frozenset.intersection(*(self._tables.capabilities("transport", u) for u in urls)),
                monotonic=context.monotonic,
            )
        return cast("Transport", self._tables.maker("transport", urls[0], context, options)())

    def backend(
        self,
        url: str | Url | Sequence[Url],
        context: Context,
        options: Mapping[str, Any] | None = None,
    ) -> Backend:
        """The result backend of a URL; see `transport`.  Only one URL."""
        one = _one(self._joined("backend", _urls(url)), "backend")
        return cast("Backend", self._tables.maker("backend", one, context, options)())

    def schedule_store(
        self,
        url: str | Url | Sequence[Url],
        context: Context,
        options: Mapping[str, Any] | None = None,
    ) -> ScheduleStore:
        """The schedule store of a URL; see `transport`.  Only one URL."""
        maker = self._tables.maker("schedule", _one(url, "schedule store"), context, options)
        return cast("ScheduleStore", maker())

    def serializer(self, name: str) -> Serializer:
        """The serializer of a name or content type; one object per registry.

        Raises:
            ComponentNotInstalled, ComponentUnusable, UnknownComponent: no such one.
        """
        built = self._built.get(("serializer", name))
        return cast("Serializer", built or self._build_named("serializer", name))

    def compressor(self, name: str) -> Compressor:
        """The compressor of a name or content type; see `serializer`."""
        built = self._built.get(("compressor", name))
        return cast("Compressor", built or self._build_named("compressor", name))

    def pool(self, name: str, concurrency: int, settings: Mapping[str, Any]) -> Pool:
        """A pool by name.

        Raises:
            ComponentNotInstalled, ComponentUnusable, UnknownComponent: no such one.
        """
        return cast("Pool", self._tables.factory("pool", name)(concurrency, settings))

    def middleware(self, name: str) -> Any:
        """A middleware by name, or ``package.module:attribute``; imported, not called."""
        return self._tables.factory("middleware", name)

    def content_types(self, names: Iterable[str]) -> frozenset[str]:
        """The content types of these serializers (names or content types), for
        ``accept_content``.  Nothing is imported."""
        return frozenset(
            self.serializer(name).content_type
            if ":" in name
            else cast("SerializerEntry", self._tables.find("serializer", name).entry).content_type
            for name in names
        )

    def entry(self, role: str, key: str) -> Entry:
        """The entry of a component by role and scheme or name, nothing imported.

        Raises:
            ComponentNotInstalled, ComponentUnusable, UnknownComponent: no such one.
        """
        return cast("Entry", self._tables.find(role, key).entry)

    def capabilities(self, role: str, url: str | Url | Sequence[Url]) -> frozenset[Capability]:
        """What is declared of the component of a URL, nothing imported; see `entry`."""
        return self._tables.capabilities(role, _one(self._joined(role, _urls(url)), role))

    def plugin_of(self, role: str, key: str) -> Plugin:
        """The plugin that provides a component; see `entry`."""
        return self._tables.find(role, key).plugin

    def options(
        self,
        role: str,
        url: str | Url,
        context: Context,
        options: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The options that the component of a URL would be built with."""
        return self._tables.options(role, _one(url, role), context, options)

    # -- introspection -----------------------------------------------------------------

    def plugins(self) -> Sequence[Plugin]:
        """Every plugin found, whatever its state: built in, installed, given."""
        return self._tables.plugins()

    def commands(self) -> Mapping[str, CommandEntry]:
        """Commands of plugins by name.  Of two with one name, the preferred or none."""
        out: dict[str, CommandEntry] = {}
        for key in self._tables.load()["command"]:
            try:
                out[key] = cast("CommandEntry", self._tables.find("command", key).entry)
            except ImproperlyConfigured:
                continue  # `caraway plugins list` shows it
        return MappingProxyType(out)

    def names(self, role: str) -> Sequence[str]:
        """All schemes or names of a role."""
        return sorted(self._tables.load()[role])

    # -- life-cycle --------------------------------------------------------------------

    def configure(self, app: Any) -> None:
        """Run ``caraway_configure`` for an app, then the integrations that apply."""
        self._tables.load()
        self._apps.append(app)
        self._call("caraway_configure", {"app": app})
        for provider in self._tables.providers("integration"):
            entry = cast("IntegrationEntry", provider.entry)
            if applies(entry):
                call_guarded(
                    provider.plugin.name,
                    f"integration {entry.name}",
                    lambda entry=entry: load_object(entry.factory)(app),
                )

    def worker_start(self, worker: Any) -> None:
        """Run ``caraway_worker_start``, in the supervisor's process."""
        self._call("caraway_worker_start", {"worker": worker})

    def worker_stop(self, worker: Any) -> None:
        """Run ``caraway_worker_stop``, in the supervisor's process."""
        self._call("caraway_worker_stop", {"worker": worker}, backwards=True)

    def child_start(self, app: Any, index: int) -> None:
        """Run ``caraway_child_start``, in a lane's process."""
        self._call("caraway_child_start", {"app": app, "index": index})

    def child_stop(self, app: Any, index: int) -> None:
        """Run ``caraway_child_stop``, in a lane's process."""
        self._call("caraway_child_stop", {"app": app, "index": index}, backwards=True)

    def register(self, plugin: object) -> Plugin:
        """Add a plugin now; ``caraway_configure`` is called for apps already set up."""
        record = self._tables.add(plugin)
        self._built.clear()
        late = record.hooks.get("caraway_configure")
        if late is not None and record.state == "active":
            for app in self._apps:
                call_hook([late], {"app": app})
        return record

    # -- inside ------------------------------------------------------------------------

    def _call(self, hook: str, arguments: dict[str, Any], *, backwards: bool = False) -> None:
        found = in_order(
            plugin.hooks[hook]
            for plugin in self.plugins()
            if plugin.state == "active" and hook in plugin.hooks
        )
        call_hook(reversed(found) if backwards else found, arguments)

    def _joined(self, role: str, urls: tuple[Url, ...]) -> tuple[Url, ...]:
        """Several URLs of one server as one; see `TransportEntry.joined`."""
        scheme = urls[0].scheme
        if len(urls) < 2 or any(url.scheme != scheme for url in urls):
            return urls
        entry = self._tables.find(role, scheme).entry
        if scheme not in getattr(entry, "joined", ()):
            return urls
        hosts = (f"{url.host}:{url.port}" if url.port else url.host for url in urls)
        query: dict[str, str] = {}
        for url in reversed(urls):
            query.update(url.query)
        # What one of them says, it says of them all; the first goes before the others.
        known = {
            name: next((value for url in urls if (value := getattr(url, name))), "")
            for name in ("username", "password", "path")
        }
        return (replace(urls[0], host=",".join(hosts), port=None, query=query, raw="", **known),)

    def _build_named(self, role: str, name: str) -> Any:
        built = self._built[role, name] = self._tables.factory(role, name)()
        return built


def _urls(url: str | Url | Sequence[Url]) -> tuple[Url, ...]:
    if isinstance(url, str):
        return Url.parse_list(url)
    return (url,) if isinstance(url, Url) else tuple(url)


def _one(url: str | Url | Sequence[Url], what: str) -> Url:
    urls = _urls(url)
    if len(urls) != 1:
        raise ImproperlyConfigured(
            f"a {what} has one URL, not {len(urls)}: {'; '.join(map(str, urls))!r}",
            hint="Only a broker can be a failover list.",
        )
    return urls[0]
