"""Generated from extras-matrix.toml by core/tools/matrix.py.  Do not edit."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Bundle(Struct, frozen=True):
    """A bundle of the project: its extra's name, its distribution, what it provides."""

    name: str
    dist: str
    status: str
    roles: dict[str, tuple[str, ...]]


BUNDLES: Final[tuple[Bundle, ...]] = ()
