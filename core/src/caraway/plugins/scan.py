"""Which plugins are installed: one scan of entry points a process, nothing imported."""

from __future__ import annotations

import os
import sys
from functools import cache

from msgspec import Struct

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
    from importlib.metadata import entry_points

    found = [
        Candidate(
            point.name,
            point.value,
            point.dist.name if point.dist is not None else "",
            point.dist.version if point.dist is not None else "",
        )
        for point in entry_points(group=GROUP)
    ]
    return tuple(sorted(found, key=lambda c: (c.name, c.distribution.lower(), c.version)))


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
