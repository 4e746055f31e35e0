"""What stands in for a backend where results are switched off."""

# ruff: noqa: ARG002 - it has no use for what it is given
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn

from caraway.errors import BackendError
from caraway.interfaces.backend import Backend
from caraway.message import StoredResult


class DisabledBackend(Backend):
    """Keeps nothing; reading from it is an error that says what to set."""

    def store(self, results: Sequence[StoredResult]) -> None:
        """Drop them: the worker asks `Caraway.backend_enabled` first."""

    def get(self, task_ids: Sequence[str]) -> Mapping[str, StoredResult]:
        self._refuse()

    def wait(self, task_ids: Sequence[str], timeout: float) -> Mapping[str, StoredResult]:
        self._refuse()

    def forget(self, task_ids: Sequence[str]) -> int:
        return 0

    def ping(self) -> None:
        """Always there."""

    def close(self) -> None:
        """Nothing to free."""

    def _refuse(self) -> NoReturn:
        raise BackendError(
            "no result backend is configured, so results can't be read",
            hint='set result_backend, for example to "sqlite://"',
        )
