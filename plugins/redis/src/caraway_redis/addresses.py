"""Where a Redis is, and what connects to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from caraway.errors import ImproperlyConfigured

if TYPE_CHECKING:
    from ssl import SSLContext

    from caraway.url import Url
    from caraway_redis.options import Options

_MOST_MOVES = 8
"""How often a cluster may send us on before its nodes are taken to disagree."""


class Address(Struct):
    """One server, or the Sentinels that know it.

    Attributes:
        shown: for people; without secrets.
        hosts: (host, port) of the server, or of each Sentinel.
        path: of a unix socket, empty for a network address.
        db: number of the database.
        tls: speak TLS.
        sentinel: the hosts are Sentinels.
        username: to authenticate with.
        password: to authenticate with.
    """

    shown: str
    hosts: list[tuple[str, int]]
    path: str
    db: int
    tls: bool
    sentinel: bool
    username: str
    password: str

    @classmethod
    def read(cls, url: Url, options: Options, *, tls: bool) -> Address:
        """From a URL: ``redis://user:password@host:port/db``, ``rediss://`` with TLS,
        ``redis+socket:///path/to.sock?db=1``, ``sentinel://host:port,host:port/db``.

        Raises:
            ImproperlyConfigured: it can't be one.
        """
        unix = "socket" in (url.scheme, url.driver) or url.driver == "unix"
        sentinel = url.scheme == "sentinel"
        path = ""
        if unix:
            path = url.path or url.host
            if not path:
                raise ImproperlyConfigured(
                    f"{url} names no socket", hint="Write redis+socket:///run/redis/redis.sock."
                )
            number = url.query.get("virtual_host", "").lstrip("/")
        else:
            number = url.path.strip("/")
        db = _number(number, url) if number else options.db or 0
        if sentinel and not options.master_name:
            raise ImproperlyConfigured(
                f"{url} doesn't say which master the Sentinels are to be asked for",
                hint='Set master_name: broker_transport_options = { master_name = "mymaster" }.',
            )
        port = options.port or (26379 if sentinel else 6379)
        named = url.host or options.host or "localhost"
        hosts = [_host(part.strip(), port) for part in named.split(",") if part.strip()]
        if url.port is not None:
            hosts = [(hosts[0][0], url.port)]
        shown = path or ", ".join(f"{host}:{number}" for host, number in hosts)
        return cls(
            shown=f"Redis at {shown}" if not sentinel else f"Redis by the Sentinels at {shown}",
            hosts=hosts,
            path=path,
            db=db,
            tls=tls or url.scheme in ("rediss", "valkeys") or url.driver == "ssl",
            sentinel=sentinel,
            username=url.username or options.username,
            password=url.password or options.password,
        )

    @property
    def same(self) -> tuple[Any, ...]:
        """Equal for two addresses of one database."""
        hosts = tuple(sorted(("127.0.0.1" if h == "localhost" else h, p) for h, p in self.hosts))
        return (self.path or hosts, self.db, self.sentinel)


def connector(address: Address, options: Options, timeout: float) -> Callable[[int], Any]:
    """A function that makes connections for a version of the protocol, not connected yet:
    `PlainConnection`, or redis-py's where more is asked for."""
    if not (
        address.tls or address.sentinel or options.slot or options.credential_provider is not None
    ):
        from caraway_redis.plain import PlainConnection

        return lambda protocol: PlainConnection(address, options, protocol)
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    common: dict[str, Any] = {
        "db": address.db,
        "socket_timeout": options.socket_timeout,
        "socket_connect_timeout": timeout,
        "client_name": options.client_name or None,
        "retry": Retry(NoBackoff(), 0),
        "encoding_errors": "surrogateescape",
    }
    if options.credential_provider is not None:
        common["credential_provider"] = options.credential_provider
    else:
        common["username"] = address.username or None
        common["password"] = address.password or None
    import redis

    # redis-py types only a part of itself.
    unix: Any = redis.UnixDomainSocketConnection

    if address.path:
        return lambda protocol: unix(path=address.path, protocol=protocol, **common)
    common["socket_keepalive"] = options.socket_keepalive
    if options.socket_keepalive_options:
        common["socket_keepalive_options"] = options.socket_keepalive_options
    kind: Any = redis.Connection
    if address.tls:
        kind = _secured(kind, options)
    if address.sentinel:
        return _by_sentinel(kind, common, address, options, timeout)
    if options.slot:
        return _in_cluster(kind, common, address, options)

    def connect(protocol: int) -> Any:
        host, port = address.hosts[0]
        return kind(host=host, port=port, protocol=protocol, **common)

    return connect


