"""Prints the two tables: the floors, and the peers."""

from __future__ import annotations

from bench.suite import PEERS, ROWS


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
        sign = "<" if row.under else ">="
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
        good = value < row.floor if row.under else value >= row.floor
        if not good:
            missed.append(row.name)
        shown = f"{value:.2f} {row.unit}".replace(" x", "")
        lines.append([row.name, shown, floor, "ok" if good else "MISSED", detail])
    return table(["what", "measured", "to reach", "", "absolute"], lines), missed


COLUMNS = (
    ("drain/s", "drain1.rate", 1.0, ",.0f"),
    ("2 lanes/s", "drain2.rate", 1.0, ",.0f"),
    ("delay/s", "single.rate", 1.0, ",.0f"),
    ("bulk/s", "bulk.rate", 1.0, ",.0f"),
    ("p50 ms", "roundtrip.p50", 1000.0, ".1f"),
    ("p99 ms", "roundtrip.p99", 1000.0, ".1f"),
    ("10 ms x50", "nap.threads.share", 1.0, ".2f"),
    ("2 ms x2", "burn.share", 1.0, ".2f"),
    ("idle %", "idle.cpu", 100.0, ".2f"),
    ("PSS MB", "idle.pss", 1.0, ".0f"),
    ("start s", "startup.stored", 1.0, ".2f"),
)


def peers(found: dict[str, float], versions: dict[str, str]) -> str:
    """The table of Caraway and its peers on the same workloads."""
    names = {"caraway": "Caraway, SQLite"} | {
        key: label.replace(",", f" {versions.get(side, '')},", 1)
        for key, (side, label, _) in PEERS.items()
    }
    lines = []
    for key, name in names.items():
        cells = []
        for _, figure, factor, form in COLUMNS:
            value = found.get(f"{key}.{figure}")
            cells.append("-" if value is None else format(value * factor, form))
        if any(cell != "-" for cell in cells):
            lines.append([name, *cells])
    return table(["", *(column[0] for column in COLUMNS)], lines)
