"""Prints the two tables: the floors, and the peers."""

from __future__ import annotations

from typing import NamedTuple

from bench.rows import ROWS
from bench.suite import PEERS


def table(head: list[str], lines: list[list[str]]) -> str:
    """Columns padded to their widest cell; the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def one(line: list[str]) -> str:
        cells = [
            cell.ljust(width) if (i in {0, len(head) - 1} and len(head) == 5) or i == 0
            else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]  # fmt: skip
        return "  ".join(cells).rstrip()

    return "\n".join([one(head), "  ".join("-" * width for width in widths), *map(one, lines)])


def floors(found: dict[str, float], asked: set[str]) -> tuple[str, list[str]]:
    """The table of the floors, and the names of those missed.

    Args:
        found: best figures by ``key.figure``.
        asked: keys of the jobs that were to run; rows of others are left out.
    """
    lines: list[list[str]] = []
    missed: list[str] = []
    for row in ROWS:
        if not set(row.needs) <= asked:
            continue
        sign = "<=" if row.under else ">="
        floor = f"{sign} {row.floor:g} {row.unit}".replace(" x", "")
        try:
            value = row.value(found)
        except KeyError as exc:
            lines.append([row.name, "-", floor, "none", f"no figure {exc.args[0]}"])
            missed.append(row.name)
            continue
        try:
            detail = row.detail(found)
        except KeyError:
            detail = ""
        good = value <= row.floor if row.under else value >= row.floor
        if not good:
            missed.append(row.name)
        shown = f"{value:.2f} {row.unit}".replace(" x", "")
        lines.append([row.name, shown, floor, "ok" if good else "MISSED", detail])
    return table(["what", "measured", "to reach", "", "absolute"], lines), missed


class Column(NamedTuple):
    """One figure of the peers' tables.

    Attributes:
        head: of its column.
        figure: without the peer's key.
        factor: from the figure to what is shown.
        form: of what is shown.
        more: whether more is better.
        judged: whether a peer that is ahead counts for ``--strict``.
    """

    head: str
    figure: str
    factor: float
    form: str
    more: bool = True
    judged: bool = True


COLUMNS = (
    Column("drain/s", "drain1.rate", 1.0, ",.0f"),
    Column("2 lanes/s", "drain2.rate", 1.0, ",.0f"),
    Column("delay/s", "single.rate", 1.0, ",.0f"),
    Column("threads/s", "threads.rate", 1.0, ",.0f"),
    Column("bulk/s", "bulk.rate", 1.0, ",.0f"),
    Column("p50 ms", "roundtrip.p50", 1000.0, ".2f", more=False),
    Column("p99 ms", "roundtrip.p99", 1000.0, ".2f", more=False),
    Column("10 ms x50", "nap.share", 1.0, ".2f"),
    Column("2 ms x2", "burn.share", 1.0, ".2f"),
    Column("idle %", "idle.cpu", 100.0, ".2f", more=False, judged=False),
    Column("PSS MB", "idle.pss", 1.0, ".0f", more=False),
    Column("start s", "startup.stored", 1.0, ".2f", more=False, judged=False),
)
OURS = {
    "redis": "Caraway, Redis",
    "far": "Caraway, Redis 2 ms away",
    "amqp": "Caraway, RabbitMQ",
    "rpc": "Caraway, RabbitMQ, results",
    "caraway": "Caraway, SQLite",
}
"""First part of the keys of our jobs, by store."""


def _figure(found: dict[str, float], key: str, column: Column) -> float | None:
    if column.figure == "nap.share":
        # in the pool in which it waits best
        pools = (f"{key}.nap.{pool}.share" for pool in ("threads", "asyncio"))
        values = [found[name] for name in pools if name in found]
        return max(values, default=None)
    return found.get(f"{key}.{column.figure}")


def peers(found: dict[str, float], versions: dict[str, str]) -> str:
    """The table of Caraway and its peers on the same workloads, store by store."""
    lines = []
    for store, ours in OURS.items():
        names = {store: ours} | {
            key: peer.label.replace(",", f" {versions.get(peer.side, '')},", 1)
            for key, peer in PEERS.items()
            if peer.store == store
        }
        for key, name in names.items():
            cells = []
            for column in COLUMNS:
                value = _figure(found, key, column)
                cells.append("-" if value is None else format(value * column.factor, column.form))
            if any(cell != "-" for cell in cells):
                lines.append([name, *cells])
    return table(["", *(column.head for column in COLUMNS)], lines)


def ahead(found: dict[str, float]) -> tuple[str, dict[str, dict[str, float]], list[str]]:
    """Who is ahead in each figure: Caraway, or a peer on the same store.

    Returns:
        The table; how many times better than each peer Caraway is, by ``store figure`` and
        key of the peer; the figures in which one is ahead of us.
    """
    lines: list[list[str]] = []
    ratios: dict[str, dict[str, float]] = {}
    behind: list[str] = []
    for store, label in OURS.items():
        for column in COLUMNS:
            ours = _figure(found, store, column)
            theirs = {
                key: value
                for key, peer in PEERS.items()
                if peer.store == store
                and not peer.less
                and (value := _figure(found, key, column)) is not None
            }
            if ours is None or not theirs:
                continue
            better = {
                key: _times(ours, value) if column.more else _times(value, ours)
                for key, value in theirs.items()
            }
            name = f"{label.partition(', ')[2]}: {column.head}"
            ratios[name] = better
            closest = min(better, key=better.__getitem__)
            good = better[closest] >= 1
            if not good and column.judged:
                behind.append(f"{name} ({closest})")
            shown = [
                format(value * column.factor, column.form) for value in (ours, theirs[closest])
            ]
            lines.append(
                [name, *shown, closest, f"{better[closest]:.2f}", "ahead" if good else "BEHIND"]
            )
    head = ["what", "Caraway", "best peer", "", "times better", ""]
    return table(head, lines), ratios, behind


def _times(one: float, other: float) -> float:
    return one / other if other else float("inf")
