"""Which plugins an app wants: what blocks them, what prefers them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from msgspec import Struct

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

ESSENTIAL = frozenset({"memory", "sqlite", "json", "solo"})
"""Built-in plugins that the rest can't do without: they refuse to be blocked."""

BLOCK_VARIABLE = "CARAWAY_DISABLE_PLUGINS"
"""Names with commas between them; ``*`` is every installed plugin."""
ALLOW_VARIABLE = "CARAWAY_PLUGINS"
"""Names with commas between them, loaded although `AUTOLOAD_VARIABLE` is 0."""
AUTOLOAD_VARIABLE = "CARAWAY_PLUGIN_AUTOLOAD"
"""``0``: load no installed plugin but those of `ALLOW_VARIABLE`."""


def normal(name: str) -> str:
    """A plugin's or distribution's name as it is compared."""
    return name.strip().lower().replace("_", "-").replace(".", "-")


class Selection(Struct, frozen=True):
    """What an app and the environment say about plugins.

    Attributes:
        given: the app's own plugins.
        block: names not to be loaded; to where that is said.
        prefer: by scheme or name, the plugin or distribution to choose.
        allow: installed plugins to load if not all are; None is all.
    """

    given: tuple[object, ...]
    block: Mapping[str, str]
    prefer: Mapping[str, str]
    allow: frozenset[str] | None

    @classmethod
    def make(
        cls,
        given: Iterable[object],
        block: Iterable[str],
        prefer: Mapping[str, str],
        *,
        lenient: bool = False,
    ) -> Selection:
        """Join the app's wishes and the environment's.

        Raises:
            ImproperlyConfigured: an essential plugin is to be blocked.
        """
        blocked = {normal(name): "the setting plugins.block" for name in block}
        blocked.update(dict.fromkeys(_names(BLOCK_VARIABLE), BLOCK_VARIABLE))
        refused = sorted(ESSENTIAL & blocked.keys())
        if refused and not lenient:
            name = refused[0]
            raise ImproperlyConfigured(
                f"plugin {name!r} is essential and can't be blocked ({blocked[name]})",
                hint=f"Take it out. Essential are: {', '.join(sorted(ESSENTIAL))}.",
            )
        for name in refused:
            del blocked[name]
        allow = None
        if os.environ.get(AUTOLOAD_VARIABLE, "1").strip().lower() in {"0", "false", "no", "off"}:
            allow = frozenset(_names(ALLOW_VARIABLE))
        return cls(tuple(given), blocked, dict(prefer), allow)

    def refusal(self, name: str, distribution: str, *, builtin: bool = False) -> str:
        """Why a plugin is not to be loaded; empty if it is."""
        if not (builtin and name in ESSENTIAL):
            for known in (name, distribution if not builtin else ""):
                where = self.block.get(normal(known)) if known else None
                if where:
                    return f"by {where}"
        if builtin:
            return ""
        if "*" in self.block:
            return f"by {self.block['*']}"
        if self.allow is not None and not self.allow & {normal(name), normal(distribution)}:
            return f"by {AUTOLOAD_VARIABLE}=0"
        return ""

    def prefers(self, key: str, name: str, distribution: str) -> bool:
        """True if ``prefer`` chooses this plugin for the key."""
        wanted = self.prefer.get(key)
        return wanted is not None and normal(wanted) in {normal(name), normal(distribution)}


def _names(variable: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    return [normal(name) for name in environ.get(variable, "").split(",") if name.strip()]


def apply_option(text: str, environ: MutableMapping[str, str] = os.environ) -> None:
    """What ``-p no:NAME`` (block) and ``-p NAME`` (allow, and no longer block) do.

    It goes into the environment, so that lanes and other children agree.
    """
    name = normal(text.removeprefix("no:"))
    if not name:
        raise ImproperlyConfigured(
            f"-p {text!r} names no plugin", hint="Write '-p NAME' or '-p no:NAME'."
        )
    add, remove = ALLOW_VARIABLE, BLOCK_VARIABLE
    if text.startswith("no:"):
        add, remove = remove, add
    environ[add] = ",".join(dict.fromkeys([*_names(add, environ), name]))
    environ[remove] = ",".join(n for n in _names(remove, environ) if n != name)
