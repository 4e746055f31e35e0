"""The settings of an app: read with the first use, changed from code."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from caraway.settings import Settings


class Configuration:
    """The settings' part of an app; see `caraway.app.Caraway`."""

    on_configure: Any
    on_after_configure: Any
    _keywords: dict[str, Any]

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._conf: Settings | None = None
        self._configurers: list[Callable[[Settings], None]] = []

    @property
    def conf(self) -> Settings:
        """The settings in force.  Read with the first use.

        Raises:
            ImproperlyConfigured: a setting is unknown or bad.
        """
        conf = self._conf
        return conf if conf is not None else self._load_settings()

    def _load_settings(self) -> Settings:
        from caraway.settings import load

        with self._lock:
            if self._conf is not None:
                return self._conf
            self.on_configure.send(sender=self)
            conf = load(self._keywords)
            for configure in self._configurers:
                configure(conf)
            self._conf = conf
        self.on_after_configure.send(sender=self, source=conf)
        return conf

    def _configure_by(self, configure: Callable[[Settings], None]) -> None:
        """Have settings changed now, or when they are read."""
        if self._conf is None:
            self._configurers.append(configure)
        else:
            configure(self._conf)
            self.forget_plans()

    def forget_plans(self) -> None:
        """Settings changed: what was derived from them is made anew."""

    def config_from_object(
        self,
        obj: Any,
        silent: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        force: bool = False,  # noqa: ARG002, FBT001, FBT002
        namespace: str | None = None,
    ) -> None:
        """Take settings from a module, its name, an object or a mapping."""
        from caraway.settings import apply_object

        self._configure_by(
            lambda conf: apply_object(conf, obj, namespace=namespace or "", silent=silent)
        )

    def config_from_envvar(
        self,
        variable_name: str,
        silent: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
        force: bool = False,  # noqa: ARG002, FBT001, FBT002
    ) -> bool:
        """Take settings from the module that an environment variable names."""
        if not os.environ.get(variable_name) and silent:
            return False
        from caraway.settings import apply_envvar

        self._configure_by(lambda conf: apply_envvar(conf, variable_name, silent=silent))
        return True

    def add_defaults(self, fun: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Settings that apply where nobody says anything."""
        from caraway.settings import Layer

        self._configure_by(
            lambda conf: conf.apply(
                fun() if callable(fun) else fun, Layer.ADDED_DEFAULT, "add_defaults"
            )
        )
