"""From text to typed options, by a component's option table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from caraway.errors import ImproperlyConfigured
from caraway.url import SECRET_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caraway.plugins.entries import Option

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_NUMBER = r"\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+"
_DURATION_PART = re.compile(rf"\s*({_NUMBER})\s*(ms|[smhdw])", re.IGNORECASE)
_SIZE = re.compile(r"(\d+)\s*([kmg]?)(?:i?b)?\Z", re.IGNORECASE)


def parse_duration(value: Any) -> float:
    """Seconds from a number, a `timedelta`, or a text such as ``90``, ``500ms``, ``1h30m``.

    Raises:
        ValueError: anything else, a negative one included.
    """
    seconds = getattr(value, "total_seconds", None)
    if callable(seconds):
        value = seconds()
    if isinstance(value, str):
        text = value.strip()
        try:
            value = float(text)
        except ValueError:
            value = _duration_text(text)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError("a number of seconds, or a text such as '500ms', '5m' or '1h30m'")
    if not 0 <= value < float("inf"):
        raise ValueError("a duration of 0 or more")
    return float(value)


def _duration_text(text: str) -> float | None:
    total, at = 0.0, 0
    while match := _DURATION_PART.match(text, at):
        total += float(match[1]) * _SECONDS[match[2].lower()]
        at = match.end()
    return total if at and at == len(text) else None


def convert(option: Option, value: Any) -> Any:
    """``value``, a text or already of its type, as the option's type.

    Raises:
        ValueError: says what is wanted.
    """
    result = _CONVERT[option.type](value)
    if option.choices and result not in option.choices:
        raise ValueError("one of " + ", ".join(map(repr, option.choices)))
    return result


def _to_int(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError("a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("a whole number") from None


def _to_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError("a number") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise ValueError("a finite number")
    return number


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("true or false")


def _to_str(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("a text")
    return value


def _to_size(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a number of bytes, or a text such as '64k' or '16M'")
    return int(match[1]) * _SIZES[match[2].lower()]


def _to_list(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, (list, tuple)):
        return tuple(map(str, value))
    raise ValueError("texts with commas between them")


_CONVERT = {
    "int": _to_int,
    "float": _to_float,
    "bool": _to_bool,
    "str": _to_str,
    "duration": parse_duration,
    "size": _to_size,
    "list": _to_list,
}


def resolve_options(
    table: tuple[Option, ...],
    *sources: tuple[str, Mapping[str, Any]],
    what: str,
    any_option: bool = False,
) -> dict[str, Any]:
    """All options of a table with their values: defaults, then each source in turn.

    Args:
        table: the component's options.
        *sources: (where they come from, values), later ones win.
        what: the component, for errors.
        any_option: True hands on what the table doesn't name.

    Raises:
        ImproperlyConfigured: an unknown name, or a value that isn't what is wanted.
    """
    known = {option.name: option for option in table}
    values = {option.name: option.default for option in table}
    for source, given in sources:
        for name, value in given.items():
            option = known.get(name)
            if option is None:
                if not any_option:
                    raise _unknown(name, known, what, source)
                values[name] = value
                continue
            if value is None:  # "not set", as a configuration in Python writes it
                values[name] = option.default
                continue
            try:
                values[name] = convert(option, value)
            except ValueError as exc:
                shown = "" if SECRET_NAME.search(name) else f" is {value!r},"
                raise ImproperlyConfigured(
                    f"{what}: option {name!r} ({source}){shown} not {exc}",
                    hint=f"{name}: {option.doc}" if option.doc else "",
                ) from None
    return values


def _unknown(
    name: str, known: Mapping[str, Option], what: str, source: str
) -> ImproperlyConfigured:
    from caraway.plugins.lookup import nearest

    near = nearest(name, known)
    options = ", ".join(sorted(known)) or "none"
    hint = f"Did you mean {near!r}? " if near else ""
    return ImproperlyConfigured(
        f"{what} has no option {name!r} ({source})", hint=f"{hint}Its options: {options}."
    )
