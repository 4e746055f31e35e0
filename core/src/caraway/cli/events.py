"""``caraway events``: what happens to tasks and workers, as it happens."""

from __future__ import annotations

import datetime
from typing import Any

import click

from caraway.cli.program import Program, pass_program

_ENVELOPE = ("type", "timestamp", "hostname", "utcoffset", "pid", "clock", "local_received")


@click.command(
    "events",
    help="""Print events as they come: a line each, until interrupted.

    Workers always tell of themselves; of their tasks only if they were started with -E, or
    told `caraway control enable_events`.

    \b
    Examples:
      caraway events --dump
      caraway events --dump --type 'task-*' --json
      caraway control enable_events && caraway events --limit 100
    """,
)
@click.option("-d", "--dump", is_flag=True, help="Print each event; it is what happens anyway.")
@click.option(
    "--type", "kinds", multiple=True, metavar="PATTERN", help="Only these; * and ? match."
)
@click.option("-n", "--limit", type=click.IntRange(1), help="End after so many.")
@click.option(
    "-t", "--timeout", type=float, help="End after so many seconds without an event; code 5."
)
@click.option("-j", "--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_program
def command(
    program: Program,
    /,
    *,
    dump: bool,
    kinds: tuple[str, ...],
    limit: int | None,
    timeout: float | None,
    as_json: bool,
) -> int:
    """See the help given above."""
    import time
    from fnmatch import fnmatchcase

    from caraway.cli import broker, exits
    from caraway.interfaces import Capability

    broker.transport_with(program, Capability.BROADCAST, "carry events")
    if not (dump or as_json or program.quiet):
        click.echo("events, as they come (Ctrl-C ends); --help has more", err=True)
    receiver = program.client().events.Receiver()
    left = limit
    heard = time.monotonic()
    try:
        for event in receiver.itercapture(timeout=timeout):
            if kinds and not any(fnmatchcase(str(event["type"]), kind) for kind in kinds):
                if timeout is not None and time.monotonic() - heard > timeout:
                    return exits.TIMEOUT
                continue
            heard = time.monotonic()
            click.echo(_as_json(event) if as_json else line(event))
            if left is not None:
                left -= 1
                if left == 0:
                    break
    except TimeoutError:
        return exits.TIMEOUT
    return exits.OK


def _as_json(event: dict[str, Any]) -> str:
    import msgspec

    return msgspec.json.encode(event, enc_hook=str).decode()


def line(event: dict[str, Any]) -> str:
    """An event for people."""
    seconds = event.get("timestamp")
    shown = "-"
    if isinstance(seconds, (int, float)):
        shown = datetime.datetime.fromtimestamp(seconds).astimezone().isoformat(" ", "milliseconds")
    more = ", ".join(f"{key}={event[key]!r}" for key in sorted(event) if key not in _ENVELOPE)
    return f"{event.get('hostname', '-')} [{shown}] {event['type']}{': ' if more else ''}{more}"
