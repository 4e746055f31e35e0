"""From a URL and options to a connection of kombu's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway.errors import ImproperlyConfigured
from caraway_kombu.facts import ALIASES, FACTS, Facts, facts_of
from caraway_kombu.faults import missing_driver

if TYPE_CHECKING:
    from caraway.interfaces import Context
    from caraway.url import Url

OURS = frozenset({"poll", "connect_timeout", "heartbeat", "journal"})
_NUMBER = re.compile(r"-?\d+(\.\d+)?\Z")
_WORDS = {"true": True, "false": False, "none": None}


class Address(Struct, frozen=True, kw_only=True):
    """Where a broker is, and by which kombu transport.

    Attributes:
        transport: kombu's transport: a name, or its class.
        target: kombu's URL.
        shown: the same, without its password, for people.
        facts: of the transport.
        connect_timeout: seconds to connect.
        heartbeat: AMQP's, seconds; 0 is none.
        ssl: for kombu's connection.
        login_method: AMQP's.
        options: the transport's.
    """

    transport: Any
    target: str
    shown: str
    facts: Facts
    connect_timeout: float = 4.0
    heartbeat: float = 0.0
    ssl: Any = False
    login_method: str | None = None
    options: dict[str, Any] = {}

    def connection(self) -> Any:
        """A connection of kombu's, not connected yet."""
        from importlib import import_module

        kombu: Any = import_module("kombu")
        made = kombu.Connection(
            self.target,
            transport=self.transport,
            connect_timeout=self.connect_timeout,
            heartbeat=self.heartbeat,
            ssl=self.ssl,
            login_method=self.login_method,
            transport_options=dict(self.options),
        )
        # Of a URL with its own +, kombu takes its own class whatever it was given.
        made.transport_cls = self.transport
        return made


def read(url: Url, options: Mapping[str, Any], context: Context, facts: Facts | None) -> Address:
    """The address of a URL.

    Args:
        url: ``kombu+SCHEME://...``, or ``SCHEME://...`` of a bundle that builds on this.
        options: as the registry made them.
        context: settings for what isn't given.
        facts: the bundle's own; None takes those of the scheme.

    Raises:
        ImproperlyConfigured: no such transport.
        ComponentUnusable: its driver isn't installed.
    """
    raw = url.raw or str(url)
    if url.scheme == "kombu":
        raw = raw.strip()[len("kombu+") :] if url.driver else ""
        if not raw:
            raise ImproperlyConfigured(
                "the URL doesn't say which of kombu's transports to use",
                hint="Write kombu+SCHEME://, for instance kombu+filesystem:///var/spool/shop.",
            )
    name, _, rest = raw.partition("://")
    name, _, inner = name.partition("+")
    found = facts or facts_of(name) or Facts(scheme=name, title=f"kombu's {name}")
    cls = _load(found.scheme if facts is not None else name, found)
    given = {k: v for k, v in options.items() if k not in OURS and v is not None}
    parsed = not getattr(cls, "can_parse_url", False)
    for key in url.query:
        # Without a parser of its own, a transport has no other use for the query.
        given.pop(key, None)
        if parsed and not inner and key not in OURS and not key.startswith("ssl"):
            given[key] = _literal(url.query[key])
    if facts is None and facts_of(name) is None:
        found = _observed(found, cls)
    prepare = getattr(cls, "caraway_options", None)
    if prepare is not None:
        given = prepare(url, given, context)
    settings = context.settings
    from caraway.url import redact

    shown = redact(raw)
    target = raw
    if parsed and not inner:
        # A name with dots or colons is no scheme for kombu, which is given the class.
        target = f"{'x' if '.' in name or ':' in name else name}://{_without_options(rest)}"
    return Address(
        transport=cls,
        target=target,
        shown=shown,
        facts=found,
        connect_timeout=_seconds(options, "connect_timeout", settings, 4.0),
        heartbeat=float(options.get("heartbeat") or 0.0),
        ssl=settings.get("broker_use_ssl") or name in ("amqps", "rediss"),
        login_method=settings.get("broker_login_method") or None,
        options={**found.options, **given},
    )


def _seconds(
    options: Mapping[str, Any], name: str, settings: Mapping[str, Any], default: float
) -> float:
    return float(options.get(name) or settings.get(f"broker_{name}") or settings.get(
        "broker_connection_timeout") or default)  # fmt: skip


def _without_options(rest: str) -> str:
    """A URL's end without its query, except what is about TLS, which kombu reads there."""
    head, _, query = rest.partition("?")
    kept = [pair for pair in query.split("&") if pair.startswith("ssl")]
    return f"{head}?{'&'.join(kept)}" if kept else head


def _literal(text: str) -> Any:
    """What a query says, as Python: numbers and true or false are told from texts."""
    if _NUMBER.match(text):
        return float(text) if "." in text else int(text)
    return _WORDS.get(text.lower(), text)


def _load(name: str, facts: Facts) -> type[Any]:
    from importlib.util import find_spec

    from kombu.transport import get_transport_cls

    if facts.module:
        try:
            there = find_spec(facts.module) is not None
        except ImportError:
            there = False
        if not there:
            raise missing_driver(facts, name, None)
    name = facts.transport or name
    try:
        found: type[Any] | None = get_transport_cls(name)
    except ImportError as exc:
        if ":" in name or "." in name:
            raise ImproperlyConfigured(
                f"kombu's transport {name!r} can't be imported: {exc}",
                hint="Write it as kombu+package.module:Class://, importable from here.",
            ) from exc
        raise missing_driver(facts, name, exc) from exc
    except (KeyError, AttributeError, ValueError) as exc:
        from difflib import get_close_matches

        known = sorted({*FACTS, *ALIASES})
        near = get_close_matches(name, known, 1)
        hint = f"Did you mean kombu+{near[0]}://?" if near else f"Known are {', '.join(known)}."
        raise ImproperlyConfigured(f"kombu has no transport {name!r}", hint=hint) from exc
    if found is None:
        raise ImproperlyConfigured(f"kombu has no transport {name!r}")
    return found


def _observed(facts: Facts, cls: type[Any]) -> Facts:
    """Of a transport that nobody described: as it says itself, and the worst of the rest."""
    from msgspec.structs import replace

    implements = getattr(cls, "implements", None)
    kinds: frozenset[str] = getattr(implements, "exchange_type", None) or frozenset()
    return replace(facts, fanout="fanout" in kinds)
