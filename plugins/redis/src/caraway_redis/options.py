"""What a URL, `broker_transport_options` and `result_backend_transport_options` may set.

The names are kombu's and Celery's, wherever the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct, ValidationError, convert
from msgspec.structs import replace

from caraway.errors import ImproperlyConfigured
from caraway.plugins.options import parse_duration

if TYPE_CHECKING:
    from caraway.url import Url

DEFAULT_SEP = "\x06\x16"
"""What kombu puts between a queue's name and a priority."""


class Options(Struct, frozen=True, kw_only=True):
    """Options of the transport and the backend.

    Attributes:
        socket_timeout: seconds for one command's answer; default 5.
        socket_connect_timeout: seconds to connect; 0 is the setting
            `broker_connection_timeout`.
        socket_keepalive: have the system notice dead peers; default True.
        socket_keepalive_options: ``{option number: value}`` of it.
        max_connections: most connections of this process's pool; 0 is the setting
            `broker_pool_limit`.  Consumers and those who wait for results have
            connections of their own beside it.
        health_check_interval: seconds after which an idle connection is asked whether it
            lives before it is used; 0 never asks; default 25.
        client_name: shown by ``CLIENT LIST``.
        global_keyprefix: before every key and channel, as kombu has it.
        sep: between a queue's name and a priority, in keys of lists.
        priority_steps: the lists that a queue has; a priority goes to the largest step
            that isn't above it.
        queue_order_strategy: ``round_robin`` serves all queues of a worker alike;
            ``priority`` those that are named first before the others, ``sorted`` those
            that come first by name.
        priority_order: ``amqp``, 9 first, as everywhere in Caraway; ``celery``, 0 first,
            as Celery's workers do on Redis: for queues that both serve.
        visibility_timeout: seconds after which what a Celery worker took and didn't
            acknowledge is put back, as Celery's workers do; 0 leaves it to them.
        fanout_prefix: what channels of remote control and events begin with: True for
            ``/<db>.``, False for nothing, or a text with ``{db}`` in it.
        fanout_patterns: channels carry the routing key, as Celery's do.
        unacked_key: hash in which Celery's workers keep what they took.
        unacked_index_key: sorted set of when they did.
        unacked_mutex_key: lock of the restoring.
        unacked_mutex_expire: seconds after which that lock ends by itself.
        unacked_restore_limit: most messages restored at a time.
        hash_tag: put before key names in braces, so that all lie in one slot of a cluster.
            Celery's keys have none: with it, only Caraway shares these queues.  A
            `global_keyprefix` with braces does the same.
        master_name: the Sentinels' name of the master.
        sentinel_kwargs: for the connections to the Sentinels (``password`` ...).
        min_other_sentinels: how many other Sentinels one must know to be believed.
        ssl_cert_reqs: ``required``, ``optional`` or ``none``.
        ssl_ca_certs: file of the authorities' certificates.
        ssl_certfile: file of our certificate.
        ssl_keyfile: file of its key.
        ssl_check_hostname: compare the server's name with its certificate.
        ssl_ca_path: folder of the authorities' certificates.
        ssl_password: of our key.
        ssl_ciphers: that may be used, as OpenSSL writes them.
        host: where the URL names none.
        port: where the URL names none.
        username: where the URL names none.
        password: where the URL names none.
        credential_provider: redis-py's, for passwords that change; itself, or as
            ``package.module:Class``.
        db: number of the database, where the URL names none.
        result_chord_ordered: results of a chord's header in the order of its members.
    """

    socket_timeout: float = 5.0
    socket_connect_timeout: float = 0.0
    socket_keepalive: bool = True
    socket_keepalive_options: dict[int, int] = {}
    max_connections: int = 0
    health_check_interval: float = 25.0
    client_name: str = ""
    global_keyprefix: str = ""
    sep: str = DEFAULT_SEP
    priority_steps: tuple[int, ...] = (0, 3, 6, 9)
    queue_order_strategy: str = "round_robin"
    priority_order: str = "amqp"
    visibility_timeout: float = 3600.0
    fanout_prefix: bool | str = True
    fanout_patterns: bool = True
    unacked_key: str = "unacked"
    unacked_index_key: str = "unacked_index"
    unacked_mutex_key: str = "unacked_mutex"
    unacked_mutex_expire: float = 300.0
    unacked_restore_limit: int = 1000
    hash_tag: str = ""
    master_name: str = ""
    sentinel_kwargs: dict[str, Any] = {}
    min_other_sentinels: int = 0
    ssl_cert_reqs: str = "required"
    ssl_ca_certs: str = ""
    ssl_certfile: str = ""
    ssl_keyfile: str = ""
    ssl_check_hostname: bool = True
    ssl_ca_path: str = ""
    ssl_password: str = ""
    ssl_ciphers: str = ""
    host: str = ""
    port: int = 0
    username: str = ""
    password: str = ""
    credential_provider: Any = None
    db: int | None = None
    result_chord_ordered: bool = True

    @property
    def tag(self) -> str:
        """The hash tag as it stands in keys."""
        return f"{{{self.hash_tag}}}" if self.hash_tag else ""

    @property
    def slot(self) -> str:
        """What all keys have in braces, so that they lie in one slot of a cluster; empty if
        nothing."""
        _, _, rest = (self.global_keyprefix + self.tag).partition("{")
        inside, brace, _ = rest.partition("}")
        return inside if brace else ""


