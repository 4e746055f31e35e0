"""Logging of a worker: readable lines or JSON, each line of a task with the task's id.

`setup` is called once in the supervisor and, after a fork, once in each lane (which only
has to say its name).  It stays out of the way if the signal ``setup_logging`` has a
receiver.  A line belongs to a task if it was logged while one ran in that thread or
coroutine (`caraway.request.current_request`), or with ``extra={"task_id": ...}``.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, TextIO

from caraway import signals
from caraway.errors import ImproperlyConfigured
from caraway.request import current_request

if TYPE_CHECKING:
    from collections.abc import Mapping

TASK_LOGGER: Final = "caraway.task"
_COLOURS: Final = {
    logging.DEBUG: "\x1b[34m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_PLAIN_FIELDS: Final = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime", "color_message", "message", "task_id", "task_name", "taskName",
}  # fmt: skip


def get_task_logger(name: str) -> logging.Logger:
    """A logger for a module of tasks: below ``caraway.task``, under its own name.

    Args:
        name: usually ``__name__``.
    """
    if name in ("", TASK_LOGGER):
        return logging.getLogger(TASK_LOGGER)
    logger = logging.getLogger(name)
    if logger.parent is logging.getLogger():
        logger.parent = logging.getLogger(TASK_LOGGER)
    return logger


def setup(
    conf: Mapping[str, Any],
    level: str | int | None = None,
    logfile: str | None = None,
    json: bool | None = None,  # noqa: FBT001 - a setting's value
    color: bool | None = None,  # noqa: FBT001 - a setting's value
    *,
    name: str = "",
) -> bool:
    """Make the process log as the settings say; False if a receiver of the signal
    ``setup_logging`` did it instead.

    Args:
        conf: the settings.
        level: name or number; None is ``worker_log_level``.
        logfile: path; None is ``worker_logfile``; empty is standard error.
        json: one JSON object a line; None is ``worker_log_json``.
        color: colour the lines; None is ``worker_log_color``, and that unset: if standard
            error is a terminal, and ``NO_COLOR`` isn't in the environment.
        name: shown as the process's name; empty keeps what logging finds.

    Raises:
        ImproperlyConfigured: unknown level, or the file can't be written.
    """
    number = parse_level(conf.get("worker_log_level", "WARNING") if level is None else level)
    path = conf.get("worker_logfile", "") if logfile is None else logfile
    as_json = bool(conf.get("worker_log_json", False) if json is None else json)
    set_process_name(name)
    if color is None:
        color = conf.get("worker_log_color")
    if color is None:
        color = not path and "NO_COLOR" not in os.environ and _is_terminal(sys.stderr)
    line = (
        conf.get("worker_log_format") or "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
    )
    about = {"loglevel": number, "logfile": path or None, "format": line, "colorize": color}
    if signals.setup_logging.receivers:
        signals.setup_logging.send(sender=None, **about)
        return False
    handler = _open(path)
    handler.addFilter(TaskContext())
    handler.setFormatter(
        JsonFormatter()
        if as_json
        else LineFormatter(
            line,
            conf.get("worker_task_log_format") or line,
            datefmt=conf.get("worker_log_datefmt"),
            task_datefmt=conf.get("worker_task_log_datefmt"),
            color=bool(color),
        )
    )
    root = logging.getLogger()
    hijack = conf.get("worker_hijack_root_logger", True)
    target = root if hijack else logging.getLogger("caraway")
    for old in [*target.handlers]:
        ours = isinstance(old.formatter, (LineFormatter, JsonFormatter))
        if hijack or ours:
            target.removeHandler(old)
        if ours:
            old.close()
    target.addHandler(handler)
    target.setLevel(number)
    if not hijack:
        target.propagate = False
    signals.after_setup_logger.send(sender=None, logger=target, **about)
    signals.after_setup_task_logger.send(
        sender=None, logger=logging.getLogger(TASK_LOGGER), **about
    )
    if conf.get("worker_redirect_stdouts", True):
        redirect_stdouts(conf.get("worker_redirect_stdouts_level", "WARNING"))
    return True


def parse_level(level: str | int) -> int:
    """A level's number.

    Raises:
        ImproperlyConfigured: logging has no such level.
    """
    if isinstance(level, int):
        return level
    known = logging.getLevelNamesMapping()
    name = {"WARN": "WARNING", "FATAL": "CRITICAL"}.get(level.upper(), level.upper())
    if name.isdecimal():
        return int(name)
    if name not in known:
        raise ImproperlyConfigured(
            f"there is no log level {level!r}",
            hint="use debug, info, warning, error or critical",
        )
    return known[name]


def set_process_name(name: str) -> None:
    """Show this process under ``name`` in its log lines; a forked lane calls it anew."""
    TaskContext.process = name


class TaskContext(logging.Filter):
    """Adds ``task_id`` and ``task_name`` to records, None outside of tasks.

    A filter of the handler rather than a record factory: a factory would forbid
    ``extra={"task_id": ...}``.  Add it to handlers of your own to have the fields there.
    """

    process: str = ""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true."""
        if self.process:
            record.processName = self.process
        if "task_id" not in record.__dict__:
            request = current_request.get()
            record.task_id = None if request is None else request.id
            record.task_name = None if request is None else request.task
        elif "task_name" not in record.__dict__:
            record.task_name = None
        return True


