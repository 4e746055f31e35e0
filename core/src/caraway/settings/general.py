"""General settings: what is accepted, imported, plugged in."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from caraway.settings.declare import Setting, void
from caraway.settings.values import ITEMS, NAMES, STR, TABLE, optional


class General:
    """Settings without a group."""

    app = Setting(
        optional(STR),
        None,
        "The app that commands work with where `-A` isn't given: `module` or `module:attr`.",
    )
    accept_content = Setting(
        NAMES,
        ("json",),
        "Content types, or serializer names, a worker accepts. A message of another type is "
        "parked, never run and never lost.",
    )
    result_accept_content = Setting(
        optional(NAMES),
        None,
        "Content types accepted in results; none: the same as `accept_content`.",
        awaits="a choice; results are read by `result_serializer` alone",
    )
    enable_utc = void(True, "times in messages are always in UTC.")
    timezone = Setting(
        optional(STR), None, "IANA name of the zone that schedules are in; none is UTC."
    )
    imports = Setting(NAMES, (), "Modules the worker imports at start.")
    include = Setting(NAMES, (), "More modules to import; added by `Caraway(include=...)`.")
    middleware = Setting(
        ITEMS,
        (),
        "Middleware around every run, outermost first: names, `module:attr`, or callables.",
    )
    plugins = Setting(
        TABLE, {}, "Options of bundles by plugin name: `[plugins.<name>]` in the file."
    )
    plugins_block = Setting(NAMES, (), "Plugins that are not to be loaded, by name.")
    plugins_prefer = Setting(
        TABLE, {}, "Which distribution is to serve a scheme or name that several offer."
    )
