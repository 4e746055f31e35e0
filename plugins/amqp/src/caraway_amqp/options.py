"""Where a RabbitMQ is, and what a URL and `broker_transport_options` may set.

The names are kombu's and Celery's, wherever the meaning is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct, ValidationError, convert

from caraway.errors import ImproperlyConfigured
from caraway.plugins.options import parse_duration

if TYPE_CHECKING:
    from caraway.interfaces.context import Context
    from caraway.url import Url

SCHEMES = frozenset({"amqp", "amqps", "pyamqp", "librabbitmq"})
"""Of URLs that mean a RabbitMQ."""
_TLS = ("ca_certs", "certfile", "keyfile", "cert_reqs", "server_hostname", "ciphers")
_TLS_VERSIONS = ("tls_minimum_version", "tls_maximum_version")
_TLS_IGNORED = frozenset(
    {"ssl_version", "version", "server_side", "do_handshake_on_connect", "suppress_ragged_eofs"}
)
"""py-amqp's options of TLS that have no use here: what a client does, it does anyway."""


class Options(Struct, frozen=True, kw_only=True):
    """Options of the transport.

    Attributes:
        heartbeat: seconds; 0 has none; None is the setting `broker_heartbeat`.
        connect_timeout: seconds to connect; 0 is `broker_connection_timeout`.
        login_method: PLAIN, AMQPLAIN or EXTERNAL; empty is `broker_login_method`.
        client_properties: shown by the broker's management pages.
        consumer_timeout: seconds, the broker's setting of the same name: half of it is how
            long one delivery is held before its message is renewed; 0 never does.
        ca_certs, certfile, keyfile, cert_reqs, server_hostname, ciphers: of TLS, as in
            `broker_use_ssl`.
    """

    heartbeat: float | None = None
    connect_timeout: float = 0.0
    login_method: str = ""
    client_properties: dict[str, Any] = {}
    consumer_timeout: float = 1800.0
    ca_certs: str = ""
    certfile: str = ""
    keyfile: str = ""
    cert_reqs: str = ""
    server_hostname: str = ""
    ciphers: str = ""


IGNORED = frozenset(
    {
        "confirm_publish", "confirm_timeout", "interval_max", "interval_start", "interval_step",
        "max_retries", "polling_interval", "queue_order_strategy", "read_timeout",
        "retry_policy", "socket_settings", "write_timeout", "failover_strategy",
        "errback", "channel_max", "ssl",
    }
)  # fmt: skip
"""kombu's options that have no use here: taken, so that a configuration of Celery's
works, and without effect.  Publishes are always confirmed."""


class Address(Struct, frozen=True, kw_only=True):
    """One broker, and how to talk to it.

    Attributes:
        shown: for people; without secrets.
        tls: None speaks without; else ``cert_reqs`` (a number of `ssl.VerifyMode`) and
            ``server_hostname``, and if given ``ca_certs``, ``certfile``, ``keyfile``,
            ``ciphers``, ``tls_minimum_version``, ``tls_maximum_version``.
        heartbeat: seconds; 0 for none.
        timeout: seconds to connect.
        others: the rest is as in the URL.
    """

    shown: str
    host: str
    port: int
    vhost: str
    username: str
    password: str
    tls: dict[str, Any] | None
    heartbeat: float
    timeout: float
    login: str
    properties: dict[str, Any]

    @property
    def place(self) -> tuple[str, int, str]:
        """What two connections to one broker have in common."""
        return self.host, self.port, self.vhost


def read_options(url: Url, options: Mapping[str, Any]) -> Options:
    """Options given, over those in the URL's query, over the defaults.

    Raises:
        ImproperlyConfigured: an unknown name, or a value that doesn't fit.
    """
    known = Options.__struct_fields__
    values: dict[str, Any] = {k: v for k, v in url.query.items() if k not in options}
    values.update({k: v for k, v in options.items() if v is not None})
    for name in list(values):
        if name in IGNORED:
            del values[name]
        elif name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(known)}."
            raise ImproperlyConfigured(f"unknown option {name!r} of {url}", hint=hint)
    try:
        for name in ("heartbeat", "connect_timeout", "consumer_timeout"):
            if name in values:
                values[name] = parse_duration(values[name])
        return convert(values, Options, strict=False)
    except (ValidationError, ValueError) as exc:
        raise ImproperlyConfigured(
            f"options of {url}: {exc}", hint="See docs/how-to/rabbitmq.md for what each takes."
        ) from exc


