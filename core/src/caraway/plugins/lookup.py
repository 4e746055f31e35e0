"""The three ways in which looking up a component can fail, and what each says.

1. `ComponentNotInstalled`: a bundle of ours has it, and isn't installed.
2. `ComponentUnusable`: something installed has it, and can't be used: why, which
   distribution and version, the original error chained.
3. `UnknownComponent`: nobody has it: the nearest name, and all names there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.errors import ComponentNotInstalled, ComponentUnusable, UnknownComponent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from caraway.plugins.entries import Role
    from caraway.plugins.manager import Plugin

_REPAIR = {
    "blocked": "Take it out of the setting plugins.block, CARAWAY_DISABLE_PLUGINS or -p no:{name};"
    " with CARAWAY_PLUGIN_AUTOLOAD=0, allow it with -p {name}.",
    "failed": "Repair or reinstall it; 'caraway plugins show {name}' shows the whole error.",
    "incompatible": "Upgrade {distribution} or caraway, so that they fit.",
    "shadowed": "Uninstall one of the two, or choose with the setting plugins.prefer.",
    "active": "'caraway plugins show {name}' shows what is wrong.",
}


def nearest(name: str, names: Iterable[str]) -> str:
    """The one of ``names`` most like ``name``, empty if none is."""
    from difflib import get_close_matches

    found = get_close_matches(name, list(names), n=1, cutoff=0.6)
    return found[0] if found else ""


def not_installed(role: Role, key: str, usable: Iterable[str]) -> ComponentNotInstalled | None:
    """The first error, if the catalogue of our bundles knows the key."""
    from caraway.plugins.known import BUNDLES

    for bundle in BUNDLES:
        if key not in bundle.roles.get(role.name, ()):
            continue
        if bundle.status == "shipped":
            return ComponentNotInstalled(
                f"{role.name} {key!r} comes with {bundle.dist}, which is not installed",
                hint=f'pip install "caraway[{bundle.name}]"',
            )
        return ComponentNotInstalled(
            f"{role.name} {key!r} belongs to {bundle.dist}, which is not released yet",
            hint=f"Usable now: {', '.join(sorted(usable)) or 'none'}.",
        )
    return None


def unusable(role: Role, key: str, plugin: Plugin, reason: str = "") -> ComponentUnusable:
    """The second error, with what the plugin raised as its cause."""
    state = "can't provide it" if plugin.state == "active" else f"is {plugin.state}"
    reason = reason or plugin.reason
    error = ComponentUnusable(
        f"{role.name} {key!r} can't be used: plugin {plugin.label()} {state}"
        + (f": {reason}" if reason else ""),
        hint=_REPAIR[plugin.state].format(
            name=plugin.name, distribution=plugin.distribution or plugin.name
        ),
    )
    error.__cause__ = plugin.error or plugin.errors.get(role.hook)
    return error


def conflict(role: Role, key: str, plugins: Iterable[Plugin]) -> ComponentUnusable:
    """The second error, for two plugins that offer the same key."""
    several = list(plugins)
    labels = " and ".join(plugin.label() for plugin in several)
    choice = several[0].distribution or several[0].name
    return ComponentUnusable(
        f"{role.name} {key!r} is offered by several plugins: {labels}",
        hint=f'Choose one in the settings: [plugins.prefer] "{key}" = "{choice}"',
    )


def unknown(
    role: Role, key: str, names: Iterable[str], troubled: Iterable[Plugin]
) -> UnknownComponent:
    """The third error."""
    from caraway.plugins.known import BUNDLES

    there = sorted(set(names))
    known = {k for bundle in BUNDLES for k in bundle.roles.get(role.name, ())}
    near = nearest(key, [*there, *known])
    hints = [f"Did you mean {near!r}?"] if near else []
    hints.append(f"Known {role.plural}: {', '.join(there) or 'none'}.")
    broken = [f"{plugin.name} ({plugin.state})" for plugin in troubled]
    if broken:
        hints.append(f"Plugins that are not active: {', '.join(broken)}.")
    hints.append("A class of your own is written 'package.module:Class'.")
    return UnknownComponent(f"no {role.name} has the {role.by} {key!r}", hint=" ".join(hints))
