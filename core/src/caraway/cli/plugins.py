"""``caraway plugins``: what is installed, in which state, and whether it keeps its word.

``list`` and ``show`` read metadata and entries only, never a factory, so that they work
when every plugin is broken.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from caraway.cli.plugin_text import description, file_of, state, troubles
from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caraway.plugins.entries import AnyEntry
    from caraway.plugins.known import Bundle
    from caraway.plugins.manager import Plugin
    from caraway.plugins.registry import Registry

_CHECKED = ("transport", "backend", "schedule", "serializer", "compressor", "pool")
_WITH_URL = ("transport", "backend", "schedule")


@click.group(
    "plugins",
    help="""List, show and check plugins.

    \b
    Examples:
      caraway plugins list                   what is there, in which state
      caraway plugins list --all             also what could be installed
      caraway plugins show sqlite            schemes, options, capabilities
      caraway plugins check sqlite --url sqlite:////tmp/check.db

    A plugin is active, blocked (by plugins.block, CARAWAY_DISABLE_PLUGINS or -p no:NAME),
    failed (it raised), incompatible (it wants another Caraway) or shadowed (another
    plugin has its name).
    """,
)
def command() -> None:
    """The group; see its help."""


plugins = command


@command.command("list")
@click.option("--all", "everything", is_flag=True, help="Also bundles that aren't installed.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def list_(program: Program, *, everything: bool, as_json: bool) -> None:
    """List plugins and their state.

    \b
    Examples:
      caraway plugins list
      caraway plugins list --all --json
    """
    from caraway.cli.output import emit_json, table

    found = _registry(program).plugins()
    absent = list(_absent(found)) if everything else []
    if as_json:
        emit_json([*map(_record, found), *map(_absent_record, absent)])
        return
    rows: list[list[Any]] = [
        [p.name, p.version or None, p.distribution or p.origin, state(p), _provides(p)]
        for p in found
    ]
    rows += [
        [
            bundle.name,
            None,
            bundle.dist,
            "not installed" if bundle.status == "shipped" else "planned",
            [f"{role} {'/'.join(keys)}" for role, keys in bundle.roles.items()],
        ]
        for bundle in absent
    ]
    table(["name", "version", "distribution", "state", "provides"], rows, color=program.color)
    for plugin in found:
        for line in troubles(plugin):
            click.echo(f"{plugin.name}: {line}", err=True)


@command.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def show(program: Program, name: str, *, as_json: bool) -> None:
    """Show one plugin: NAME is its name, its distribution, or a scheme it offers.

    \b
    Examples:
      caraway plugins show sqlite
      caraway plugins show kombu+filesystem
    """
    from caraway.cli.output import emit_json

    registry = _registry(program)
    matches = _named(registry, name)
    driver = ""
    if not matches and "+" in name:
        scheme, _, driver = name.partition("+")
        matches = _named(registry, scheme)
    if not matches:
        bundle = _bundle(name)
        if bundle is None:
            raise _no_such_plugin(registry, name)
        if as_json:
            emit_json(_absent_record(bundle))
            return
        click.echo(f"{bundle.name}: {bundle.summary}")
        click.echo(f"  distribution  {bundle.dist}")
        for role, keys in bundle.roles.items():
            click.echo(f"  {role:13} {', '.join(keys)}")
        shipped = bundle.status == "shipped"
        install = f'not installed; pip install "caraway[{bundle.name}]"'
        click.echo(f"  state         {install if shipped else 'planned, not released yet'}")
        return
    if as_json:
        emit_json([_record(plugin, whole=True) for plugin in matches])
        return
    for plugin in matches:
        for line in description(plugin, driver):
            click.echo(line)


@command.command("check")
@click.argument("name")
@click.option("--url", default="", help="Of a store to test on; needed for stores.")
@click.option("--role", "roles", multiple=True, type=click.Choice(_CHECKED), help="Only this.")
@click.option(
    "--virtual-clock", is_flag=True, help="The component takes its time from its context."
)
@click.option("-v", "--verbose", is_flag=True, help="List the tests that passed, too.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def check(
    program: Program,
    name: str,
    *,
    url: str,
    roles: tuple[str, ...],
    virtual_clock: bool,
    verbose: bool,
    as_json: bool,
) -> int:
    """Run the conformance suites on a plugin's components and print the report.

    The tests use queues of their own and clean up. Exit code 1 if a test failed.

    \b
    Examples:
      caraway plugins check json
      caraway plugins check sqlite --url sqlite:////tmp/check.db
    """
    registry = _registry(program)
    matches = [p for p in _named(registry, name) if p.state == "active"]
    if not matches:
        inactive = _named(registry, name)
        if inactive:
            raise click.ClickException(f"plugin {name!r} is {state(inactive[0])}")
        raise _no_such_plugin(registry, name)
    reports = []
    for plugin in matches:
        for role in _CHECKED:
            if roles and role not in roles:
                continue
            for entry in plugin.entries.get(role, ()):
                report = _check(registry, plugin, role, entry, url, virtual=virtual_clock)
                if report is None:
                    continue
                reports.append(report)
                if not as_json:
                    click.echo(report.render(verbose=verbose))
                    click.echo()
    if not reports:
        hint = "" if url else "; give the --url of a store to test on"
        raise click.ClickException(f"nothing to check in plugin {name!r}{hint}")
    if as_json:
        click.echo("[" + ",\n".join(report.to_json() for report in reports) + "]")
    return 0 if all(report.ok for report in reports) else 1


def _check(
    registry: Registry, plugin: Plugin, role: str, entry: AnyEntry, url: str, *, virtual: bool
) -> Any:
    """The report on one component; None if the URL isn't one of its schemes."""
    from caraway.interfaces import Context
    from caraway.testing import conformance
    from caraway.url import Url

    attributes: dict[str, Any] = {"entry_capabilities": getattr(entry, "capabilities", None)}
    if role in _WITH_URL:
        if not url or Url.parse(url).scheme not in entry.found_by():
            return None
        attributes["options"] = registry.options(role, url, Context())
        attributes["virtual_clock"] = virtual or plugin.origin == "built-in"
        for backend in plugin.entries.get("backend", ()) if role == "transport" else ():
            attributes["backend_factory"] = _importable(backend)
    return conformance.run(role, _importable(entry), url or None, **attributes)


