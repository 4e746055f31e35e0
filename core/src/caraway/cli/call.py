"""``caraway call``: send one task by name."""

from __future__ import annotations

import datetime
from typing import Any

import click

from caraway.cli.program import Program, pass_program


def json_argument(kind: type, what: str) -> Any:
    """A callback that reads JSON of one kind."""

    def callback(_context: click.Context, _param: click.Parameter, value: str | None) -> Any:
        if value is None:
            return None
        import json

        try:
            read = json.loads(value)
        except ValueError as exc:
            raise click.BadParameter(f"not JSON: {exc}") from None
        if not isinstance(read, kind):
            raise click.BadParameter(f"wants {what}")
        return read

    return callback


def moment(text: str) -> datetime.datetime:
    """An ISO 8601 time; one without a zone is local time."""
    try:
        return datetime.datetime.fromisoformat(text).astimezone()
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time: write 2030-01-31T12:00:00Z") from None


def _eta(_context: click.Context, _param: click.Parameter, value: str | None) -> Any:
    return None if value is None else moment(value)


def _duration(_context: click.Context, _param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    from caraway.settings import seconds

    try:
        return seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from None


def _expires(context: click.Context, param: click.Parameter, value: str | None) -> Any:
    if value is None:
        return None
    try:
        return _duration(context, param, value)
    except click.BadParameter:
        return moment(value)


@click.command("call")
@click.argument("name")
@click.option(
    "-a",
    "--args",
    "args",
    metavar="JSON",
    callback=json_argument(list, "a list: '[2, 3]'"),
    help="Positional arguments, a JSON list.",
)
@click.option(
    "-k",
    "--kwargs",
    "kwargs",
    metavar="JSON",
    callback=json_argument(dict, """an object: '{"x": 2}'"""),
    help="Keyword arguments, a JSON object.",
)
@click.option("--eta", metavar="TIME", callback=_eta, help="Not before: 2030-01-31T12:00:00Z.")
@click.option("--countdown", metavar="DURATION", callback=_duration, help="In: 30, 5m, 1h30m.")
@click.option(
    "--expires", metavar="DURATION|TIME", callback=_expires, help="Don't run it after this."
)
@click.option("--serializer", metavar="NAME", help="Serializer of the arguments.")
@click.option("--queue", metavar="NAME", help="Queue to send it to.")
@click.option("--exchange", metavar="NAME", help="Exchange to send it to (AMQP).")
@click.option("--routing-key", metavar="KEY", help="Routing key (AMQP).")
@click.option("--priority", type=click.IntRange(0, 9), help="9 is served first.")
@click.option("--id", "task_id", metavar="ID", help="Id of the task; default is a new one.")
@click.option(
    "-w",
    "--wait",
    metavar="DURATION",
    callback=_duration,
    help="Wait so long for the result, and print it.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(
    program: Program,
    /,
    name: str,
    *,
    args: list[Any] | None,
    kwargs: dict[str, Any] | None,
    wait: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Send a task by name; print its id.

    The app need not have the task: it is enough that a worker knows it.

    \b
    Examples:
      caraway -A shop call shop.add -a '[2, 3]'
      caraway -A shop call shop.mail -k '{"to": "a@b.c"}' --countdown 10m
      caraway -A shop call shop.add -a '[2, 3]' --wait 5s
    """  # fmt: skip
    app = program.client()
    chosen = {option: value for option, value in options.items() if value is not None}
    task = app.tasks.get(name)
    if task is not None:
        try:
            result = task.apply_async(tuple(args or ()), kwargs or {}, **chosen)
        except TypeError as exc:  # the arguments don't fit the task's signature
            raise click.UsageError(str(exc)) from None
    else:
        if program.named_app():
            _warn_unknown(name, app.tasks)
        result = app.send_task(name, tuple(args or ()), kwargs or {}, **chosen)
    if wait is None:
        if as_json:
            from caraway.cli import output

            output.emit_json({"id": result.id})
        else:
            click.echo(result.id)
        return 0
    if not as_json and not program.quiet:
        click.echo(result.id, err=True)
    from caraway.cli.result import show_results

    return show_results(app, [result.id], wait=wait, traceback=False, as_json=as_json)


def _warn_unknown(name: str, tasks: Any) -> None:
    import difflib

    near = difflib.get_close_matches(name, list(tasks), 1)
    more = f"; did you mean {near[0]!r}?" if near else ""
    click.echo(f"note: this app has no task {name!r}{more} Sent all the same.", err=True)