class LineFormatter(logging.Formatter):
    """Text lines: one format outside of tasks, one inside.

    Records of the logger ``caraway.task`` itself name their task in the message, so they
    get the outer format.
    """

    def __init__(
        self,
        line: str,
        task_line: str,
        *,
        datefmt: str | None = None,
        task_datefmt: str | None = None,
        color: bool = False,
    ) -> None:
        super().__init__(line, datefmt)
        self._inside = logging.Formatter(task_line, task_datefmt or datefmt)
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """The line, exceptions below it."""
        inside = getattr(record, "task_id", None) and record.name != TASK_LOGGER
        text = self._inside.format(record) if inside else super().format(record)
        colour = _COLOURS.get(record.levelno) if self._color else None
        return f"{colour}{text}\x1b[0m" if colour else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, process, pid, message;
    task_id and task_name inside of tasks; exception; and whatever ``extra`` brought."""

    def __init__(self) -> None:
        super().__init__()
        import msgspec

        self._encode = msgspec.json.Encoder(enc_hook=_shown).encode

    def format(self, record: logging.LogRecord) -> str:
        """The object, without line breaks."""
        from datetime import datetime

        made = datetime.fromtimestamp(record.created, UTC)
        row: dict[str, Any] = {
            "time": made.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "process": record.processName,
            "pid": record.process,
            "message": _text(record),
        }
        for field in ("task_id", "task_name"):
            value = getattr(record, field, None)
            if value is not None:
                row[field] = value
        if record.exc_info and record.exc_info[0] is not None:
            row["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            row["stack"] = record.stack_info
        for key, value in record.__dict__.items():
            if key not in _PLAIN_FIELDS:
                row.setdefault(key, value)
        try:
            return self._encode(row).decode()
        except Exception:  # noqa: BLE001 - a field that can't be written must not cost the line
            safe = {key: _shown(value) for key, value in row.items()}
            return self._encode(safe).decode("utf-8", "replace")


def redirect_stdouts(level: str | int = "WARNING") -> None:
    """Send what is printed to the log, line by line.  Idempotent."""
    number = parse_level(level)
    logger = logging.getLogger("caraway.redirected")
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if not isinstance(stream, LogStream):
            setattr(sys, name, LogStream(logger, number, stream))


class LogStream:
    """A text stream that logs each line that is written to it.

    Args:
        logger: where to.
        level: of the lines.
        original: the stream it stands for, kept as an attribute: lends its descriptor
            and encoding.
    """

    closed = False

    def __init__(self, logger: logging.Logger, level: int, original: TextIO | None) -> None:
        self._logger = logger
        self._level = level
        self.original = original
        # Per thread: two threads that print don't mix their lines, and a handler that
        # prints while it logs doesn't call itself for ever.
        self._local = threading.local()

    @property
    def encoding(self) -> str:
        """Of the original."""
        return getattr(self.original, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:
        """Of the original."""
        return getattr(self.original, "errors", None)

    def write(self, text: str | bytes) -> int:
        """Log the whole lines; keep the rest until its end comes, or a flush."""
        local = self._local
        if getattr(local, "busy", False):
            return len(text)
        clean = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        *lines, rest = (getattr(local, "rest", "") + clean).split("\n")
        local.rest = rest
        self._log(lines)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Log what has no line end yet."""
        rest, self._local.rest = getattr(self._local, "rest", ""), ""
        self._log([rest])

    def close(self) -> None:
        """Nothing: the process needs its streams to the end."""

    def isatty(self) -> bool:
        """False."""
        return False

    def readable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """False."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """The original's descriptor, for subprocesses and faulthandler."""
        if self.original is None:
            raise OSError("there is no stream to write to")
        return self.original.fileno()

    def _log(self, lines: list[str]) -> None:
        local = self._local
        local.busy = True
        try:
            for line in lines:
                shown = line.rstrip()
                if shown:
                    self._logger.log(self._level, "%s", shown)
        finally:
            local.busy = False


def _open(path: str) -> logging.Handler:
    if not path:
        # The real stream even if stderr was redirected to the log before.
        stream: Any = sys.stderr
        while isinstance(stream, LogStream):
            stream = stream.original
        return logging.StreamHandler(stream or sys.__stderr__)
    try:
        if os.name == "posix":
            # Reopens after a log rotation moved the file away.
            from logging.handlers import WatchedFileHandler

            return WatchedFileHandler(path, encoding="utf-8")
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as exc:
        raise ImproperlyConfigured(
            f"can't write the log file {path}: {exc.strerror or exc}",
            hint="choose another --logfile (setting worker_logfile), or leave it empty",
        ) from exc


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - wrong number of arguments, a failing __str__
        return f"{record.msg!r} % {record.args!r}"


def _shown(value: Any) -> str:
    try:
        return str(value).encode("utf-8", "replace").decode()
    except Exception:  # noqa: BLE001 - a __str__ of the user's may raise anything
        return f"<{type(value).__name__}>"