def read_address(url: Url, options: Options, context: Context) -> Address:
    """From a URL: ``amqp://user:password@host:port/vhost``, ``amqps://`` with TLS.

    The virtual host is as kombu reads it: none and ``/`` are ``/``, ``/x`` is ``x``,
    ``//x`` is ``/x``.

    Raises:
        ImproperlyConfigured: options of TLS that can't be.
    """
    settings = context.settings
    host = url.host or "localhost"
    tls = _tls(url, options, settings.get("broker_use_ssl"), host)
    port = url.port or (5671 if tls is not None else 5672)
    heartbeat = options.heartbeat
    if heartbeat is None:
        heartbeat = settings.get("broker_heartbeat", 10.0) or 0.0
    timeout = options.connect_timeout or settings.get("broker_connection_timeout") or 4.0
    return Address(
        shown=f"RabbitMQ at {host}:{port}",
        host=host,
        port=port,
        vhost=url.path[1:] or "/",
        username=url.username or "guest",
        password=url.password or ("" if url.username else "guest"),
        tls=tls,
        heartbeat=float(heartbeat),
        timeout=float(timeout),
        login=options.login_method or settings.get("broker_login_method") or "",
        properties=options.client_properties,
    )


def _tls(url: Url, options: Options, setting: Any, host: str) -> dict[str, Any] | None:
    """See `Address.tls`."""
    wanted = bool(setting) or url.scheme == "amqps" or url.driver == "ssl"
    if not wanted:
        return None
    given: dict[str, Any] = dict(setting) if isinstance(setting, Mapping) else {}
    given = {name.removeprefix("ssl_"): value for name, value in given.items()}
    given.update({name: getattr(options, name) for name in _TLS if getattr(options, name)})
    given = {name: value for name, value in given.items() if value is not None}
    for name in list(given):
        if name in _TLS_IGNORED:
            del given[name]
        elif name not in (*_TLS, *_TLS_VERSIONS):
            raise ImproperlyConfigured(
                f"unknown option {name!r} of TLS, in broker_use_ssl",
                hint=f"Known are {', '.join((*_TLS, *_TLS_VERSIONS))}.",
            )
    from ssl import CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED

    modes = {"required": CERT_REQUIRED, "optional": CERT_OPTIONAL, "none": CERT_NONE}
    wish = given.pop("cert_reqs", None)
    # Celery writes ssl.CERT_REQUIRED, "CERT_REQUIRED" or "required".
    name = str(getattr(wish, "name", wish) or "required").lower().removeprefix("cert_")
    if isinstance(wish, int) and not hasattr(wish, "name"):
        name = {int(mode): text for text, mode in modes.items()}.get(wish, "?")
    if name not in modes:
        raise ImproperlyConfigured(
            f"cert_reqs of {url} is {wish!r}", hint="Use 'required', 'optional' or 'none'."
        )
    if given.get("keyfile") and not given.get("certfile"):
        raise ImproperlyConfigured(
            "keyfile names a key, and no certfile the certificate that it belongs to",
            hint="Set certfile, too; both may name the same file.",
        )
    given["cert_reqs"] = int(modes[name])
    given.setdefault("server_hostname", host)
    return {key: int(v) if key in _TLS_VERSIONS else v for key, v in given.items()}


def unreadable(text: str) -> ImproperlyConfigured:
    """Files of TLS that can't be read, or an option that can't be."""
    return ImproperlyConfigured(
        f"the options of TLS can't be: {text}",
        hint="See ca_certs, certfile, keyfile and ciphers, in broker_use_ssl or the URL.",
    )
