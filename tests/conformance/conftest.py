"""What tests of the kit share: its suite of transports, run on one that is broken on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from caraway.testing.conformance import run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from caraway.builtin.memory import MemoryTransport


@pytest.fixture
def assert_fails() -> Callable[[type[MemoryTransport], Sequence[str]], None]:
    """Asserts that these tests (named without ``test_``) fail on a transport, and that the
    report says so."""

    def fails(broken: type[MemoryTransport], expected: Sequence[str]) -> None:
        report = run(
            "transport",
            broken,
            lambda path: f"memory://{path.name}",
            backend_factory="caraway.builtin.memory:MemoryBackend",
            only=lambda name: name.removeprefix("test_") in expected,
            patience=1.0,
            entry_capabilities=broken.capabilities,
        )
        assert sorted(check.name for check in report.failed) == sorted(expected)
        assert not report.ok
        assert "does NOT keep the contract" in report.render()

    return fails
