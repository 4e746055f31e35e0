"""All plugins of one app: built in, installed, given; each with its state."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from caraway.plugins.entries import IntegrationEntry, PoolEntry
from caraway.plugins.manager import (
    Plugin,
    load_builtins,
    load_candidate,
    load_given,
    load_object,
    trace,
)
from caraway.plugins.scan import Candidate, candidates
from caraway.plugins.selection import Selection, normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_reported: set[tuple[str, str, str]] = set()


def find_plugins(selection: Selection) -> Iterator[Plugin]:
    """Built-in plugins first, so that their names are taken; then what is installed, by
    name; then what the app was given."""
    taken: dict[str, Plugin] = {}
    for plugin in load_builtins():
        reason = selection.refusal(plugin.name, "caraway", builtin=True)
        record = _like(plugin, reason) if reason else plugin
        taken[plugin.name] = record
        yield record
    found = candidates()
    if found:
        trace(f"{len(found)} entry points; first asked for by {_asker()}")
    for candidate in _preferred_first(found, selection):
        plugin = _installed(candidate, selection, taken.get(candidate.name))
        taken.setdefault(candidate.name, plugin)
        yield plugin
    for given in selection.given:
        yield load_given(given)


def _like(plugin: Plugin, reason: str) -> Plugin:
    return Plugin(
        name=plugin.name,
        origin=plugin.origin,
        distribution=plugin.distribution,
        version=plugin.version,
        module=plugin.module,
        state="blocked",
        reason=reason,
    )


def _installed(candidate: Candidate, selection: Selection, holder: Plugin | None) -> Plugin:
    plugin = Plugin(
        name=candidate.name,
        origin="installed",
        distribution=candidate.distribution,
        version=candidate.version,
        module=candidate.value,
    )
    reason = selection.refusal(candidate.name, candidate.distribution)
    if reason:
        plugin.state, plugin.reason = "blocked", reason
    elif holder is not None and holder.state != "blocked":
        plugin.state = "shadowed"
        plugin.reason = f"plugin {holder.label()} has the same name"
    else:
        return load_candidate(candidate)
    return plugin


def _preferred_first(found: Iterable[Candidate], selection: Selection) -> list[Candidate]:
    """Of two distributions with one plugin name, the one that ``prefer`` names is first."""
    wanted = {normal(name) for name in selection.prefer.values()}
    return sorted(found, key=lambda c: (c.name, normal(c.distribution) not in wanted))


def report(plugins: Iterable[Plugin]) -> None:
    """Log one line for each plugin that isn't well, once a process."""
    for plugin in plugins:
        if plugin.state in {"active", "blocked"} and not plugin.problems:
            continue
        reason = plugin.reason or "; ".join(f"{h}: {p}" for h, p in plugin.problems.items())
        line = (plugin.name, plugin.distribution, reason)
        if line in _reported:
            continue
        _reported.add(line)
        import logging

        what = plugin.state if plugin.state != "active" else "in trouble"
        logging.getLogger("caraway.plugins").warning(
            "plugin %s is %s: %s", plugin.label(), what, reason
        )


def applies(entry: IntegrationEntry) -> bool:
    """True if one of an integration's ``detect`` conditions holds; imports nothing."""
    for condition in entry.detect:
        kind, _, name = condition.partition(":")
        if (kind == "env" and os.environ.get(name)) or (kind == "module" and name in sys.modules):
            return True
    return False


def preload(pool: str) -> None:
    """Run what a pool must do before anything else is imported (gevent, eventlet).

    Loads only the installed plugin of that name, and no plugin for a built-in pool or
    for ``package.module:Class``.  Unknown names are left to the look-up that follows.
    """
    if ":" in pool:
        return
    names = {key for plugin in load_builtins() for key in _pools(plugin)}
    if pool in names:
        return
    selection = Selection.make((), (), {}, lenient=True)
    for candidate in candidates():
        if normal(candidate.name) != normal(pool):
            continue
        plugin = _installed(candidate, selection, None)
        entry = _pools(plugin).get(pool)
        if entry is not None and entry.preload:
            trace(f"preloading {entry.preload}")
            load_object(entry.preload)()
        return


def _pools(plugin: Plugin) -> dict[str, PoolEntry]:
    return {
        key: entry
        for entry in plugin.entries.get("pool", ())
        if isinstance(entry, PoolEntry)
        for key in entry.found_by()
    }


def _asker() -> str:
    """Who made discovery happen: the nearest frame outside this package."""
    here = os.path.dirname(__file__)
    frame = sys._getframe(1)
    while frame.f_back is not None and os.path.dirname(frame.f_code.co_filename) == here:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
