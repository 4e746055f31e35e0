"""What the global options say, and what follows: working directory, settings, app.

Options may stand before and after the command.  Nothing happens when they are parsed;
it happens when a command first asks for settings or the app.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.interfaces import Backend, Context, Transport
    from caraway.plugins.registry import Registry
    from caraway.settings import Settings


class Program:
    """The state of one call of ``caraway``.

    Attributes:
        app_name: what ``-A`` says; empty if nothing does.
        broker: URL from ``-b``, or empty.
        result_backend: URL from ``--result-backend``, or empty.
        config: file or module from ``--config``, or empty.
        workdir: from ``--workdir``, or empty.
        color: False if output is to be plain.
        quiet: True if only what was asked for is to be printed.

    Args:
        app: in place of the one that ``-A`` names.
    """

    def __init__(self, app: Caraway | None = None) -> None:
        self.app_name = ""
        self.broker = ""
        self.result_backend = ""
        self.config = ""
        self.workdir = ""
        self.color = "NO_COLOR" not in os.environ
        self.quiet = False
        self.plugins: tuple[str, ...] = ()
        self._prepared = False
        self._app = app
        self._bare: Caraway | None = None
        self._settings: Settings | None = None

    def prepare(self) -> None:
        """Carry out the global options; safe to call again.

        They are exported as environment variables as well, so that processes started
        from here, and an app whose module reads them, see the same.
        """
        if self._prepared:
            return
        self._prepared = True
        if self.workdir:
            try:
                os.chdir(self.workdir)
            except OSError as exc:
                raise click.BadParameter(
                    f"{self.workdir}: {exc.strerror}", param_hint="--workdir"
                ) from None
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.insert(0, here)
        from caraway.settings import command_line

        if self.config:
            os.environ["CARAWAY_CONFIG"] = self.config
        for name, value in (("broker_url", self.broker), ("result_backend", self.result_backend)):
            if value:
                command_line[name] = value
                os.environ[f"CARAWAY_{name.upper()}"] = value
        if self._app is not None and command_line:
            from caraway.settings import Layer

            self._app.conf.apply(command_line, Layer.COMMAND_LINE, "command line", text=True)
        if self.plugins:
            from caraway.plugins.selection import apply_option

            for word in self.plugins:
                apply_option(word)

    def settings(self) -> Settings:
        """Settings without importing the app: what config file and environment say."""
        self.prepare()
        if self._settings is None:
            from caraway.settings import load

            self._settings = load()
        return self._settings

    def named_app(self) -> str:
        """The app's name from ``-A``, ``CARAWAY_APP`` or the settings; empty if none."""
        self.prepare()
        if self._app is not None:
            return self.app_name or self._app.main or "app"
        return self.app_name or os.environ.get("CARAWAY_APP", "") or self.settings().app or ""

    def app(self) -> Caraway:
        """The app that ``-A`` names.

        Raises:
            ImproperlyConfigured: none is named, or it can't be loaded.
        """
        self.prepare()
        if self._app is None:
            name = self.named_app()
            if not name:
                raise ImproperlyConfigured(
                    "this command needs to know your app",
                    hint="name its module: caraway -A shop ...; or once and for all: "
                    "app = 'shop' in caraway.toml, or CARAWAY_APP in the environment",
                )
            from caraway.cli.loading import find_app

            # From a folder inside the project, its modules are found, too.
            directory = self.settings().project.directory
            if directory not in sys.path:
                sys.path.append(directory)
            self._app = find_app(name)
        return self._app

    def client(self) -> Caraway:
        """The named app, or one made of the settings alone if none is named."""
        if self._app is not None or self.named_app():
            return self.app()
        if self._bare is None:
            from caraway.app import Caraway

            self._bare = Caraway("caraway")
        return self._bare

    def close(self) -> None:
        """Give back connections.  Errors here have nobody left to tell."""
        import contextlib

        for app in (self._app, self._bare):
            if app is not None:
                with contextlib.suppress(Exception):
                    app.close()


class Parts:
    """Registry, context and components built from settings alone, for `doctor`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def registry(self) -> Registry:
        from caraway.plugins.registry import Registry

        return Registry.discover(
            block=self.settings.plugins_block, prefer=self.settings.plugins_prefer
        )

    def context(self) -> Context:
        import socket

        from caraway.interfaces import Context

        return Context(
            settings=self.settings,
            node=f"caraway@{socket.gethostname()}",
            directory=self.settings.project.directory,
        )

    def transport(self) -> Transport:
        return self.registry().transport(self.settings.broker_url, self.context())

    def backend(self) -> Backend:
        url = self.settings.result_backend
        if not url or url.startswith("disabled"):
            raise ImproperlyConfigured("no result backend is set")
        return self.registry().backend(url, self.context())


def _set(name: str) -> Any:
    def callback(context: click.Context, _param: click.Parameter, value: Any) -> None:
        program = context.ensure_object(Program)
        if value not in (None, False, "", ()):
            setattr(program, name, value)

    return callback


def _no_color(context: click.Context, _param: click.Parameter, value: Any) -> None:
    if value:
        context.ensure_object(Program).color = False
        context.color = False


def _plugins(context: click.Context, _param: click.Parameter, value: tuple[str, ...]) -> None:
    context.ensure_object(Program).plugins += value


def global_options(*, hidden: bool) -> list[click.Option]:
    """The options every command takes; hidden in the help of single commands."""

    def option(*flags: str, **more: Any) -> click.Option:
        return click.Option(flags, expose_value=False, hidden=hidden, **more)

    return [
        option(
            "-A", "--app", metavar="MODULE[:ATTR]", callback=_set("app_name"),
            help="Your app, e.g. shop or shop.main:app.  [env: CARAWAY_APP]",
        ),
        option(
            "-b", "--broker", metavar="URL", callback=_set("broker"),
            help="Broker, in place of the setting broker_url.  [env: CARAWAY_BROKER_URL]",
        ),
        option(
            "--result-backend", metavar="URL", callback=_set("result_backend"),
            help="Where results are kept.  [env: CARAWAY_RESULT_BACKEND]",
        ),
        option(
            "--config", metavar="FILE|MODULE", callback=_set("config"),
            help="Settings, in place of the caraway.toml found.  [env: CARAWAY_CONFIG]",
        ),
        option(
            "--workdir", metavar="DIRECTORY", callback=_set("workdir"),
            envvar="CARAWAY_WORKDIR",
            help="Go there first.  [env: CARAWAY_WORKDIR]",
        ),
        option(
            "-C", "--no-color", is_flag=True, callback=_no_color, envvar="CARAWAY_NO_COLOR",
            help="No colours.  [env: NO_COLOR, CARAWAY_NO_COLOR]",
        ),
        option(
            "-q", "--quiet", is_flag=True, callback=_set("quiet"), envvar="CARAWAY_QUIET",
            help="Print only what was asked for.",
        ),
        option(
            "-p", "--plugin", "plugins", metavar="[no:]NAME", multiple=True, callback=_plugins,
            help="Leave a plugin out (no:NAME), or load it though "
            "CARAWAY_PLUGIN_AUTOLOAD=0.  [env: CARAWAY_DISABLE_PLUGINS, CARAWAY_PLUGINS]",
        ),
    ]  # fmt: skip


pass_program = click.make_pass_decorator(Program, ensure=True)
"""Hands a command the `Program` as its first argument."""
