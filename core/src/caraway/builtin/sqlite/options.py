"""What a URL may set, with units and defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from msgspec import Struct, ValidationError, convert

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from collections.abc import Mapping

    from caraway.url import Url

T = TypeVar("T")


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the three components.

    Attributes:
        synchronous: ``full`` survives a power cut; ``normal`` may lose the last moments
            before one, never before a crash of processes; ``off`` leaves it all to the
            operating system, and a power cut may corrupt the file.
        busy_timeout: seconds to wait for other processes' transactions; default 5.
        poll_interval: seconds after which a waiting call looks by itself, should a wake
            have got lost; default 1.
        cache_size: MiB of pages that a connection may keep; default 8.
        mmap_size: MiB of the file to map for reading; default 0, none.
        network: ``allow`` takes a file on a network file system, which only one machine
            may open then; default ``refuse``.
    """

    synchronous: str = "full"
    busy_timeout: float = 5.0
    poll_interval: float = 1.0
    cache_size: int = 8
    mmap_size: int = 0
    network: str = "refuse"


_CHOICES = {"synchronous": ("full", "normal", "off"), "network": ("refuse", "allow")}


def read_options(url: Url, options: Mapping[str, Any]) -> Options:
    """Options given, over those in the URL's query, over the defaults.

    Raises:
        ImproperlyConfigured: an unknown name or a value that doesn't fit.
    """
    values = {**url.query, **options}
    try:
        read = convert(values, Options, strict=False)
    except ValidationError as exc:
        raise ImproperlyConfigured(
            f"options of {url}: {exc}", hint=f"Known are {', '.join(Options.__struct_fields__)}."
        ) from exc
    for name, choices in _CHOICES.items():
        if getattr(read, name) not in choices:
            raise ImproperlyConfigured(
                f"option {name} of {url} is {getattr(read, name)!r}",
                hint=f"Use one of {', '.join(choices)}.",
            )
    if min(read.busy_timeout, read.cache_size, read.mmap_size) < 0 or read.poll_interval <= 0:
        raise ImproperlyConfigured(
            f"an option of {url} is negative, or poll_interval is 0", hint="Give a positive number."
        )
    return read
