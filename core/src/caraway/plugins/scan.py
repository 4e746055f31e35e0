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
    if not _may_have_any():
        return ()
    found = [
        Candidate(point.name, point.value.partition("[")[0].strip(), *_source(point))
        for point in _points()
    ]
    return tuple(sorted(found, key=lambda c: (c.name, c.distribution.lower(), c.version)))


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


def _may_have_any() -> bool:
    """False if there is certainly no entry point of the group.

    Importing `importlib.metadata` takes as long as importing all of Caraway; reading
    the ``entry_points.txt`` of each ``*.dist-info`` (PyPA, "Entry points
    specification") takes a tenth.  Whatever isn't a plain directory of the standard
    path finder is left to `importlib.metadata`.
    """
    for finder in sys.meta_path:
        module = getattr(finder, "__module__", "")
        if hasattr(finder, "find_distributions") and module != "_frozen_importlib_external":
            return True
    needle = f"[{GROUP}]".encode()
    for place in sys.path:
        try:
            with os.scandir(place or ".") as entries:
                infos = [
                    entry.path
                    for entry in entries
                    if entry.name.endswith((".dist-info", ".egg-info", ".egg"))
                ]
        except NotADirectoryError:
            return True  # a zip file, perhaps with distributions in it
        except OSError:
            continue
        for info in infos:
            if info.endswith(".egg"):
                return True
            try:
                with open(os.path.join(info, "entry_points.txt"), "rb") as file:
                    if needle in file.read().replace(b" ", b""):
                        return True
            except OSError:
                continue
    return False
