"""Where settings come from: file, environment, objects; and `load`, which joins them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from caraway.errors import ImproperlyConfigured
from caraway.settings import names
from caraway.settings.project import Project, find_project, place, read_file
from caraway.settings.store import Layer, Settings

PREFIX = "CARAWAY_"

OTHER_VARIABLES = frozenset(
    {
        "CARAWAY_CONFIG",
        "CARAWAY_CONFIG_MODULE",
        "CARAWAY_DISABLE_PLUGINS",
        "CARAWAY_NO_COLOR",
        "CARAWAY_PLUGINS",
        "CARAWAY_PLUGINS_STRICT",
        "CARAWAY_PLUGIN_AUTOLOAD",
        "CARAWAY_QUIET",
        "CARAWAY_TRACE_PLUGINS",
        "CARAWAY_WORKDIR",
    }
)
"""Variables of ours that are not settings."""

command_line: dict[str, str] = {}
"""What the command line of this process set, by name, as text.  `load` reads it; the
command also exports it as environment variables, for the processes that it starts."""


def load(
    keywords: Mapping[str, Any] | None = None,
    *,
    start: str | None = None,
    config: str | None = None,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Settings from file, keywords, environment and command line.

    Args:
        keywords: of ``Caraway(...)``; their layer is `Layer.KEYWORD`.
        start: directory from which the project is looked for; default the working one.
        config: settings file, or a Python module, in place of the project's; default
            ``CARAWAY_CONFIG``.
        environ: the environment; default ``os.environ``.

    Raises:
        ImproperlyConfigured: says file, line where known, and the nearest name.
    """
    environ = os.environ if environ is None else environ
    chosen = config or environ.get("CARAWAY_CONFIG") or ""
    module = ""
    if not chosen:
        project = find_project(start)
    elif is_file_name(chosen):
        path = os.path.abspath(os.path.join(start or "", chosen))
        project = Project(os.path.dirname(path), path)
    else:
        project, module = Project(find_project(start).directory), chosen
    settings = Settings(project)
    if project.file is not None:
        apply_file(settings, project.file)
    if module:
        apply_object(settings, module)
    if keywords:
        settings.apply(keywords, Layer.KEYWORD, "keyword of Caraway()")
    apply_environment(settings, environ)
    if command_line:
        settings.apply(command_line, Layer.COMMAND_LINE, "command line", text=True)
    return settings


def is_file_name(config: str) -> bool:
    """True if what ``--config`` names is a file, False if it is a Python module."""
    return config.endswith(".toml") or os.sep in config or "/" in config


def apply_file(settings: Settings, path: str) -> None:
    """Take settings from a TOML file.

    Raises:
        ImproperlyConfigured: it can't be read, or something in it is wrong.
    """
    shown = os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path
    for entry in read_file(path):
        settings.apply({entry.name: entry.value}, Layer.FILE, place(shown, entry.line))


def apply_environment(settings: Settings, environ: Mapping[str, str]) -> None:
    """Take settings from ``CARAWAY_<NAME>`` variables.

    An empty one counts as not set; ``none`` is the word for no value.  A variable that
    begins like a group of settings (``CARAWAY_TASK_...``) and names none is an error;
    others that are unknown are not ours, though one that looks misspelt is noted.
    """
    values, labels = {}, {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable in OTHER_VARIABLES or not value:
            continue
        name = variable[len(PREFIX) :].lower()
        name = "plugins" if name == "plugin_options" else name
        if names.known(name) is None and not names.looks_ours(name):
            near = names.nearest(name, cutoff=0.85)
            if near:
                settings.notes.append(
                    f"environment variable {variable} names no setting; did you mean "
                    f"{PREFIX}{near.upper()}?"
                )
            continue
        if names.known(name) is None:
            near = names.nearest(name)
            raise ImproperlyConfigured(
                f"environment variable {variable}: unknown setting {name!r}",
                hint=f"did you mean {PREFIX}{near.upper()}?" if near else "unset it",
            )
        values[name] = value
        labels[name] = f"environment variable {variable}"
    settings.apply(values, Layer.ENVIRONMENT, "environment", text=True, labels=labels)


def apply_object(
    settings: Settings, source: Any, *, namespace: str = "", label: str = "", silent: bool = False
) -> None:
    """Take settings from an object, as `Caraway.config_from_object` does.

    Args:
        source: a mapping, an object with attributes, a module, or the name of one:
            ``package.module`` or ``package.module:attribute``.
        namespace: only names that begin with it and an underscore are read, as in
            Celery: ``CELERY`` for Django's settings.
        label: where it was said; default is made from the source.
        silent: a module that doesn't exist is no error.

    Raises:
        ImproperlyConfigured: the module doesn't exist, or something in it is wrong.
    """
    label = label or (source if isinstance(source, str) else _describe(source))
    if isinstance(source, str):
        found = import_object(source)
        if found is None:
            if silent:
                return
            raise ImproperlyConfigured(
                f"settings module {source!r} not found",
                hint="its directory must be on sys.path, and its name without '.py'",
            )
        source = found
    strict = isinstance(source, Mapping)
    values = source if strict else public_attributes(source)
    prefix = ""
    if namespace:
        prefix = namespace if namespace.endswith("_") else f"{namespace}_"
        # Django upper-cases; a lower-case namespace is meant for lower-case names.
        prefix = prefix.upper() if any(key.startswith(prefix.upper()) for key in values) else prefix
    settings.apply(values, Layer.OBJECT, label, prefix=prefix, lenient=not strict)


def apply_envvar(settings: Settings, variable: str, *, silent: bool = False) -> None:
    """Take settings from the module that an environment variable names.

    Raises:
        ImproperlyConfigured: the variable isn't set, or see `apply_object`.
    """
    name = os.environ.get(variable, "")
    if not name:
        if silent:
            return
        raise ImproperlyConfigured(
            f"environment variable {variable!r} is not set",
            hint=f"set it to the name of a module: {variable}=myproject.celeryconfig",
        )
    apply_object(settings, name, label=f"{name} (from {variable})", silent=silent)


def public_attributes(source: Any) -> dict[str, Any]:
    """Attributes of a module or object that may be settings."""
    if not hasattr(source, "__dict__") or isinstance(source, type):
        return {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    own = vars(source)
    if not isinstance(source, type(os)):  # an instance also shows what its class says
        own = {name: getattr(source, name) for name in dir(source) if not name.startswith("_")}
    return {name: value for name, value in own.items() if not name.startswith("_")}


def import_object(name: str) -> Any:
    """The module or attribute of this name; None if the module doesn't exist.

    An import error of a module that the settings module imports is raised as it is.
    """
    import importlib

    module_name, _, attribute = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name and (module_name == exc.name or module_name.startswith(exc.name + ".")):
            return _attribute_of(name) if not attribute else None
        raise
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found


def _attribute_of(name: str) -> Any:
    """``package.module.attribute``, Celery's other spelling."""
    module_name, _, attribute = name.rpartition(".")
    if not module_name:
        return None
    module = import_object(module_name)
    return getattr(module, attribute, None)


def _describe(source: Any) -> str:
    name = getattr(source, "__name__", None)
    if isinstance(source, Mapping):
        return "dict given to config_from_object"
    return str(name) if isinstance(name, str) else type(source).__name__
