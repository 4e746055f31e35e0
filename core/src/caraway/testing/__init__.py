"""For tests: of applications (`drain`, `VirtualClock`, fixtures) and of plugins.

* `caraway.testing.fixtures`: pytest fixtures, opted into with
  ``pytest_plugins = ["caraway.testing.fixtures"]``;
* `caraway.testing.conformance`: suites that implementations of the interfaces must pass;
* `caraway.testing.servers`: real servers for integration tests.

Importing this package doesn't import pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.testing.clock import VirtualClock

__all__ = ["VirtualClock"]

_HOMES = {"VirtualClock": "clock"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
