"""``caraway shell``: a Python prompt with the app."""

from __future__ import annotations

from typing import Any

import click

from caraway.cli.program import Program, pass_program


@click.command("shell")
@click.option("-c", "--command", "code", metavar="CODE", help="Run this and exit.")
@click.option("--plain", is_flag=True, help="The plain prompt, even if IPython is installed.")
@click.option("-T", "--without-tasks", is_flag=True, help="Don't define the tasks by name.")
@pass_program
def command(program: Program, *, code: str | None, plain: bool, without_tasks: bool) -> None:
    """A Python prompt with your app and its tasks.

    Defined are `app`, `AsyncResult`, and each task under the last part of its name.

    \b
    Examples:
      caraway -A shop shell
      caraway -A shop shell -c 'print(add.delay(2, 3).get(timeout=5))'
    """
    app = program.client()
    names: dict[str, Any] = {"app": app, "AsyncResult": app.AsyncResult}
    if not without_tasks:
        for name, task in app.tasks.items():
            if not name.startswith("celery."):
                names.setdefault(name.rpartition(".")[2], task)
    if code is not None:
        exec(compile(code, "<caraway shell>", "exec"), names)  # noqa: S102 - what was asked for
        return
    banner = f"app {app.main or 'without a name'}, broker {_broker(app)}; defined: " + ", ".join(
        sorted(names)
    )
    if not plain and _ipython(banner, names):
        return
    import code as prompt
    import contextlib

    with contextlib.suppress(ImportError):
        import readline
        import rlcompleter

        readline.set_completer(rlcompleter.Completer(names).complete)
        readline.parse_and_bind("tab: complete")
    prompt.interact(banner=banner, local=names, exitmsg="")


def _broker(app: Any) -> str:
    from caraway.settings import redact

    return str(redact(app.conf.broker_url))


def _ipython(banner: str, names: dict[str, Any]) -> bool:
    """Use IPython if it is there."""
    import importlib

    try:
        module = importlib.import_module("IPython")
    except ImportError:
        return False
    module.embed(banner1=banner, user_ns=names, colors="neutral")
    return True