def _importable(entry: AnyEntry) -> str:
    """The factory's path, once it is sure that it can be imported."""
    from caraway.errors import ComponentUnusable
    from caraway.plugins.manager import describe, load_object

    path = str(getattr(entry, "factory", ""))
    try:
        load_object(path)
    except Exception as exc:
        driver = getattr(entry, "driver", "")
        raise ComponentUnusable(
            f"{path} can't be imported: {describe(exc)}",
            hint=f"pip install {driver}" if driver else "",
        ) from exc
    return path


# -- what is told ----------------------------------------------------------------------


def _registry(program: Program) -> Registry:
    """A registry that no broken plugin or setting can keep from being made."""
    import logging

    from caraway.plugins.registry import Registry

    os.environ["CARAWAY_PLUGINS_STRICT"] = "0"
    logging.getLogger("caraway.plugins").addHandler(logging.NullHandler())
    logging.getLogger("caraway.plugins").propagate = False
    try:
        settings = program.settings()
        block, prefer = settings.plugins_block, settings.plugins_prefer
    except Exception as exc:  # noqa: BLE001 - this command is for finding out what is wrong
        click.echo(f"settings can't be read, so their [plugins] don't count: {exc}", err=True)
        block, prefer = (), {}
    return Registry.discover(block=block, prefer=prefer, lenient=True)


def _named(registry: Registry, name: str) -> list[Plugin]:
    """Plugins of this name, else of this distribution, else that offer this key."""
    from caraway.plugins.selection import normal

    found = registry.plugins()
    same = [p for p in found if normal(p.name) == normal(name)]
    same = same or [
        p for p in found if p.origin == "installed" and normal(p.distribution) == normal(name)
    ]
    return same or [
        p for p in found if any(name in e.found_by() for es in p.entries.values() for e in es)
    ]


def _no_such_plugin(registry: Registry, name: str) -> click.ClickException:
    from caraway.plugins.lookup import nearest

    near = nearest(name, [p.name for p in registry.plugins()])
    hint = f" Did you mean {near!r}?" if near else " See 'caraway plugins list --all'."
    return click.ClickException(f"there is no plugin {name!r}.{hint}")


def _bundle(name: str) -> Bundle | None:
    from caraway.plugins.known import BUNDLES

    for bundle in BUNDLES:
        keys = {key for keys in bundle.roles.values() for key in keys}
        if name in {bundle.name, bundle.dist} | keys:
            return bundle
    return None


def _absent(found: Any) -> Iterator[Bundle]:
    from caraway.plugins.known import BUNDLES
    from caraway.plugins.selection import normal

    there = {normal(plugin.distribution) for plugin in found}
    return (bundle for bundle in BUNDLES if normal(bundle.dist) not in there)


def _provides(plugin: Plugin) -> list[str]:
    return [
        f"{role} {'/'.join(entry.found_by())}"
        for role, entries in plugin.entries.items()
        for entry in entries
    ]


def _record(plugin: Plugin, *, whole: bool = False) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": plugin.name,
        "version": plugin.version,
        "distribution": plugin.distribution,
        "origin": plugin.origin,
        "module": plugin.module,
        "state": plugin.state,
        "reason": plugin.reason,
        "problems": plugin.problems,
        "provides": {
            role: sorted({key for entry in entries for key in entry.found_by()})
            for role, entries in plugin.entries.items()
        },
    }
    if whole:
        record["file"] = file_of(plugin.module)
        record["hooks"] = sorted(plugin.hooks)
        record["entries"] = {role: list(entries) for role, entries in plugin.entries.items()}
    return record


def _absent_record(bundle: Bundle) -> dict[str, Any]:
    return {
        "name": bundle.name,
        "version": "",
        "distribution": bundle.dist,
        "origin": "known",
        "module": "",
        "state": "not installed" if bundle.status == "shipped" else "planned",
        "reason": "",
        "problems": {},
        "provides": bundle.roles,
    }
