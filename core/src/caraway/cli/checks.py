"""What ``caraway doctor`` and ``caraway config check`` look at.

Each check returns findings and raises nothing: what goes wrong in it is a finding, too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct

from caraway.cli.output import span

if TYPE_CHECKING:
    from caraway.cli.program import Parts
    from caraway.settings import Settings

PINGS = 5
SLOW = 0.25
"""Seconds above which a round trip is worth a word."""


class Finding(Struct, frozen=True):
    """One thing looked at.

    Attributes:
        check: what was looked at.
        level: ``ok``, ``warn`` or ``fail``.
        text: what was found.
        repair: what to do about it; empty if nothing is to be done.
    """

    check: str
    level: Literal["ok", "warn", "fail"]
    text: str
    repair: str = ""


def failed(check: str, exc: BaseException, repair: str = "") -> Finding:
    """The finding that an exception makes, its hint the repair."""
    hint = getattr(exc, "hint", "") or repair
    text = str(exc).partition("\n  hint: ")[0] or type(exc).__name__
    if not hasattr(exc, "hint"):
        text = f"{type(exc).__name__}: {text}"
    return Finding(check, "fail", text, hint)


def guarded(check: str, run: Callable[[], Iterable[Finding]]) -> list[Finding]:
    """The findings of a check; an exception is one, too."""
    try:
        return list(run())
    except Exception as exc:  # noqa: BLE001 - a broken part is what is looked for
        return [failed(check, exc)]


def check_python() -> list[Finding]:
    """Versions of what everything stands on."""
    import platform
    import sqlite3

    from caraway import __version__

    text = (
        f"Caraway {__version__}, {platform.python_implementation()} "
        f"{platform.python_version()} on {platform.system()} {platform.machine()}, "
        f"SQLite {sqlite3.sqlite_version}"
    )
    found = [Finding("python", "ok", text)]
    if sqlite3.sqlite_version_info < (3, 35, 0):
        found.append(
            Finding(
                "python",
                "warn",
                f"SQLite {sqlite3.sqlite_version} lacks UPDATE ... RETURNING (3.35)",
                "use a newer Python build, or another broker",
            )
        )
    return found


def check_directory(directory: str, clock: Callable[[], float] = time.time) -> list[Finding]:
    """The project's directory: there, writable, room on the disk, its clock ours."""
    import shutil
    import tempfile

    try:
        descriptor, path = tempfile.mkstemp(prefix=".caraway-doctor-", dir=directory)
    except OSError as exc:
        return [
            Finding(
                "directory",
                "warn",
                f"{directory} can't be written: {exc.strerror}",
                "the default broker keeps its file there: give this user the right to write, "
                "or set broker_url",
            )
        ]
    try:
        os.write(descriptor, b"x")
        written = os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)
        os.unlink(path)
    found = [Finding("directory", "ok", f"{directory}, writable")]
    free = shutil.disk_usage(directory).free
    if free < 100 * 1024 * 1024:
        found.append(
            Finding(
                "directory",
                "warn",
                f"only {free // 1024 // 1024} MiB are free there",
                "make room: a broker whose disk is full takes no more tasks",
            )
        )
    skew = written - clock()
    if abs(skew) > 2:
        found.append(
            Finding(
                "clock",
                "warn",
                f"the file system's clock is {span(abs(skew))} {'ahead' if skew > 0 else 'behind'}",
                "run NTP on both; an SQLite broker must not lie on a network file system",
            )
        )
    return found


def check_clock(clock: Callable[[], float] = time.time) -> list[Finding]:
    """This host's clock and time zone."""
    now = clock()
    if now < 1_700_000_000:
        return [
            Finding(
                "clock",
                "fail",
                f"the clock says {time.strftime('%Y-%m-%d', time.gmtime(now))}",
                "set it, and run NTP: due times and leases are compared between hosts",
            )
        ]
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    return [Finding("clock", "ok", f"{shown}, time zone {time.strftime('%Z')}")]


