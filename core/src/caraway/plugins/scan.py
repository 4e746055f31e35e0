"""Which plugins are installed: one scan of entry points a process, nothing imported."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint

GROUP = "caraway"
"""The entry-point group."""


class Candidate(Struct, frozen=True):
    """An entry point of the group, not loaded.

    Attributes:
        name: of the entry point: the plugin's name.
        value: ``package.module`` or ``package.module:attribute``.
        distribution: name of the distribution, as it writes it.
        version: of the distribution.
    """

    name: str
    value: str
    distribution: str
    version: str


@cache
def candidates() -> tuple[Candidate, ...]:
    """All entry points of the group, by name, then distribution."""
    found = _read_plain()
    if found is None:
        found = [
            Candidate(point.name, _module(point.value), *_source(point)) for point in _points()
        ]
    return tuple(sorted(found, key=lambda c: (c.name, c.distribution.lower(), c.version)))


def _module(value: str) -> str:
    return value.partition("[")[0].strip()


def _points() -> Iterable[EntryPoint]:
    """All entry points of the group; a distribution whose file is broken costs only its own."""
    from importlib import metadata

    with suppress(Exception):  # one bad line in one file, and which isn't said
        return metadata.entry_points(group=GROUP)
    points: dict[str, list[EntryPoint]] = {}
    for distribution in metadata.distributions():
        name = "?"
        try:
            name = str(distribution.metadata["Name"]).lower()
            # Of one name found twice, the first on the path counts.
            points.setdefault(name, [p for p in distribution.entry_points if p.group == GROUP])
        except Exception as exc:  # noqa: BLE001
            import logging

            logging.getLogger("caraway.plugins").warning(
                "entry points of distribution %r can't be read: %s", name, exc
            )
    return [point for several in points.values() for point in several]


def _source(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the distribution; empty where its metadata is damaged."""
    try:
        return (str(point.dist.name), str(point.dist.version)) if point.dist else ("", "")
    except Exception:  # noqa: BLE001
        return "", ""


def _read_plain() -> list[Candidate] | None:
    """The entry points, where everything on the path is as pip puts it there; else None.

    Importing `importlib.metadata` takes as long as importing all of Caraway, and 2 MB;
    reading the ``entry_points.txt`` of each ``*.dist-info`` (PyPA, "Entry points
    specification") takes a tenth.  Whatever isn't a plain directory of the standard
    path finder, or can't be read so, is left to `importlib.metadata`.
    """
    for finder in sys.meta_path:
        module = getattr(finder, "__module__", "")
        if hasattr(finder, "find_distributions") and module != "_frozen_importlib_external":
            return None
    needle = f"[{GROUP}]".encode()
    found: list[Candidate] = []
    known: set[str] = set()
    for place in sys.path:
        try:
            with os.scandir(place or ".") as entries:
                infos = sorted(
                    entry.path
                    for entry in entries
                    if entry.name.endswith((".dist-info", ".egg-info", ".egg"))
                )
        except NotADirectoryError:
            return None  # a zip file, perhaps with distributions in it
        except OSError:
            continue
        for info in infos:
            if info.endswith(".egg"):
                return None
            name = os.path.basename(info).partition("-")[0].lower().replace(".", "_")
            try:
                with open(os.path.join(info, "entry_points.txt"), "rb") as file:
                    data = file.read()
            except OSError:
                data = b""
            if needle in data:
                if not info.endswith(".dist-info"):
                    return None
                points = _parse(info, data)
                if points is None:
                    return None
                # Of one name found twice, the first on the path counts.
                if name not in known:
                    found += points
            known.add(name)
    return found


def _parse(info: str, data: bytes) -> list[Candidate] | None:
    """The group's lines of an ``entry_points.txt``; None if they aren't plain."""
    try:
        text = data.decode()
        with open(os.path.join(info, "METADATA"), encoding="utf-8") as file:
            head = dict(
                line.rstrip("\n").split(": ", 1)
                for _, line in zip(range(20), file, strict=False)
                if line.startswith(("Name: ", "Version: "))
            )
        source = head["Name"], head["Version"]
    except (OSError, ValueError, KeyError):
        return None
    found: list[Candidate] = []
    inside = False
    for line in text.splitlines():
        bare = line.strip()
        if not bare or bare.startswith(("#", ";")):
            continue
        if bare.startswith("["):
            inside = bare == f"[{GROUP}]"
        elif inside:
            name, equals, value = bare.partition("=")
            if not equals or line[0].isspace() or not name.strip() or not value.strip():
                return None
            found.append(Candidate(name.strip(), _module(value.strip()), *source))
    return found
