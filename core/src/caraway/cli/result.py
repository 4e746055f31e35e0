"""``caraway result``: what became of a task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from caraway.cli.call import _duration
from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from caraway.app import Caraway


@click.command("result")
@click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
@click.option(
    "-w", "--wait", metavar="DURATION", callback=_duration, help="Wait so long for it to end."
)
@click.option("--traceback", is_flag=True, help="Print the traceback of a failed task.")
@click.option("-t", "--task", hidden=True, expose_value=False, help="Accepted, as in Celery.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(
    program: Program,
    task_ids: tuple[str, ...],
    *,
    wait: float | None,
    traceback: bool,
    as_json: bool,
) -> int:
    """Show the result of a task.

    Exit code 0 if all ended well, 1 if one failed or was revoked, 5 if one hasn't ended.

    \b
    Examples:
      caraway -A shop result 5a0c3f0e-...
      caraway result 5a0c3f0e-... --wait 1m --json
      caraway result 5a0c3f0e-... --traceback
    """
    app = program.client()
    return show_results(app, list(task_ids), wait=wait, traceback=traceback, as_json=as_json)


def show_results(
    app: Caraway, task_ids: list[str], *, wait: float | None, traceback: bool, as_json: bool
) -> int:
    """Print results; return the exit code."""
    from caraway import states
    from caraway.cli import exits, output

    if wait:
        _await(app, task_ids, wait)
    records = [_record(app, task_id) for task_id in task_ids]
    if as_json:
        output.emit_json(records if len(records) > 1 else records[0])
    else:
        for record in records:
            click.echo(_line(record, alone=len(records) == 1))
            if traceback and record["traceback"]:
                click.echo(record["traceback"])
    reached = {record["state"] for record in records}
    if reached & states.PROPAGATE_STATES:
        return exits.NEGATIVE
    return exits.OK if reached <= states.READY_STATES else exits.TIMEOUT


def _await(app: Caraway, task_ids: list[str], wait: float) -> None:
    """Wait until all are final or the time is over."""
    missing = set(task_ids)
    end = time.monotonic() + wait
    while missing and (left := end - time.monotonic()) > 0:
        missing -= set(app.backend.wait(sorted(missing), left))


def _record(app: Caraway, task_id: str) -> dict[str, Any]:
    result: Any = app.AsyncResult(task_id)
    value = result.result
    error = isinstance(value, BaseException)
    done = result.date_done
    return {
        "id": task_id,
        "state": result.state,
        "result": None if error else value,
        "error": f"{type(value).__name__}: {value}" if error else None,
        "traceback": result.traceback,
        "date_done": str(done) if done is not None else None,
    }


def _line(record: dict[str, Any], *, alone: bool) -> str:
    from caraway import states

    state = record["state"]
    if state == states.SUCCESS:
        value = repr(record["result"])
        return value if alone else f"{record['id']}  {state}  {value}"
    text = f"{record['id']}  {state}"
    if state == states.PENDING:
        return f"{text}  (nothing is known yet; `caraway explain {record['id']}` says more)"
    if record["error"]:
        return f"{text}  {record['error']}"
    return text if record["result"] is None else f"{text}  {record['result']!r}"
