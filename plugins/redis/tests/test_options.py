"""What URLs and options say, without a server."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from caraway import Caraway
from caraway.errors import ImproperlyConfigured
from caraway.plugins import Option
from caraway.plugins.options import resolve_options
from caraway.url import Url
from caraway_redis.addresses import Address
from caraway_redis.keys import Keys
from caraway_redis.options import IGNORED, OF_RESULTS, Options, for_results, read_options
from caraway_redis.plugin import caraway_register_backends, caraway_register_transports
from caraway_redis.results import prefix


def read(url: str = "redis://localhost/0", **options: Any) -> Options:
    return read_options(Url.parse(url), options, {})


def address(url: str, *, tls: bool = False, **options: Any) -> Address:
    parsed = Url.parse(url)
    return Address.read(parsed, read_options(parsed, options, {}), tls=tls)


# -- options ---------------------------------------------------------------------------


def test_all_options_of_kombu_are_taken() -> None:
    kombu = {
        "sep": ":", "ack_emulation": True, "unacked_key": "u", "unacked_index_key": "i",
        "unacked_mutex_key": "m", "unacked_mutex_expire": 60, "visibility_timeout": 600,
        "unacked_restore_limit": None, "unacked_restore_interval": 5,
        "unacked_restore_throttle": 2, "fanout_prefix": True, "fanout_patterns": True,
        "global_keyprefix": "shop:", "socket_timeout": 5, "socket_connect_timeout": 5,
        "socket_keepalive": True, "socket_keepalive_options": {6: 30},
        "queue_order_strategy": "round_robin", "max_connections": 20,
        "health_check_interval": 25, "retry_on_timeout": True, "priority_steps": [0, 5, 9],
        "client_name": "shop", "master_name": "mymaster", "min_other_sentinels": 1,
        "sentinel_kwargs": {"password": "x"}, "sentinel_fanout_compat": True,
        "polling_interval": 1, "max_retries": 3, "interval_start": 0, "interval_step": 0.2,
        "interval_max": 1, "socket_read_size": 65536,
    }  # fmt: skip
    got = read(**kombu)
    assert got.sep == ":"
    assert got.priority_steps == (0, 5, 9)
    assert got.visibility_timeout == 600.0
    assert got.max_connections == 20
    assert got.sentinel_kwargs == {"password": "x"}
    # What is taken without effect is so because it says so, not by chance.
    silent = {name for name in kombu if name not in Options.__struct_fields__}
    assert silent <= IGNORED
    assert not IGNORED & set(Options.__struct_fields__)


def test_options_are_taken_from_the_url_and_those_given_win() -> None:
    got = read("redis://localhost/0?visibility_timeout=1h&sep=-&max_connections=3", sep="+")
    assert (got.visibility_timeout, got.sep, got.max_connections) == (3600.0, "+", 3)


def test_an_unknown_option_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(ImproperlyConfigured, match="visibilty_timeout") as caught:
        read(visibilty_timeout=5)
    assert "visibility_timeout" in str(caught.value.hint)
    with pytest.raises(ImproperlyConfigured) as caught:
        read(ca_certs="/a")
    assert "ssl_ca_certs" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("priority_steps", "1,2", "begin with 0"),
        ("priority_steps", [0, 10], "up to 9"),
        ("priority_steps", 3, "commas"),
        ("priority_order", "up", "priority_order"),
        ("queue_order_strategy", "random", "round_robin"),
        ("ssl_cert_reqs", "maybe", "required"),
        ("socket_timeout", "soon", "seconds"),
        ("max_connections", "many", "max_connections"),
        ("credential_provider", "no.such.module", "credential_provider"),
        ("sentinel_kwargs", "x", "sentinel_kwargs"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_says_what_does(
    name: str, value: Any, says: str
) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        read(**{name: value})
    assert says in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("value", [ssl.CERT_NONE, "CERT_NONE", "none", "None"])
def test_requirements_of_certificates_are_read_as_celery_writes_them(value: Any) -> None:
    assert read_options(Url.parse("rediss://h"), {}, {"ssl_cert_reqs": value}).ssl_cert_reqs == (
        "none"
    )


class Provider:
    def get_credentials(self) -> tuple[str, str]:
        return "user", "secret"


def test_a_provider_of_credentials_is_given_or_named() -> None:
    mine = Provider()
    assert read(credential_provider=mine).credential_provider is mine
    found = read(credential_provider="redis.credentials.UsernamePasswordCredentialProvider")
    assert hasattr(found.credential_provider, "get_credentials")


def test_settings_of_celery_named_redis_backend_mean_results_alone() -> None:
    table = {
        "backend_use_ssl": {"ssl_cert_reqs": ssl.CERT_NONE},
        "backend_health_check_interval": 7,
        "backend_credential_provider": Provider(),
        "max_connections": 4,
    }
    own, tls = for_results(table)
    got = read_options(Url.parse("redis://h"), own, tls)
    assert (got.health_check_interval, got.max_connections) == (7.0, 4)
    assert got.ssl_cert_reqs == "none"
    assert isinstance(got.credential_provider, Provider)
    broker = read(**table)
    assert (broker.health_check_interval, broker.max_connections) == (25.0, 4)
    assert broker.credential_provider is None
    assert set(OF_RESULTS) < {*table}


def test_tables_of_the_entries_name_options_that_there_are() -> None:
    for entry in (*caraway_register_transports(), *caraway_register_backends()):
        names = [option.name for option in entry.options]
        assert set(names) <= set(Options.__struct_fields__)
        assert len(names) == len(set(names))


def test_where_a_redis_is_by_celery_s_settings_is_where_results_are() -> None:
    """`redis_host`, `redis_db` and the like are Celery's for its result backend."""
    (transport,) = caraway_register_transports()
    (backend,) = caraway_register_backends()

    def names(options: tuple[Option, ...]) -> set[str]:
        return {option.name for option in options}

    moved = {"host", "port", "db", "username", "password"}
    assert moved <= names(backend.options)
    assert not moved & names(transport.options)