def check_user(settings: Settings) -> list[Finding]:
    """Who runs this, and what that means."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return []
    unsafe = {"pickle", "yaml", "application/x-python-serialize"} & set(settings.accept_content)
    if unsafe:
        return [
            Finding(
                "user",
                "fail",
                f"root, and accept_content has {', '.join(sorted(unsafe))}: "
                "who can write to the broker can run code as root",
                "run workers as a user of their own, and keep accept_content to json",
            )
        ]
    return [Finding("user", "warn", "running as root", "run workers as a user of their own")]


def check_limits() -> list[Finding]:
    """Open files."""
    if sys.platform == "win32":
        return []
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= soft < 256:
        return [Finding("limits", "warn", f"only {soft} open files", "raise it: ulimit -n 1024")]
    return []


def check_settings(settings: Settings) -> list[Finding]:
    """Contradictions between settings, and what has no effect."""
    found = [Finding("settings", "warn", note, "remove it") for note in settings.notes]
    accepted = settings.accept_content
    for name in ("task_serializer", "result_serializer"):
        allowed = accepted
        if name == "result_serializer" and settings.result_accept_content is not None:
            allowed = settings.result_accept_content
        value = settings[name]
        if value not in allowed and not any(value in item for item in allowed):
            found.append(
                Finding(
                    "settings",
                    "fail",
                    f"{name} is {value!r}, which accept_content ({', '.join(allowed)}) refuses",
                    f"add {value!r} to accept_content",
                )
            )
    soft, hard = settings.task_soft_time_limit, settings.task_time_limit
    if soft and hard and soft >= hard:
        found.append(
            Finding(
                "settings",
                "fail",
                f"task_soft_time_limit ({span(soft)}) isn't under task_time_limit ({span(hard)})",
                "lower the soft limit: the hard one leaves it no chance",
            )
        )
    if settings.broker_lease and settings.broker_lease < 3:
        found.append(
            Finding(
                "settings",
                "warn",
                f"broker_lease is {span(settings.broker_lease)}",
                "3s or more: a host under load may be silent for that long",
            )
        )
    if settings.timezone:
        import zoneinfo

        try:
            zoneinfo.ZoneInfo(settings.timezone)
        except Exception:  # noqa: BLE001 - it raises half a dozen kinds
            found.append(
                Finding(
                    "settings",
                    "fail",
                    f"timezone {settings.timezone!r} is unknown here",
                    "use an IANA name such as Europe/Berlin; install tzdata if the system has none",
                )
            )
    return found


def check_plugins(parts: Parts) -> list[Finding]:
    """Every plugin that was found, and the components that settings name."""
    registry = parts.registry()
    plugins = list(registry.plugins())
    found = []
    for plugin in plugins:
        state = str(plugin.state)
        if state in ("active", "blocked"):
            continue
        detail = plugin.reason or str(plugin.error or "") or "no reason given"
        found.append(
            Finding(
                "plugins",
                "warn",
                f"{plugin.name}: {state}: {detail}",
                f"update or remove its distribution, or leave it out: -p no:{plugin.name}",
            )
        )
    found += [
        Finding(
            "plugins",
            "warn",
            f"{plugin.name}: {hook}: {problem}",
            "update its distribution; its other components work",
        )
        for plugin in plugins
        for hook, problem in plugin.problems.items()
        if plugin.state == "active"
    ]
    active = sum(str(plugin.state) == "active" for plugin in plugins)
    found.insert(0, Finding("plugins", "ok", f"{active} of {len(plugins)} active"))
    settings = parts.settings
    wanted = [
        ("pool", settings.worker_pool, "worker_pool"),
        ("serializer", settings.task_serializer, "task_serializer"),
        ("serializer", settings.result_serializer, "result_serializer"),
        *(("serializer", name, "accept_content") for name in settings.accept_content),
    ]
    if settings.task_compression:
        wanted.append(("compressor", settings.task_compression, "task_compression"))
    for role, name, setting in wanted:
        if ":" in name:
            continue
        try:
            registry.entry(role, name)
        except Exception as exc:  # noqa: BLE001 - whatever it is, it is the finding
            found.append(failed(f"setting {setting}", exc))
    return found


def check_component(
    check: str,
    shown: str,
    build: Callable[[], Any],
    monotonic: Callable[[], float] = time.perf_counter,
) -> tuple[list[Finding], Any]:
    """Build a transport or backend, and time some round trips; also return it."""
    try:
        component = build()
        times = []
        for _ in range(PINGS):
            begin = monotonic()
            component.ping()
            times.append(monotonic() - begin)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the finding
        hint = "is the server up, the address right, the network open?"
        return [failed(check, exc, hint)], None
    middle = sorted(times)[len(times) // 2]
    finding = Finding(check, "ok", f"{shown} answers in {middle * 1000:.2g} ms")
    if middle > SLOW:
        finding = Finding(
            check, "warn", f"{shown} answers, but takes {span(middle)}", "is it far away, or busy?"
        )
    return [finding], component


def check_work(transport: Any, declared: Iterable[str]) -> list[Finding]:
    """Live workers, and queues in which messages wait for nobody."""
    from caraway.interfaces import Capability

    if Capability.INSPECT not in transport.capabilities:
        return [Finding("workers", "ok", "this broker can't list its workers")]
    owners = transport.owners()
    consumed = {queue for owner in owners for queue in owner.queues}
    workers = {owner.owner.worker or owner.owner.id for owner in owners}
    found = [Finding("workers", "ok", f"{len(workers)} alive: {', '.join(sorted(workers))}")]
    if not workers:
        found = [Finding("workers", "warn", "none is alive", "start one: caraway -A shop worker")]
    for stats in transport.stats():
        if stats.ready and stats.name not in consumed:
            age = f", the oldest for {span(stats.oldest)}" if stats.oldest is not None else ""
            found.append(
                Finding(
                    "queues",
                    "warn",
                    f"{stats.ready} messages wait in {stats.name!r}{age}, "
                    "and no worker consumes it",
                    f"start one: caraway -A shop worker -Q {stats.name}",
                )
            )
    missing = sorted(set(declared) - consumed) if workers else []
    if missing:
        found.append(
            Finding(
                "queues", "warn", f"no worker consumes {', '.join(missing)}", "see -Q of worker"
            )
        )
    if Capability.DEAD_LETTERS in transport.capabilities:
        dead = transport.dead(limit=1000)
        if dead:
            many = f"{len(dead)}{' or more' if len(dead) == 1000 else ''}"
            found.append(Finding("dead letters", "warn", many, "look at them: caraway dead list"))
    return found
