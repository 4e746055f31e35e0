"""``caraway worker``: runs tasks until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from caraway.cli.program import Program, pass_program
from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from caraway.app import Caraway
    from caraway.worker import Worker

_SETTINGS = {
    "loglevel": "worker_log_level",
    "concurrency": "worker_concurrency",
    "pool": "worker_pool",
    "hostname": "worker_hostname",
    "time_limit": "task_time_limit",
    "soft_time_limit": "task_soft_time_limit",
    "max_tasks_per_child": "worker_max_tasks_per_child",
    "max_memory_per_child": "worker_max_memory_per_child",
    "autoscale": "worker_autoscale",
    "prefetch_multiplier": "worker_prefetch_multiplier",
    "disable_prefetch": "worker_disable_prefetch",
    "pool_start_method": "worker_pool_start_method",
    "task_events": "worker_send_task_events",
    "heartbeat_interval": "worker_heartbeat_interval",
    "health": "worker_health_address",
    "health_file": "worker_health_file",
    "log_json": "worker_log_json",
}
"""Options that are settings: what is given here overrules all other sources."""

_ELSEWHERE = {
    "detach": "run the worker under a supervisor of services (systemd, a container), which "
    "restarts it and keeps its log",
    "beat": "run `caraway beat` as a process of its own",
    "uid": "let the supervisor of services choose the user",
    "gid": "let the supervisor of services choose the group",
    "umask": "let the supervisor of services set it",
}
"""Celery's options that a worker here doesn't have, and what to do instead."""


def _names(_context: click.Context, _param: click.Parameter, value: str | None) -> list[str]:
    return [name.strip() for name in (value or "").split(",") if name.strip()]


def _concurrency(_context: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    if value is None or value == "auto":
        return None
    if not value.isdecimal() or int(value) < 1:
        raise click.BadParameter("write a number from 1 on, or auto")
    return value


def _elsewhere(_context: click.Context, param: click.Parameter, value: Any) -> None:
    if value:
        raise click.UsageError(f"--{param.name} doesn't exist here: {_ELSEWHERE[str(param.name)]}")


@click.command(
    "worker",
    help="""Run the tasks of an app until told to stop.

    \b
    Examples:
      caraway -A shop worker                         all CPUs, queue "celery"
      caraway -A shop worker -c 4 -Q mail,reports -l info
      caraway -A shop worker -P threads -c 50        tasks that wait for others
      caraway -A shop worker --reload                while developing
      caraway -A shop worker --health :9808 --log-json

    \b
    Stopping:
      TERM or Ctrl-C     what runs may end, within worker_shutdown_timeout
      a second one, QUIT what runs is given back, and runs elsewhere
      HUP                each process is replaced after what it runs

    Every option is also a setting (caraway config show --all), and CARAWAY_<SETTING> in
    the environment; what is given here has the last word.
    """,
)
@click.option(
    "-Q",
    "--queues",
    callback=_names,
    metavar="NAMES",
    help="Queues to consume, with commas between.",
)
@click.option(
    "-X", "--exclude-queues", callback=_names, metavar="NAMES", help="Queues to leave out."
)
@click.option(
    "-P",
    "--pool",
    metavar="NAME",
    help="prefork (processes), threads, asyncio, solo, or a bundle's.  [default: prefork]",
)
@click.option(
    "-c",
    "--concurrency",
    callback=_concurrency,
    metavar="N|auto",
    help="How many tasks run at a time.  [default: the number of CPUs]",
)
@click.option("--autoscale", metavar="MAX,MIN", help="Most and least processes.")
@click.option(
    "-n",
    "--hostname",
    metavar="NAME",
    help="Node name; %h is the host, %n its first part, %d the rest.  [default: caraway@%h]",
)
@click.option(
    "-I", "--include", callback=_names, metavar="MODULES", help="More modules with tasks to import."
)
@click.option("--time-limit", metavar="SECONDS", help="A task is ended from outside after this.")
@click.option(
    "--soft-time-limit",
    metavar="SECONDS",
    help="SoftTimeLimitExceeded is raised inside a task after this.",
)
@click.option("--max-tasks-per-child", metavar="N", help="Replace a process after N tasks.")
@click.option("--max-memory-per-child", metavar="KIB", help="Replace a process of this size.")
@click.option("--disable-prefetch", is_flag=True, help="Take only what can start now.")
@click.option("--purge", is_flag=True, help="Empty the queues first.  Their tasks are lost.")
@click.option("-E", "--task-events", is_flag=True, help="Publish events of tasks, for monitors.")
@click.option(
    "--heartbeat-interval",
    metavar="SECONDS",
    help="Publish the event worker-heartbeat so often.  [default: 2]",
)
@click.option("--without-heartbeat", is_flag=True, help="Publish no heartbeats.")
@click.option(
    "--health",
    metavar="HOST:PORT",
    help="Serve /health, /live and /metrics there; without a host, on this machine only.",
)
@click.option("--health-file", metavar="PATH", help="Keep this file fresh while all is well.")
@click.option(
    "-l", "--loglevel", metavar="LEVEL", help="debug, info, warning, error.  [default: warning]"
)
@click.option("-f", "--logfile", metavar="PATH", help="Log there, not to standard error.")
@click.option("--log-json", is_flag=True, help="Log one JSON object a line.")
@click.option("--pidfile", metavar="PATH", help="Write the process id there; refuse if it runs.")
@click.option("--reload", is_flag=True, help="Start anew when source files change.")
@click.option("--prefetch-multiplier", metavar="N", hidden=True)
@click.option("--pool-start-method", metavar="METHOD", hidden=True)
@click.option("-O", "optimization", hidden=True, expose_value=False)
@click.option("--without-gossip", is_flag=True, hidden=True, expose_value=False)
@click.option("--without-mingle", is_flag=True, hidden=True, expose_value=False)
@click.option("-D", "--detach", is_flag=True, hidden=True, expose_value=False, callback=_elsewhere)
@click.option("-B", "--beat", is_flag=True, hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--uid", hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--gid", hidden=True, expose_value=False, callback=_elsewhere)
@click.option("--umask", hidden=True, expose_value=False, callback=_elsewhere)
@pass_program
def command(
    program: Program,
    /,
    *,
    queues: list[str],
    exclude_queues: list[str],
    include: list[str],
    purge: bool,
    logfile: str | None,
    pidfile: str | None,
    reload: bool,
    without_heartbeat: bool,
    **options: Any,
) -> int:
    """Steps: settings from the options, app, logging, the worker, its banner, run."""
    program.prepare()
    if reload:
        from caraway.worker import reload as reloading

        if not reloading.is_child():
            return reloading.run([os.getcwd()], say=lambda text: click.echo(text, err=True))
    if without_heartbeat:
        options["heartbeat_interval"] = "0"
    _to_settings(options)
    app = program.app()
    _import_more(include)
    conf = app.conf

    from caraway.worker import Worker, logs

    said = sys.stdout
    worker = Worker(app, queues=queues or None, exclude_queues=exclude_queues)
    node = str(worker.hostname)
    logs.setup(
        conf,
        logfile=expand(logfile if logfile is not None else conf.worker_logfile, node),
        color=None if program.color else False,
    )
    silent = program.quiet or bool(conf.worker_log_json)

    def ready() -> None:
        if not silent:
            click.echo(f"{node} is ready.", file=said)
            said.flush()

    worker.on_ready = ready
    if purge:
        dropped = sum(app.transport.purge(queue.name) for queue in worker.queues)
        if not silent:
            click.echo(f"purged {dropped} message(s)", file=said)
    if not silent:
        click.echo(banner(app, worker, program.app_name or program.named_app()), file=said)
        said.flush()
    with held_pidfile(expand(pidfile if pidfile is not None else conf.worker_pidfile, node)):
        return worker.run()


def _to_settings(options: dict[str, Any]) -> None:
    from caraway.settings import command_line

    for option, value in options.items():
        if value not in (None, False, ""):
            command_line[_SETTINGS[option]] = "true" if value is True else str(value)


def _import_more(modules: list[str]) -> None:
    import importlib

    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as exc:
            raise ImproperlyConfigured(
                f"--include {name}: {type(exc).__name__}: {exc}",
                hint="give names of modules that can be imported here, with commas between",
            ) from exc


def banner(app: Caraway, worker: Worker, app_name: str) -> str:
    """What the worker is about to do, for the person who started it."""
    from caraway import __version__

    conf = app.conf
    lanes = worker.pool.lanes
    size = f"{worker.concurrency} at a time"
    if worker.pool.in_process:
        size = "one at a time, in this process"
    elif lanes > 1 or worker.pool_name == "prefork":
        size = f"{lanes} process{'' if lanes == 1 else 'es'}"
    names = sorted(name for name in app.tasks if not name.startswith(("caraway.", "celery.")))
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    rows = [
        ("app", app_name or str(app.main)),
        ("broker", _place(conf, "broker_url")),
        ("results", _place(conf, "result_backend")),
        ("queues", ", ".join(queue.name for queue in worker.queues)),
        ("pool", f"{worker.pool_name}, {size}"),
        ("tasks", f"{len(names)}: {shown}" if names else "none: nothing is registered"),
    ]
    if conf.worker_health_address:
        rows.append(("health", f"http://{conf.worker_health_address.removeprefix('http://')}"))
    if conf.project.file:
        rows.append(("settings", str(conf.project.file)))
    lines = [f"caraway {__version__}  {worker.hostname}  pid {os.getpid()}"]
    lines += [f"  {label:<9} {value}" for label, value in rows]
    cautions = [app.transport.caution] if app.transport.caution else []
    lines += [f"  note      {note}" for note in (*cautions, *conf.notes)]
    return "\n".join(lines)


def _place(conf: Any, name: str) -> str:
    """A URL without its password, the file that it means, and who said so."""
    value = conf.shown(name)
    if not value:
        return "none: results are not kept"
    text = str(value)
    if text in ("sqlite://", "sqlite:///"):
        text = os.path.join(conf.project.directory, ".caraway", "caraway.db")
    return f"{text}  ({conf.source_of(name)})"


def expand(path: str, node: str) -> str:
    """Fill in Celery's signs: %p node, %n its name, %h host, %d domain; %% is a percent
    sign.  %i and %I, the process's number, are those of the one process that logs."""
    if "%" not in path:
        return path
    name, _, host = node.partition("@")
    signs = {
        "p": node, "n": name, "h": host, "d": host.partition(".")[2], "i": "0", "I": "", "%": "%",
    }  # fmt: skip
    out, rest = "", path
    while rest:
        before, percent, rest = rest.partition("%")
        out += before
        if percent:
            sign, rest = rest[:1], rest[1:]
            out += signs.get(sign, f"%{sign}")
    return out


