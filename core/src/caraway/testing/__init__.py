"""For tests: of applications and of plugins.

* `isolate` switches an app to memory; `drain` runs what waits in its queues;
* `start_worker` runs a worker in a thread of the test's process;
* `caraway.testing.fixtures`: pytest fixtures, opted into with
  ``pytest_plugins = ["caraway.testing.fixtures"]``;
* `caraway.testing.conformance`: suites that implementations of the interfaces must pass;
* `caraway.testing.servers`: real servers for integration tests;
* `caraway.testing.proxy`: a network between them and the client that breaks when told to.

Importing this package doesn't import pytest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.testing.clock import VirtualClock
    from caraway.testing.draining import Ran, drain
    from caraway.testing.embedded import start_worker
    from caraway.testing.sandbox import ANYTHING, Enqueued, Sandbox, isolate

__all__ = [
    "ANYTHING",
    "Enqueued",
    "Ran",
    "Sandbox",
    "VirtualClock",
    "drain",
    "isolate",
    "start_worker",
]

_HOMES = {
    "ANYTHING": "sandbox",
    "Enqueued": "sandbox",
    "Ran": "draining",
    "Sandbox": "sandbox",
    "VirtualClock": "clock",
    "drain": "draining",
    "isolate": "sandbox",
    "start_worker": "embedded",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value
