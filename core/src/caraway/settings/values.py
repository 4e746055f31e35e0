"""Kinds of values: how each is checked, and how it is read from text.

A `Kind` holds two functions: ``check`` for values that come from Python or TOML, and
``read`` for text from the environment or the command line.  Both raise `ValueError`
with a sentence that says what is wanted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off", ""})
_SECRET_KEYS = ("password", "passwd", "secret", "token", "credential", "api_key", "private_key")


class Kind(Generic[T]):
    """What a setting's value may be.

    Attributes:
        name: the type as people write it, e.g. ``duration``.
        check: value from Python or TOML -> T; raises `ValueError`.
        read: text -> T; raises `ValueError`.
    """

    __slots__ = ("check", "name", "read")

    def __init__(self, name: str, check: Callable[[Any], T], read: Callable[[str], T]) -> None:
        self.name = name
        self.check = check
        self.read = read


def _check_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError("wants true or false")


def _read_bool(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError("wants true or false (also 1/0, yes/no, on/off)")


def integer(minimum: int | None = None, maximum: int | None = None) -> Kind[int]:
    """A whole number within bounds, both included."""

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("wants a whole number")
        _bounds(value, minimum, maximum)
        return value

    def read(text: str) -> int:
        try:
            number = int(text.strip().replace("_", ""))
        except ValueError:
            raise ValueError("wants a whole number") from None
        return check(number)

    return Kind("int", check, read)


def number(minimum: float | None = None) -> Kind[float]:
    """A number of at least ``minimum``."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value != value:
            raise ValueError("wants a number")
        _bounds(value, minimum, None)
        return float(value)

    def read(text: str) -> float:
        try:
            return check(float(text))
        except ValueError as exc:
            raise ValueError(str(exc) if "wants" in str(exc) else "wants a number") from None

    return Kind("float", check, read)


def _bounds(value: float, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None and value < minimum:
        raise ValueError(f"must be at least {minimum}")
    if maximum is not None and value > maximum:
        raise ValueError(f"must be at most {maximum}")


def seconds(value: Any) -> float:
    """A duration in seconds from a number, ``"1h30m"``-like text, or a timedelta.

    Units are ``ms``, ``s``, ``m``, ``h``, ``d``, ``w``; a bare number is seconds.

    Raises:
        ValueError: for anything else, for negative and for infinite durations.
    """
    wanted = 'wants a duration: seconds, or text such as "250ms", "90s", "1h30m"'
    if isinstance(value, bool):
        raise ValueError(wanted)
    if isinstance(value, (int, float)):
        result = float(value)
    elif hasattr(value, "total_seconds"):
        result = float(value.total_seconds())
    elif isinstance(value, str):
        result = _parse_duration(value.strip().lower(), wanted)
    else:
        raise ValueError(wanted)
    if not 0 <= result < float("inf"):
        raise ValueError("must be a duration of 0 seconds or more, and finite")
    return result


def _parse_duration(text: str, wanted: str) -> float:
    try:
        return float(text)
    except ValueError:
        pass
    import re

    if not re.fullmatch(r"(\d+(\.\d+)?\s*(ms|s|m|h|d|w)\s*)+", text, re.ASCII):
        raise ValueError(wanted)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)", text, re.ASCII)
    return float(sum(float(amount) * _UNITS[unit] for amount, unit in parts))


