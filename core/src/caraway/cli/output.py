"""How commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence


def emit_json(value: Any) -> None:
    """Print a value as JSON; what JSON doesn't know as text."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(value, key=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    import msgspec

    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return str(value)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
    *,
    color: bool = True,
    empty: str = "nothing",
) -> None:
    """Print rows: on a terminal as a table, else as columns of aligned text.

    Columns whose heading begins with ``#`` are numbers, set to the right.
    """
    if not rows:
        click.echo(empty)
        return
    cells = [[_cell(value) for value in row] for row in rows]
    heads = [column.lstrip("#") for column in columns]
    right = [column.startswith("#") for column in columns]
    if sys.stdout.isatty():
        _rich_table(heads, right, cells, color=color)
        return
    widths = [max(len(head), *(len(row[i]) for row in cells)) for i, head in enumerate(heads)]
    for line in (heads, *cells):
        parts = [
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        ]
        click.echo("  ".join(parts).rstrip())


def _rich_table(
    heads: Sequence[str], right: Sequence[bool], cells: Sequence[Sequence[str]], *, color: bool
) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=SIMPLE_HEAD, pad_edge=False, header_style="bold" if color else "")
    for head, to_right in zip(heads, right, strict=True):
        grid.add_column(head, justify="right" if to_right else "left", overflow="fold")
    for row in cells:
        grid.add_row(*(Text(text) for text in row))
    Console(no_color=not color, highlight=False).print(grid)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(str(item) for item in value)
    return str(value).replace("\n", " ")


def span(seconds: float | None) -> str:
    """A duration for people: ``12ms``, ``3.4s``, ``5m10s``, ``2h05m``, ``3d04h``."""
    if seconds is None:
        return "-"
    if seconds < 0:
        return "-" + span(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s".replace(".0s", "s")
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minutes:02d}m"
    return f"{hours // 24}d{hours % 24:02d}h"


def when(at: float, now: float) -> str:
    """A moment for people: local time, and how far away it is."""
    import datetime

    shown = datetime.datetime.fromtimestamp(at).astimezone().isoformat(" ", "seconds")
    return f"{shown} (in {span(at - now)})" if at > now else f"{shown} ({span(now - at)} ago)"
