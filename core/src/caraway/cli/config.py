"""``caraway config``: each setting's value and where it came from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from caraway.cli.program import Program, pass_program
from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.settings import Settings


@click.group(
    "config",
    help="""Show and check settings.

    \b
    Examples:
      caraway config show                    what was set, and where
      caraway config show broker_url         one setting, with its description
      caraway config show --all --json       everything, for a script
      caraway config check                   exit code 3 if something is wrong

    Settings come from defaults, caraway.toml (or [tool.caraway] in pyproject.toml),
    config_from_object, keywords of Caraway(...), CARAWAY_* variables and the command
    line; each overrules those before it.
    """,
)
def command() -> None:
    """The group; see its help."""


@command.command("show")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Also settings that have their default.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def show(program: Program, names: tuple[str, ...], *, everything: bool, as_json: bool) -> None:
    """Show settings: value and where it came from; passwords blacked out.

    \b
    Examples:
      caraway config show
      caraway -A shop config show worker_pool task_acks_late
    """
    from caraway.cli import output
    from caraway.settings import DECLARED
    from caraway.settings.names import canonical, nearest

    settings = _settings(program)
    chosen = []
    for name in names:
        found = canonical(name)
        if found is None or found not in DECLARED:
            near = nearest(name)
            more = f"; did you mean {near!r}?" if near else ""
            raise click.BadParameter(f"no setting {name!r}{more}", param_hint="NAME")
        chosen.append(found)
    if not chosen:
        chosen = [name for name in DECLARED if everything or settings.is_set(name)]
        if not chosen and not as_json:
            click.echo(f"nothing is set, all is at its default ({_place(settings)})")
            click.echo("`caraway config show --all` lists every setting")
            return
    if as_json:
        output.emit_json({name: _record(settings, name) for name in chosen})
        return
    if len(names) == 1:
        _describe(settings, chosen[0])
        return
    rows = [[name, _shown(settings.shown(name)), settings.source_of(name)] for name in chosen]
    output.table(["setting", "value", "from"], rows, color=program.color)


@command.command("check")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def check(program: Program, *, as_json: bool) -> int:
    """Check settings: unknown names, bad values, contradictions, names without effect.

    Exit code 0 if they can be used, 3 if not.

    \b
    Examples:
      caraway config check
      caraway --config deploy/live.toml config check
    """
    from caraway.cli import exits, output
    from caraway.cli.checks import check_settings

    settings = _settings(program)
    findings = check_settings(settings)
    bad = any(finding.level == "fail" for finding in findings)
    if as_json:
        output.emit_json({"file": settings.project.file, "ok": not bad, "findings": findings})
    else:
        for finding in findings:
            click.echo(f"{finding.level}: {finding.text}")
            if finding.repair:
                click.echo(f"  hint: {finding.repair}")
        if not bad:
            click.echo(f"settings are usable ({_place(settings)})")
    return exits.CONFIGURATION if bad else exits.OK


def _settings(program: Program) -> Settings:
    """The app's settings if an app is named, else what file and environment say.

    An app that only the settings name, and that can't be loaded, must not hide them.
    """
    name = program.named_app()
    if not name:
        return program.settings()
    try:
        return program.app().conf
    except ImproperlyConfigured as exc:
        if program.app_name:
            raise
        click.echo(f"note: without the app {name!r}: {str(exc).splitlines()[0]}", err=True)
        return program.settings()


def _place(settings: Settings) -> str:
    return settings.project.file or f"no settings file from {settings.project.directory} upward"


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)


def _record(settings: Settings, name: str) -> dict[str, Any]:
    source = settings.source_of(name)
    return {
        "value": settings.shown(name),
        "from": str(source),
        "layer": source.layer.name.lower(),
    }


def _describe(settings: Settings, name: str) -> None:
    from caraway.settings import DECLARED

    declared = DECLARED[name]
    click.echo(f"{name} = {_shown(settings.shown(name))}")
    click.echo(f"  from         {settings.source_of(name)}")
    unit = f", {declared.unit}" if declared.unit else ""
    click.echo(f"  type         {declared.kind.name}{unit}")
    default = declared.derived or _shown(declared.default)
    click.echo(f"  default      {default}")
    if declared.celery:
        click.echo(f"  in Celery    {declared.celery}")
    for word, why in (("no effect", declared.void), ("no effect yet", declared.awaits)):
        if why:
            click.echo(f"  {word}: {why}")
    click.echo(f"  environment  {declared.environment}")
    click.echo(f"  {declared.doc}")