def _check_str(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise ValueError("wants text")


def _check_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ValueError("wants a list of names")
    items = tuple(sorted(value)) if isinstance(value, (set, frozenset)) else tuple(value)
    if not all(isinstance(item, str) for item in items):
        raise ValueError("wants a list of names")
    return items


def _read_names(text: str) -> tuple[str, ...]:
    if text.lstrip().startswith("["):
        return _check_names(_json(text))
    return tuple(part for part in (piece.strip() for piece in text.split(",")) if part)


def _check_items(value: Any) -> tuple[Any, ...]:
    if isinstance(value, (list, tuple)):
        return tuple(value)
    raise ValueError("wants a list")


def _check_table(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ValueError("wants a table (dict) with text keys")


def _json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as exc:
        raise ValueError(f"wants JSON here ({exc})") from None


def _read_any(text: str) -> Any:
    try:
        return _json(text)
    except ValueError:
        return text


def optional(kind: Kind[T]) -> Kind[T | None]:
    """The kind, or None; from text ``none`` or nothing at all."""

    def check(value: Any) -> T | None:
        return None if value is None else kind.check(value)

    def read(text: str) -> T | None:
        return None if text.strip().lower() in ("", "none") else kind.read(text)

    return Kind(f"{kind.name} or none", check, read)


def choice(*choices: str) -> Kind[str]:
    """One of these words."""

    def check(value: Any) -> str:
        if value in choices:
            return str(value)
        raise ValueError("must be one of " + ", ".join(choices))

    return Kind(" | ".join(choices), check, lambda text: check(text.strip()))


def _check_autoscale(value: Any) -> tuple[int, int]:
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    try:
        if isinstance(value, bool) or not isinstance(value, (list, tuple, int)):
            raise TypeError
        numbers = [int(part) for part in (value if not isinstance(value, int) else [value])]
        high, low = numbers if len(numbers) == 2 else (numbers[0], 0)
    except (TypeError, ValueError, IndexError):
        raise ValueError("wants most and least processes: 10,3") from None
    if len(numbers) > 2 or not 0 <= low <= high or high < 1:
        raise ValueError("wants most and least processes, the greater first: 10,3")
    return high, low


def _check_rate(value: Any) -> str | float:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError('wants a rate such as "10/m", or tasks a second')
    if isinstance(value, str):
        amount, _, unit = value.partition("/")
        try:
            good = float(amount) >= 0 and unit in ("", "s", "m", "h", "d")
        except ValueError:
            good = False
        if not good:
            raise ValueError('wants a rate such as "10/m" (units s, m, h, d)')
    elif value < 0:
        raise ValueError("must be at least 0")
    return value


def _check_delivery_mode(value: Any) -> int:
    modes = {"transient": 1, "persistent": 2, 1: 1, 2: 2}
    if not isinstance(value, bool) and isinstance(value, (int, str)) and value in modes:
        return modes[value]
    raise ValueError("must be 2 (persistent) or 1 (transient)")


def _read_delivery_mode(text: str) -> int:
    return _check_delivery_mode(int(text) if text.strip().isdigit() else text.strip())


BOOL: Kind[bool] = Kind("bool", _check_bool, _read_bool)
INT = integer()
COUNT = integer(0)
POSITIVE = integer(1)
DURATION: Kind[float] = Kind("duration", seconds, seconds)
STR: Kind[str] = Kind("str", _check_str, str)
URL: Kind[str] = Kind("url", _check_str, str.strip)
NAMES: Kind[tuple[str, ...]] = Kind("list of str", _check_names, _read_names)
ITEMS: Kind[tuple[Any, ...]] = Kind("list", _check_items, _read_names)
TABLE: Kind[dict[str, Any]] = Kind("table", _check_table, lambda text: _check_table(_json(text)))
ANY: Kind[Any] = Kind("any", lambda value: value, _read_any)
AUTOSCALE: Kind[tuple[int, int]] = Kind("most,least", _check_autoscale, _check_autoscale)
RATE: Kind[str | float] = Kind("rate", _check_rate, lambda text: _check_rate(text.strip()))
DELIVERY_MODE: Kind[int] = Kind("1 | 2", _check_delivery_mode, _read_delivery_mode)


def redact(value: Any) -> Any:
    """The value with passwords of URLs, and of keys named like secrets, blacked out."""
    if isinstance(value, str):
        from caraway.url import redact as redact_text

        return redact_text(value) if "://" in value or "=" in value else value
    if isinstance(value, Mapping):
        from caraway.url import HIDDEN

        return {
            key: HIDDEN if is_secret(str(key)) and item else redact(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(item) for item in value]
    return value


def is_secret(key: str) -> bool:
    """True if a key of this name holds what nobody should read in a log."""
    lowered = key.lower()
    return any(word in lowered for word in _SECRET_KEYS)
