"""What there is to say of a plugin, as lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from caraway.interfaces import Capability
    from caraway.plugins.entries import AnyEntry
    from caraway.plugins.manager import Plugin


def state(plugin: Plugin) -> str:
    """One or three words."""
    if plugin.state == "active":
        return "active, with problems" if plugin.problems else "active"
    return plugin.state


def troubles(plugin: Plugin) -> list[str]:
    """Why it isn't active, and what of it can't be used."""
    lines = [f"{plugin.state}: {plugin.reason}"] if plugin.state != "active" else []
    return [*lines, *(f"{hook}: {text}" for hook, text in plugin.problems.items())]


def description(plugin: Plugin, driver: str = "") -> Iterator[str]:
    """All of it; of a driver only what is about that."""
    yield f"{plugin.name}: {state(plugin)}"
    yield f"  distribution  {plugin.distribution or '-'} {plugin.version}".rstrip()
    yield f"  module        {plugin.module}"
    file = file_of(plugin.module)
    if file:
        yield f"  file          {file}"
    for line in troubles(plugin):
        yield f"  trouble       {line}"
    errors = [plugin.error] if plugin.error else [*plugin.errors.values()]
    for error in errors:
        import traceback

        for text in traceback.format_exception(error):
            yield from (f"    {line}" for line in text.rstrip().splitlines())
    lifecycle = sorted(h for h in plugin.hooks if not h.startswith("caraway_register_"))
    if lifecycle:
        yield f"  hooks         {', '.join(lifecycle)}"
    for role, entries in plugin.entries.items():
        for entry in entries:
            yield ""
            if not driver or driver in {**getattr(entry, "by_driver", {}), **_notes(entry)}:
                yield from _entry(role, entry, driver)


def _notes(entry: AnyEntry) -> dict[str, str]:
    return getattr(entry, "notes", {})


def _entry(role: str, entry: AnyEntry, driver: str = "") -> Iterator[str]:
    yield f"  {role} {entry.name}"
    if summary := getattr(entry, "summary", "") or getattr(entry, "help", ""):
        yield f"    {summary}"
    yield f"    found by      {', '.join(entry.found_by())}"
    yield f"    factory       {getattr(entry, 'factory', '') or getattr(entry, 'target', '')}"
    by_driver = getattr(entry, "by_driver", {})
    notes = _notes(entry)
    if not driver:
        yield from _capable("", getattr(entry, "capabilities", ()))
    for name in [driver] if driver else sorted({**by_driver, **notes}):
        yield from _capable(f" with +{name}:", by_driver.get(name, ()))
        if driver and name in notes:
            yield f"    note          {notes[name]}"
    if library := getattr(entry, "driver", ""):
        yield f"    driver        {library} {_version(library)}"
    if entry.doc:
        yield f"    docs          {entry.doc}"
    for option in getattr(entry, "options", ()):
        unit = f", {option.unit}" if option.unit else ""
        yield f"    ?{option.name}=  {option.type}{unit}; default {option.default!r}"
        choices = f" One of: {', '.join(option.choices)}." if option.choices else ""
        yield f"        {option.doc}{choices}"


def _capable(where: str, those: Iterable[Capability]) -> Iterator[str]:
    if words := ", ".join(sorted(capability.value for capability in those)):
        yield f"    capabilities {where} {words}"


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(distribution)
    except PackageNotFoundError:
        return "(not installed)"


def file_of(module: str) -> str:
    """Where a plugin's package is, without importing the plugin."""
    from importlib.util import find_spec

    try:
        spec = find_spec(module.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return ""
    return (spec.origin or "") if spec is not None else ""
