"""Settings: each declared once, read from file, code, environment and command line.

`load` gives a `Settings`; its attributes have the declared types, and it is a mapping by
name.  The order in which sources overrule each other is that of `Layer`.
"""

from __future__ import annotations

from caraway.settings.declare import Setting
from caraway.settings.names import DECLARED
from caraway.settings.project import Project, find_project
from caraway.settings.sources import (
    apply_environment,
    apply_envvar,
    apply_file,
    apply_object,
    command_line,
    load,
)
from caraway.settings.store import Layer, Settings, SettingsWarning, Source
from caraway.settings.values import redact, seconds

__all__ = [
    "DECLARED",
    "Layer",
    "Project",
    "Setting",
    "Settings",
    "SettingsWarning",
    "Source",
    "apply_environment",
    "apply_envvar",
    "apply_file",
    "apply_object",
    "command_line",
    "find_project",
    "load",
    "redact",
    "seconds",
]