def _secured(kind: Any, options: Options) -> Any:
    """The same kind of connection, with TLS: redis-py's own reads all certificates anew
    for each connection, which takes longer than all the rest."""
    contexts: list[SSLContext] = []

    class Secured(kind):  # type: ignore[misc]
        def _connect(self) -> Any:
            if not contexts:
                contexts.append(_tls(options))
            plain = super()._connect()
            try:
                return contexts[0].wrap_socket(plain, server_hostname=self.host)
            except BaseException:
                plain.close()
                raise

    return Secured


def _tls(options: Options) -> SSLContext:
    import ssl

    needs = options.ssl_cert_reqs
    try:
        made = ssl.create_default_context(
            cafile=options.ssl_ca_certs or None, capath=options.ssl_ca_path or None
        )
        made.check_hostname = options.ssl_check_hostname and needs != "none"
        made.verify_mode = ssl.VerifyMode[f"CERT_{needs.upper()}"]
        if options.ssl_certfile:
            made.load_cert_chain(
                options.ssl_certfile, options.ssl_keyfile or None, options.ssl_password or None
            )
        if options.ssl_ciphers:
            made.set_ciphers(options.ssl_ciphers)
    except OSError as exc:  # SSLErrors are
        raise ImproperlyConfigured(
            f"the certificates for TLS can't be used: {exc}",
            hint="Look at ssl_ca_certs, ssl_ca_path, ssl_certfile, ssl_keyfile, ssl_ciphers.",
        ) from exc
    return made


def _by_sentinel(
    kind: Any, common: dict[str, Any], address: Address, options: Options, timeout: float
) -> Callable[[int], Any]:
    from redis.sentinel import Sentinel

    # One that is away costs a moment: then the next one is asked.
    asked = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "retry": common["retry"]}
    finder: Any = Sentinel
    sentinels = finder(
        address.hosts,
        min_other_sentinels=options.min_other_sentinels,
        sentinel_kwargs={**asked, **options.sentinel_kwargs},
    )

    class ToMaster(kind):  # type: ignore[misc]
        """Asks for the master at each connecting: it may be another one by then."""

        def connect(self) -> Any:
            self.host, self.port = sentinels.discover_master(options.master_name)
            return super().connect()

    return lambda protocol: ToMaster(host="", port=0, protocol=protocol, **common)


def _in_cluster(
    kind: Any, common: dict[str, Any], address: Address, options: Options
) -> Callable[[int], Any]:
    from redis import exceptions as driver

    probe = options.global_keyprefix + options.tag
    nodes = list(address.hosts)  # that are known, the likely owner of our slot first

    class ToOwner(kind):  # type: ignore[misc]
        """Goes to the node that has our keys: it may be another one by then.  A server
        that is no cluster is taken as it is."""

        def connect(self) -> Any:
            failed: Exception | None = None
            ahead = list(nodes)
            for _ in range(len(ahead) + _MOST_MOVES):
                if not ahead:
                    break
                self.host, self.port = node = ahead.pop(0)
                try:
                    super().connect()
                    owner = self._owner()
                except (driver.RedisError, OSError) as exc:
                    failed = exc
                    self.disconnect()
                    continue
                if owner is None:
                    if nodes[0] != node:
                        nodes[:] = [node, *[other for other in nodes if other != node]]
                    return
                self.disconnect()
                ahead.insert(0, owner)
            raise failed or driver.ConnectionError("the nodes of the cluster disagree")

        def _owner(self) -> tuple[str, int] | None:
            """Another node, if our keys are there."""
            self.send_command("CLUSTER", "SLOTS")
            try:
                for slots in self.read_response():
                    for node in slots[2:]:
                        known = (_text(node[0]) or self.host, int(node[1]))
                        if known not in nodes:
                            nodes.append(known)
            except driver.ResponseError:
                pass  # no cluster, or we may not ask
            self.send_command("EXISTS", probe)
            try:
                self.read_response()
            except driver.MovedError as moved:
                return (moved.host or self.host, moved.port)
            except driver.AskError:
                pass  # the slot is about to move, and until then it is here
            return None

    return lambda protocol: ToOwner(host="", port=0, protocol=protocol, **common)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _host(text: str, port: int) -> tuple[str, int]:
    # A list of hosts is handed over as it was written; one IPv6 address without brackets.
    if text.count(":") > 1 and not text.startswith("["):
        return text, port
    found = re.fullmatch(r"\[?(.*?)\]?(?::(\d+))?", text)
    assert found is not None  # it matches everything
    return found[1], int(found[2]) if found[2] else port


def _number(text: str, url: Url) -> int:
    if not text:
        return 0
    if not text.isdigit():
        raise ImproperlyConfigured(
            f"{url}: the database is a number, not {text!r}",
            hint="Write it as in redis://localhost:6379/0.",
        )
    return int(text)