@contextlib.contextmanager
def held_pidfile(path: str) -> Iterator[None]:
    """Write this process's id to a file for as long as the block runs.

    Raises:
        ImproperlyConfigured: a process that lives holds it, or it can't be written.
    """
    if not path:
        yield
        return
    _claim(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            if int(file.read()) == os.getpid():
                os.unlink(path)


def _claim(path: str) -> None:
    for _ in range(2):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            holder = _holder(path)
            # Our own id: this process started itself anew.
            if holder not in (0, os.getpid()):
                raise ImproperlyConfigured(
                    f"{path} says that a worker runs already, as process {holder}",
                    hint="stop that one, or give each worker its own --pidfile",
                ) from None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            continue
        except OSError as exc:
            raise ImproperlyConfigured(
                f"can't write the pidfile {path}: {exc.strerror}",
                hint="choose a place that this user may write to",
            ) from exc
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        return
    raise ImproperlyConfigured(f"the pidfile {path} comes back as soon as it is removed")


def _holder(path: str) -> int:
    """The live process that a pidfile names, 0 if it names none."""
    try:
        with open(path, encoding="ascii") as file:
            pid = int(file.read())
    except (OSError, ValueError):
        return 0
    if os.name != "posix":
        return pid
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return 0
    except PermissionError:
        pass
    return max(0, pid)
