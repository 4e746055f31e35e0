"""Imports modules that define tasks."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from caraway.errors import ImproperlyConfigured


def import_all(names: Iterable[str]) -> None:
    """Import each module once.

    Raises:
        ImproperlyConfigured: one doesn't exist, or failed; the cause is chained.
    """
    for name in dict.fromkeys(names):
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            if not _is_about(exc, name):
                raise ImproperlyConfigured(f"importing {name!r} failed: {exc}") from exc
            raise ImproperlyConfigured(
                f"there is no module {name!r} to import tasks from",
                hint="correct `imports` or `include`, or start where it can be imported",
            ) from exc


def import_related(packages: Iterable[str], related_name: str | None) -> None:
    """Import ``package.related_name`` where it exists; errors inside it are raised."""
    for package in dict.fromkeys(packages):
        import_module(package)
        if not related_name:
            continue
        name = f"{package}.{related_name}"
        try:
            import_module(name)
        except ModuleNotFoundError as exc:
            # only its own absence is fine, not that of something it imports
            if not _is_about(exc, name):
                raise


def import_attribute(path: str) -> Any:
    """What ``package.module:name`` (or with a dot) names.

    Raises:
        ImproperlyConfigured: it doesn't exist.
    """
    module, _, name = path.replace(":", ".").rpartition(".")
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"can't import {path!r}: {exc}", hint="write package.module:Name"
        ) from exc


def _is_about(exc: ModuleNotFoundError, name: str) -> bool:
    missing = exc.name or ""
    return name == missing or name.startswith(missing + ".")
