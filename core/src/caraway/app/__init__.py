"""The app: settings, tasks, and the components built from them on first use."""

from __future__ import annotations

from caraway.app.app import Caraway
from caraway.app.current import current_app, current_task, shared_task

__all__ = ["Caraway", "current_app", "current_task", "shared_task"]