def test_an_entry_s_options_are_converted_by_their_table() -> None:
    (transport,) = caraway_register_transports()
    got = resolve_options(
        transport.options,
        ("URL", {"visibility_timeout": "2h", "socket_keepalive": "no", "priority_steps": "0,9"}),
        what="transport",
        any_option=True,
    )
    read_back = read(**got)
    assert read_back.visibility_timeout == 7200.0
    assert read_back.socket_keepalive is False
    assert read_back.priority_steps == (0, 9)


def test_settings_of_an_app_reach_broker_and_results() -> None:
    app = Caraway(
        "shop",
        broker="redis://broker/0",
        backend="redis://",
        set_as_current=False,
        broker_pool_limit=7,
        broker_transport_options={"visibility_timeout": 60},
        broker_use_ssl={"ssl_cert_reqs": "none"},
        redis_host="results",
        redis_db=3,
        redis_password="tulip",
        redis_socket_timeout=None,
        redis_socket_connect_timeout=2.5,
        redis_retry_on_timeout=True,
        redis_backend_use_ssl={"ssl_ca_certs": "/ca.pem"},
        redis_backend_health_check_interval=9,
        result_backend_transport_options={"global_keyprefix": "shop"},
    )
    link = app.transport.link  # type: ignore[attr-defined]
    assert (link.address.hosts, link.address.db) == ([("broker", 6379)], 0)
    assert (link.address.tls, link.address.password) == (True, "")
    assert link.options.visibility_timeout == 60.0
    assert (link.options.ssl_cert_reqs, link.options.ssl_ca_certs) == ("none", "")
    assert (link.options.socket_timeout, link.options.socket_connect_timeout) == (5.0, 2.5)
    assert link.options.health_check_interval == 25.0
    results = app.backend.link  # type: ignore[attr-defined]
    assert (results.address.hosts, results.address.db) == ([("results", 6379)], 3)
    assert (results.address.tls, results.address.password) == (True, "tulip")
    assert (results.options.ssl_cert_reqs, results.options.ssl_ca_certs) == ("required", "/ca.pem")
    assert results.options.health_check_interval == 9.0
    assert results.options.socket_connect_timeout == 2.5
    assert app.backend.result_key == "shop_celery-task-meta-"  # type: ignore[attr-defined]
    assert link._most == results._most == 7
    app.close()


# -- addresses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "hosts", "db", "tls"),
    [
        ("redis://", [("localhost", 6379)], 0, False),
        ("redis://h", [("h", 6379)], 0, False),
        ("redis://h:7000/3", [("h", 7000)], 3, False),
        ("rediss://h:7000/3", [("h", 7000)], 3, True),
        ("valkey://h/2", [("h", 6379)], 2, False),
        ("valkeys://h/2", [("h", 6379)], 2, True),
        ("redis://[::1]:7000/1", [("::1", 7000)], 1, False),
    ],
)
def test_a_url_says_where_the_server_is(
    url: str, hosts: list[tuple[str, int]], db: int, tls: bool
) -> None:
    got = address(url)
    assert (got.hosts, got.db, got.tls, got.path) == (hosts, db, tls, "")


