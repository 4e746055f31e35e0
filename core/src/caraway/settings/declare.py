"""How a setting is declared: once, with type, unit, default and doc."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable

    from caraway.settings.store import Settings
    from caraway.settings.values import Kind

T = TypeVar("T")

OLD_PREFIXES = {
    "task_": "CELERY_",
    "worker_": "CELERYD_",
    "beat_": "CELERYBEAT_",
    "result_": "CELERY_RESULT_",
    "event_": "CELERY_EVENT_",
    "broker_": "BROKER_",
}
"""How Celery's old upper-case name of a setting begins, by the new beginning."""


class Setting(Generic[T]):
    """One setting.  On a `Settings` it is read as an attribute of the declared type.

    It is a descriptor without ``__set__``: a value that was set lies in the instance
    and is read without calling anything.

    Attributes:
        name: lower-case, as in Celery where Celery has it.
        kind: what values it takes.
        default: the value when nobody set it.
        derive: computes the default from the other settings, or None.
        derived: how, in words.
        doc: one or two sentences.
        unit: of numbers, e.g. ``s`` or ``KiB``; empty for none.
        secret: its value is never shown.
        celery: what Celery's default is, where it differs; empty if not.
        void: why it has no meaning in Caraway; empty for settings that have.
        refused: like ``void``, but setting it is an error.
        awaits: what must come before it has an effect; empty for settings that have.
        old: Celery's upper-case names beyond the regular one.
    """

    name: str = ""

    def __init__(
        self,
        kind: Kind[T],
        default: T,
        doc: str,
        *,
        unit: str = "",
        derive: Callable[[Settings], T] | None = None,
        derived: str = "",
        secret: bool = False,
        celery: str = "",
        void: str = "",
        refused: str = "",
        awaits: str = "",
        old: tuple[str, ...] = (),
    ) -> None:
        self.kind = kind
        self.default = default
        self.doc = doc
        self.unit = unit or ("s" if kind.name.startswith("duration") else "")
        self.derive = derive
        self.derived = derived
        self.secret = secret
        self.celery = celery
        self.void = void
        self.refused = refused
        self.awaits = awaits
        self.old = old

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: Any, owner: type) -> Setting[T] | T:
        if instance is None:
            return self
        if self.derive is not None:
            return self.derive(instance)
        if isinstance(self.default, dict):
            # Kept, so that ``conf.beat_schedule["x"] = ...`` isn't lost.
            value: Any = dict(self.default)
            instance.__dict__[self.name] = value
            return value  # type: ignore[no-any-return]
        return self.default

    if TYPE_CHECKING:  # there is none at run time: a descriptor with it would be slow to read

        def __set__(self, instance: object, value: T) -> None: ...

    @property
    def group(self) -> str:
        """``task`` of ``task_acks_late``; ``general`` for names without a group."""
        head = self.name.partition("_")[0]
        return head if f"{head}_" in GROUP_PREFIXES else "general"

    @property
    def environment(self) -> str:
        """The environment variable that sets it."""
        # CARAWAY_PLUGINS names the plugins to load: see `caraway.plugins.selection`.
        return "CARAWAY_" + ("plugin_options" if self.name == "plugins" else self.name).upper()

    @property
    def old_names(self) -> tuple[str, ...]:
        """Celery's old upper-case names."""
        for prefix, old in OLD_PREFIXES.items():
            if self.name.startswith(prefix):
                return (old + self.name[len(prefix) :].upper(), *self.old)
        return ("CELERY_" + self.name.upper(), *self.old)


GROUP_PREFIXES = (
    "task_", "worker_", "broker_", "result_", "beat_", "event_", "control_", "plugins_",
)  # fmt: skip
"""Beginnings of names that are ours: an unknown name that begins so is a mistake."""


def void(default: Any, why: str, *, old: tuple[str, ...] = ()) -> Setting[Any]:
    """A setting of Celery's that is accepted and has no meaning here."""
    from caraway.settings.values import ANY

    return Setting(ANY, default, "No meaning in Caraway: " + why, void=why, old=old)


def refused(why: str) -> Setting[Any]:
    """A setting of Celery's that can't be accepted: ignoring it would do harm."""
    from caraway.settings.values import ANY

    return Setting(ANY, None, "Not accepted: " + why, refused=why)
