"""Where the project is, and what its file says.

The project's directory is the nearest one, from the working directory upward, that holds
``caraway.toml`` or a ``pyproject.toml`` with a table ``[tool.caraway]``; without either
it is the working directory.
"""

from __future__ import annotations

import os
from typing import Any

from msgspec import Struct

from caraway.errors import ImproperlyConfigured
from caraway.settings.names import TABLE_GROUPS

FILE = "caraway.toml"
PYPROJECT = "pyproject.toml"


class Project(Struct, frozen=True):
    """A project's place.

    Attributes:
        directory: absolute path; relative file URLs start here.
        file: absolute path of the settings file, or None.
    """

    directory: str
    file: str | None = None


class Entry(Struct, frozen=True):
    """One value of a file.

    Attributes:
        name: of the setting, groups flattened.
        value: as TOML has it.
        line: where it stands, 0 if unknown.
        key: how it is written there, e.g. ``task.acks_late``.
    """

    name: str
    value: Any
    line: int
    key: str


def find_project(start: str | None = None) -> Project:
    """The project that a directory belongs to.

    Args:
        start: directory to begin at; default is the working directory.
    """
    first = os.path.abspath(start or os.getcwd())
    directory = first
    while True:
        own = os.path.join(directory, FILE)
        if os.path.isfile(own):
            return Project(directory, own)
        shared = os.path.join(directory, PYPROJECT)
        if _has_table(shared):
            return Project(directory, shared)
        parent = os.path.dirname(directory)
        if parent == directory:
            return Project(first)
        directory = parent


def _has_table(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return False
    if b"caraway" not in text:
        return False  # spares the import of a TOML reader
    try:
        return "caraway" in _parse(path, text).get("tool", {})
    except ImproperlyConfigured:
        # Half a pyproject must not decide where the project is, unless it names us.
        return b"[tool.caraway" in text


def _parse(path: str, text: bytes) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise ImproperlyConfigured(
            f"{path}: not a TOML file: {exc}", hint="mend that line, then try again"
        ) from None


def read_file(path: str) -> list[Entry]:
    """The settings in a file, groups flattened, in the file's order.

    ``[task] acks_late`` is ``task_acks_late``; ``[plugins] block`` is ``plugins_block``;
    other tables under ``plugins`` are the options of bundles.

    Raises:
        ImproperlyConfigured: it can't be read, isn't TOML, or says one thing twice.
    """
    try:
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as exc:
        raise ImproperlyConfigured(
            f"{path}: can't be read: {exc.strerror}",
            hint="name another file with --config or CARAWAY_CONFIG, or create this one",
        ) from None
    tables = _parse(path, raw)
    root: tuple[str, ...] = ()
    if os.path.basename(path) == PYPROJECT:
        root = ("tool", "caraway")
        tables = tables.get("tool", {}).get("caraway", {})
        if not isinstance(tables, dict):
            raise ImproperlyConfigured(f"{path}: tool.caraway must be a table")
    lines = raw.decode("utf-8").splitlines()
    entries: list[Entry] = []
    for key, value in tables.items():
        entries.extend(_flatten(key, value, lines, root))
    _check_twice(path, entries)
    return entries


def _flatten(key: str, value: Any, lines: list[str], root: tuple[str, ...]) -> list[Entry]:
    if key in TABLE_GROUPS and isinstance(value, dict):
        return [
            Entry(f"{key}_{inner}", item, find_line(lines, (*root, key, inner)), f"{key}.{inner}")
            for inner, item in value.items()
        ]
    if key != "plugins" or not isinstance(value, dict):
        return [Entry(key, value, find_line(lines, (*root, key)), key)]
    entries = []
    options = dict(value)
    for inner in ("block", "prefer"):
        if inner in options:
            line = find_line(lines, (*root, key, inner))
            entries.append(Entry(f"plugins_{inner}", options.pop(inner), line, f"plugins.{inner}"))
    for inner, item in options.items():
        line = find_line(lines, (*root, key, inner))
        entries.append(Entry("plugins", {inner: item}, line, f"plugins.{inner}"))
    return entries


def _check_twice(path: str, entries: list[Entry]) -> None:
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry and entry.name != "plugins":
            raise ImproperlyConfigured(
                f"{place(path, entry.line)}: {entry.name!r} is set twice, as {other.key!r} "
                f"(line {other.line}) and as {entry.key!r}",
                hint="keep one of them",
            )


def place(path: str, line: int) -> str:
    """``file, line n`` for a message."""
    return f"{path}, line {line}" if line else path


def find_line(lines: list[str], path: tuple[str, ...]) -> int:
    """The line on which a key stands, 0 if it can't be told.

    A plain scan: it knows tables, dotted and quoted keys; a look-alike inside a text of
    several lines may fool it, which costs no more than a wrong number in a message.
    """
    table: tuple[str, ...] = ()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text.startswith("["):
            table = _split(text.strip("[").partition("]")[0])
            if table[: len(path)] == path:
                return number
        elif "=" in text and not text.startswith("#"):
            key = table + _split(text.partition("=")[0])
            if key[: len(path)] == path:
                return number
    return 0


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
