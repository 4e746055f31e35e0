"""``caraway doctor``: look at everything a user could have got wrong."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from caraway.cli.program import Parts, Program, pass_program

if TYPE_CHECKING:
    from caraway.cli.checks import Finding
    from caraway.settings import Settings


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--strict", is_flag=True, help="Warnings fail, too.")
@pass_program
def command(program: Program, *, as_json: bool, strict: bool) -> int:
    """Check the whole set-up, and say what to do about each finding.

    Looks at Python and SQLite, the project's directory, settings, plugins, the app, the
    clock, the user's rights, whether broker and result backend can be reached and how
    fast they answer, workers, and queues in which messages wait for nobody. It works when
    all of that is broken. Exit code 0 if all is well, 1 if something is not.

    \b
    Examples:
      caraway doctor
      caraway -A shop doctor --json
      caraway -b sqlite:////var/lib/shop/queue.db doctor --strict
    """
    from caraway.cli import exits, output

    findings = examine(program)
    levels: list[str] = [finding.level for finding in findings]
    bad = "fail" in levels or (strict and "warn" in levels)
    if as_json:
        output.emit_json({"ok": not bad, "findings": findings})
        return exits.NEGATIVE if bad else exits.OK
    colors = {"ok": "green", "warn": "yellow", "fail": "red"}
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        word = finding.level.ljust(4)
        if program.color:
            word = click.style(word, fg=colors[finding.level], bold=finding.level == "fail")
        click.echo(f"{word}  {finding.check.ljust(width)}  {finding.text}")
        if finding.repair:
            click.echo(f"{' ' * (width + 8)}-> {finding.repair}")
    counts = ", ".join(
        f"{levels.count(level)} {word}" for level, word in (("fail", "bad"), ("warn", "doubtful"))
    )
    click.echo(f"{'something is wrong' if bad else 'all is well'}: {counts}")
    return exits.NEGATIVE if bad else exits.OK


def examine(program: Program) -> list[Finding]:
    """All findings, in the order in which one thing stands on another."""
    from caraway.cli import checks
    from caraway.settings import find_project

    findings = [*checks.guarded("python", checks.check_python)]
    findings += checks.guarded("clock", checks.check_clock)
    try:
        program.prepare()
        settings = program.settings()
    except Exception as exc:  # noqa: BLE001 - the finding most looked for
        findings.append(checks.failed("settings", exc))
        project = find_project()
        findings += checks.guarded("directory", lambda: checks.check_directory(project.directory))
        return findings
    settings, more = _app_settings(program, settings)
    findings += more
    place = settings.project.file or "no file, all from the environment and defaults"
    findings.append(checks.Finding("settings", "ok", place))
    findings += checks.guarded("settings", lambda: checks.check_settings(settings))
    directory = settings.project.directory
    findings += checks.guarded("directory", lambda: checks.check_directory(directory))
    findings += checks.guarded("user", lambda: checks.check_user(settings))
    findings += checks.guarded("limits", checks.check_limits)
    parts = Parts(settings)
    findings += checks.guarded("plugins", lambda: checks.check_plugins(parts))
    return findings + _connections(parts)


def _app_settings(program: Program, settings: Settings) -> tuple[Settings, list[Finding]]:
    """The app's settings where it can be loaded, else those given."""
    from caraway.cli import checks

    try:
        name = program.named_app()
        if not name:
            repair = "name it, to check it, too: caraway -A shop doctor"
            return settings, [checks.Finding("app", "ok", "none named", repair)]
        app = program.app()
        count = sum(not task.startswith("celery.") for task in app.tasks)
        return app.conf, [checks.Finding("app", "ok", f"{name}: {count} tasks")]
    except Exception as exc:  # noqa: BLE001 - a broken app must not hide the rest
        return settings, [checks.failed("app", exc)]


def _connections(parts: Parts) -> list[Finding]:
    from caraway.cli import checks
    from caraway.cli.broker import shown_url

    settings = parts.settings
    broker = shown_url(settings, "broker_url")
    findings, transport = checks.check_component("broker", broker, parts.transport)
    if settings.broker_url.startswith("memory"):
        findings.append(
            checks.Finding(
                "broker",
                "warn",
                "memory:// exists in one process only: no worker will see its tasks",
                "leave broker_url out, for the default sqlite://, except in tests",
            )
        )
    backend = None
    url = settings.result_backend
    if not url or url.startswith("disabled"):
        text = "no result backend: results are not kept"
        findings.append(checks.Finding("backend", "ok", text))
    else:
        shown = shown_url(settings, "result_backend")
        more, backend = checks.check_component("backend", shown, parts.backend)
        findings += more
    if transport is not None:
        findings += checks.guarded("workers", lambda: checks.check_work(transport, ()))
    for component in (transport, backend):
        if component is not None:
            with contextlib.suppress(Exception):
                component.close()
    return findings
