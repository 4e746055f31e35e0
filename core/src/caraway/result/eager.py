"""The result of a task that ran in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from caraway import states
from caraway.result import AsyncResult
from caraway.result.blocking import assert_will_not_block, blocking_allowed

if TYPE_CHECKING:
    from caraway.app import Caraway

R_co = TypeVar("R_co", covariant=True)
_RAISING = states.PROPAGATE_STATES | {states.RETRY, states.REJECTED}


class EagerResult(AsyncResult[R_co]):
    """The result of a task that ran in place (`Task.apply`); no backend behind it."""

    __slots__ = ()

    def __init__(
        self,
        id: str,  # noqa: A002 - Celery's name
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
        app: Caraway | None = None,
    ) -> None:
        super().__init__(id, task_name=name, app=app)
        self._meta = {
            "status": state,
            "result": ret_value,
            "traceback": traceback,
            "task_id": id,
            "name": name,
        }

    def get(  # type: ignore[override]
        self,
        timeout: float | None = None,  # noqa: ARG002
        propagate: bool = True,  # noqa: FBT001, FBT002
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,  # noqa: FBT001, FBT002
        **_: Any,
    ) -> R_co:
        """The value at once, or the exception."""
        if disable_sync_subtasks and blocking_allowed.get() is False:
            assert_will_not_block()
        assert self._meta is not None
        value: R_co = self._meta["result"]
        raising = self._meta["status"] in _RAISING
        if propagate and raising and isinstance(value, BaseException):
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    wait = get

    def forget(self) -> None:
        """Nothing is kept anywhere."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """Too late: it ran already."""

    def __reduce__(self) -> Any:
        meta = self._meta or {}
        return type(self), (
            self.id, meta.get("result"), meta.get("status"), meta.get("traceback"), self.task_name,
        )  # fmt: skip