def test_secrets_of_a_url_are_used_and_never_shown() -> None:
    got = address("redis://shop:tulip@h/0")
    assert (got.username, got.password) == ("shop", "tulip")
    assert "tulip" not in got.shown


def test_options_fill_in_what_the_url_leaves_out_and_no_more() -> None:
    options: dict[str, Any] = {
        "host": "other", "port": 7001, "db": 4, "username": "u", "password": "p",
    }  # fmt: skip
    got = address("redis://", **options)
    assert (got.hosts, got.db, got.username, got.password) == ([("other", 7001)], 4, "u", "p")
    got = address("redis://a:b@h:7000/2", **options)
    assert (got.hosts, got.db, got.username, got.password) == ([("h", 7000)], 2, "a", "b")


@pytest.mark.parametrize(
    "url",
    ["redis+socket:///run/redis.sock?virtual_host=3", "socket:///run/redis.sock?virtual_host=/3"],
)
def test_a_url_may_name_a_unix_socket(url: str) -> None:
    got = address(url)
    assert (got.path, got.db) == ("/run/redis.sock", 3)
    assert "/run/redis.sock" in got.shown


def test_a_url_may_name_several_sentinels() -> None:
    got = address("sentinel://a:1,b,[::1]:3/2", master_name="mymaster")
    assert got.hosts == [("a", 1), ("b", 26379), ("::1", 3)]
    assert (got.sentinel, got.db) == (True, 2)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sentinel://a:1/0", "master_name"),
        ("redis://h/shop", "number"),
        ("redis+socket://", "socket"),
    ],
)
def test_a_url_that_can_not_be_is_an_error(url: str, says: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        address(url)
    assert says in f"{caught.value} {caught.value.hint}"


def test_two_names_of_this_machine_are_one_database() -> None:
    assert address("redis://localhost/1").same == address("redis://127.0.0.1:6379/1").same
    assert address("redis://localhost/1").same != address("redis://localhost/2").same


# -- names of keys ---------------------------------------------------------------------


def test_lists_of_priorities_are_named_as_kombu_names_them() -> None:
    keys = Keys(read(global_keyprefix="shop:"))
    assert keys.list("mails", 0) == "shop:mails"
    assert keys.list("mails", 6) == "shop:mails\x06\x166"
    assert keys.unacked == "shop:unacked"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ""),
        ({"global_keyprefix": "shop"}, "shop_"),
        ({"global_keyprefix": "shop:"}, "shop:"),
        ({"global_keyprefix": "shop-"}, "shop-"),
        ({"global_keyprefix": "shop:", "hash_tag": "x"}, "shop:{x}"),
        ({"global_keyprefix": "{x}"}, "{x}_"),
    ],
)
def test_results_have_the_prefix_that_celery_gives_them(
    options: dict[str, Any], wanted: str
) -> None:
    assert prefix(read(**options)) == wanted


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, ""),
        ({"hash_tag": "x"}, "x"),
        ({"global_keyprefix": "shop:", "hash_tag": "x"}, "x"),
        ({"global_keyprefix": "{x}"}, "x"),
        ({"global_keyprefix": "{x}", "hash_tag": "y"}, "x"),
        ({"global_keyprefix": "{x"}, ""),
        ({"global_keyprefix": "{}"}, ""),
        ({"global_keyprefix": "{}", "hash_tag": "x"}, ""),
    ],
)
def test_all_keys_are_in_one_slot_if_the_first_braces_hold_something(
    options: dict[str, Any], wanted: str
) -> None:
    assert read(**options).slot == wanted


@pytest.mark.parametrize("what", ["transport", "backend"])
def test_celerys_list_of_sentinels_is_one_broker(what: str) -> None:
    url = "sentinel://:secret@one:26379/3;sentinel://two:26380;sentinel://three"
    options = {"master_name": "mymaster"}
    app = Caraway(
        "sentinels", broker=url, backend=url, set_as_current=False,
        broker_transport_options=options, result_backend_transport_options=options,
    )  # fmt: skip
    address = getattr(app, what).link.address
    assert address.hosts == [("one", 26379), ("two", 26380), ("three", 26379)]
    assert (address.db, address.password, address.sentinel) == (3, "secret", True)
    app.close()