IGNORED = frozenset(
    {
        "ack_emulation", "interval_max", "interval_start", "interval_step", "max_retries",
        "polling_interval", "retry_on_timeout", "retry_policy", "sentinel_fanout_compat",
        "socket_read_size", "unacked_restore_interval", "unacked_restore_throttle",
        "virtual_host",
    }
)  # fmt: skip
"""kombu's options that have no use here: taken, so that a configuration of Celery's
works, and without effect."""

OF_RESULTS = ("backend_use_ssl", "backend_health_check_interval", "backend_credential_provider")
"""Celery's settings ``redis_backend_...``, for results alone."""

_DURATIONS = frozenset(
    {
        "health_check_interval", "socket_connect_timeout", "socket_timeout",
        "unacked_mutex_expire", "visibility_timeout",
    }
)  # fmt: skip
_CHOICES = {
    "priority_order": {
        "amqp": "9 first",
        "celery": "0 first, as Celery does on Redis",
    },
    "queue_order_strategy": {
        "round_robin": "all alike",
        "priority": "the queue named first before the others",
        "sorted": "the queue that comes first by name",
    },
}


def for_results(options: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """Options of the backend, and its setting for TLS: see `OF_RESULTS`."""
    values = dict(options)
    own = {name: values.pop(name) for name in OF_RESULTS if name in values}
    ssl = own.pop("backend_use_ssl", None)
    for name, given in own.items():
        if given is not None:
            values[name.removeprefix("backend_")] = given
    return values, ssl


def read_options(url: Url, options: Mapping[str, Any], ssl: Mapping[str, Any]) -> Options:
    """Options given, over those in the URL's query, over the defaults.

    Args:
        url: of the component.
        options: as the registry made them, or a test gave them.
        ssl: of the setting for TLS, by redis-py's names.

    Raises:
        ImproperlyConfigured: an unknown name, or a value that doesn't fit.
    """
    known = Options.__struct_fields__
    values: dict[str, Any] = {name: value for name, value in ssl.items() if value is not None}
    values.update({k: v for k, v in url.query.items() if k not in options})
    values.update({k: v for k, v in options.items() if v is not None})
    for name in list(values):
        if name in IGNORED or name in OF_RESULTS:
            del values[name]
        elif name not in known:
            raise _unknown(url, name, known)
    try:
        for name in _DURATIONS & values.keys():
            values[name] = parse_duration(values[name])
        if "priority_steps" in values:
            values["priority_steps"] = _steps(values["priority_steps"])
        if "ssl_cert_reqs" in values:
            values["ssl_cert_reqs"] = _requirement(values["ssl_cert_reqs"])
        provider = _provider(values.pop("credential_provider", None))
        read = convert(values, Options, strict=False)
    except (ValidationError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"options of {url}: {exc}", hint="See docs/how-to/redis.md for what each takes."
        ) from exc
    for name, choices in _CHOICES.items():
        chosen = getattr(read, name)
        if chosen not in choices:
            known_ones = ", ".join(f"{choice!r} ({what})" for choice, what in choices.items())
            raise ImproperlyConfigured(
                f"option {name} of {url} is {chosen!r}", hint=f"It is one of {known_ones}."
            )
    return read if provider is None else replace(read, credential_provider=provider)


def _provider(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    from importlib import import_module

    module, _, name = value.replace(":", ".").rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ValueError(f"credential_provider {value!r} can't be imported: {exc}") from exc
    return found() if isinstance(found, type) else found


def _steps(value: Any) -> tuple[int, ...]:
    if isinstance(value, str):
        value = [part for part in value.replace("[", "").replace("]", "").split(",") if part]
    if not isinstance(value, Sequence):
        raise ValueError(f"priority_steps are numbers with commas between, not {value!r}")
    steps = tuple(sorted({int(step) for step in value}))
    if not steps or steps[0] != 0 or steps[-1] > 9:
        raise ValueError("priority_steps begin with 0 and go up to 9")
    return steps


def _requirement(value: Any) -> str:
    # Celery writes ssl.CERT_REQUIRED, "CERT_REQUIRED" or "required".
    name = str(getattr(value, "name", value)).lower().removeprefix("cert_")
    if name not in ("required", "optional", "none"):
        raise ValueError(f"ssl_cert_reqs is required, optional or none, not {value!r}")
    return name


def _unknown(url: Url, name: str, known: tuple[str, ...]) -> ImproperlyConfigured:
    from difflib import get_close_matches

    near = get_close_matches(name, known, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(known)}."
    return ImproperlyConfigured(f"unknown option {name!r} of {url}", hint=hint)
