"""The group ``caraway``: finds commands by name, imports the one that is called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from caraway.cli.program import Program, global_options

if TYPE_CHECKING:
    from caraway.plugins.entries import CommandEntry

COMMANDS: dict[str, tuple[str, str]] = {
    "worker": ("caraway.cli.worker", "Run tasks."),
    "call": ("caraway.cli.call", "Send a task by name."),
    "result": ("caraway.cli.result", "Show the result of a task."),
    "explain": ("caraway.cli.explain", "Say why a task isn't running, or what became of it."),
    "revoke": ("caraway.cli.revoke", "Keep tasks from running."),
    "queues": ("caraway.cli.queues", "List and purge queues."),
    "dead": ("caraway.cli.dead", "List, show, replay and drop dead letters."),
    "status": ("caraway.cli.status", "List the workers that are alive."),
    "inspect": ("caraway.cli.inspect", "Ask the workers that are alive."),
    "control": ("caraway.cli.control", "Change the workers that are alive."),
    "events": ("caraway.cli.events", "Print what happens to tasks and workers."),
    "config": ("caraway.cli.config", "Show and check settings."),
    "plugins": ("caraway.cli.plugins", "List, show and check plugins."),
    "doctor": ("caraway.cli.doctor", "Check the whole set-up, and say what to do."),
    "shell": ("caraway.cli.shell", "A Python prompt with your app and its tasks."),
    "new-plugin": ("caraway.cli.new_plugin", "Make a plugin from the template."),
}
"""Built-in commands: module (with an attribute ``command``) and one line of help."""

_HELP = """Caraway, a distributed task queue.

\b
Start with:
  caraway -A shop worker               run the tasks of shop.py
  caraway -A shop call shop.add -a '[2, 3]'
  caraway explain TASK_ID              why isn't it running?
  caraway doctor                       is all well here?

The options below may stand before or after the command.
"""

_EPILOG = """\b
Exit codes: 0 done; 1 the answer is no; 2 wrong command line; 3 wrong settings or
app; 4 broker or backend not reachable; 5 time ran out; 130 interrupted.
"""


class CommandGroup(click.Group):
    """Commands from `COMMANDS`, and those of plugins, which never hide a built-in one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *sorted(self._of_plugins(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            return self._load(cmd_name, f"{COMMANDS[cmd_name][0]}:command")
        entry = self._of_plugins(ctx).get(cmd_name)
        return None if entry is None else self._load(cmd_name, entry.target)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as exc:
            import difflib

            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if not near or "Did you mean" in exc.message:
                raise
            raise click.UsageError(f"{exc.message} Did you mean {near[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """As click does, from the table: nothing is imported for a line of help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in COMMANDS])
        more = self._of_plugins(ctx)
        if more:
            with formatter.section("Commands of plugins"):
                formatter.write_dl([(name, entry.help) for name, entry in sorted(more.items())])

    def _of_plugins(self, ctx: click.Context) -> dict[str, CommandEntry]:
        """Commands of plugins; none if the plugins can't even be looked at."""
        program = ctx.ensure_object(Program)
        try:
            program.prepare()
            from caraway.plugins.registry import Registry

            return {
                name: entry
                for name, entry in Registry.discover(lenient=True).commands().items()
                if name not in COMMANDS
            }
        except Exception as exc:  # noqa: BLE001 - help and built-in commands must go on
            click.echo(f"plugins can't be listed: {exc}", err=True)
            return {}

    def _load(self, name: str, target: str) -> click.Command:
        import importlib

        module, _, attribute = target.partition(":")
        try:
            found: Any = getattr(importlib.import_module(module), attribute)
        except Exception as exc:
            from caraway.errors import ComponentUnusable

            raise ComponentUnusable(
                f"the command {name!r} can't be loaded from {target}: {type(exc).__name__}: {exc}",
                hint="`caraway plugins list` shows where it comes from; "
                "-p no:NAME leaves that plugin out",
            ) from exc
        if not isinstance(found, click.Command):
            from caraway.errors import ComponentUnusable

            raise ComponentUnusable(f"{target} is not a command but a {type(found).__name__}")
        add_global_options(found)
        return found


def add_global_options(command: click.Command) -> None:
    """Let a command, and the commands in it, take the global options it doesn't define."""
    taken = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    for option in global_options(hidden=True):
        option.opts = [flag for flag in option.opts if flag not in taken]
        if option.opts:
            command.params.append(option)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_global_options(inner)


def _version(context: click.Context, _param: click.Parameter, value: Any) -> None:
    if value and not context.resilient_parsing:
        from caraway import __version__

        click.echo(__version__)
        context.exit()


group = CommandGroup(
    "caraway",
    help=_HELP,
    epilog=_EPILOG,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    params=[
        *global_options(hidden=False),
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_version,
            help="Print the version.",
        ),
    ],
)


def run(args: list[str] | None = None, *, program: Program | None = None) -> int:
    """Run the command line; return its exit code, with errors told on stderr.

    Args:
        args: without the program's name; default ``sys.argv[1:]``.
        program: state to start from, for tests.
    """
    import os
    import sys

    from caraway.cli import exits
    from caraway.errors import CarawayError

    program = program or Program()
    _tell_warnings_plainly()
    try:
        result = group.main(args, prog_name="caraway", standalone_mode=False, obj=program)
        sys.stdout.flush()
        return result if isinstance(result, int) else exits.OK
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return exits.INTERRUPTED
    except CarawayError as exc:
        if exc.__cause__ is not None and isinstance(exc.__cause__, Exception):
            _show_cause(exc.__cause__)
        click.echo(f"Error: {exits.told(exc)}", err=True)
        return exits.code_of(exc)
    except BrokenPipeError:
        # Python flushes stdout at exit and would complain about the same pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.BROKEN_PIPE
    finally:
        program.close()


def _tell_warnings_plainly() -> None:
    """Print what settings warn of as a note, once, without the line that read them."""
    import warnings

    usual, told = warnings.formatwarning, set[str]()

    def plain(message: Any, category: type[Warning], *place: Any, **more: Any) -> str:
        if category.__name__ == "SettingsWarning":
            text = f"note: {message}\n"
            fresh = text not in told
            told.add(text)
            return text if fresh else ""
        return usual(message, category, *place, **more)

    if usual.__name__ != plain.__name__:
        warnings.formatwarning = plain


def _show_cause(cause: BaseException) -> None:
    """The traceback of an error in the user's code, without the frames that led there."""
    import os
    import traceback

    own = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    frames = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if not frame.filename.startswith((own, "<frozen")) and "/importlib/" not in frame.filename
    ]
    if frames:
        click.echo("Traceback (most recent call last):", err=True)
        click.echo("".join(traceback.format_list(frames)).rstrip(), err=True)
        click.echo("".join(traceback.format_exception_only(cause)).rstrip() + "\n", err=True)
