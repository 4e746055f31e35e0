"""Settings of the broker connection."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from caraway.settings.declare import Setting, refused, void
from caraway.settings.values import ANY, BOOL, COUNT, DURATION, STR, TABLE, URL, optional

_NETWORK = "bundles of brokers and backends that are reached over a network"
_FOREVER = "a limit; a worker tries to reconnect for ever"


class Broker:
    """The group ``broker``."""

    broker_url = Setting(
        URL,
        "sqlite://",
        "The broker. `sqlite://` is the file `.caraway/caraway.db` of the project; several "
        "URLs with `;` between them are a failover list.",
        secret=True,
        celery="amqp://guest@localhost//",
    )
    broker_transport_options = Setting(
        TABLE, {}, "Options of the transport, as in the URL's query."
    )
    broker_lease = Setting(
        DURATION,
        30.0,
        "How long a worker that fell silent keeps its messages. Renewed by a process that "
        "tasks can't block, so it needn't be longer than tasks take.",
    )
    broker_publish_timeout = Setting(
        DURATION,
        5.0,
        "How long a call waits for the broker until it gives up, retries included.",
    )
    broker_connection_timeout = Setting(
        DURATION,
        4.0,
        "How long one attempt to connect may take.",
    )
    broker_connection_retry = Setting(
        BOOL,
        True,
        "A worker that lost its broker tries again instead of stopping.",
        awaits=_FOREVER,
    )
    broker_connection_retry_on_startup = Setting(
        optional(BOOL),
        None,
        "As `broker_connection_retry`, at the worker's start; none: the same.",
        awaits=_FOREVER,
    )
    broker_connection_max_retries = Setting(
        optional(COUNT),
        None,
        "Attempts before a worker gives up; none is for ever.",
        celery="100",
        awaits=_FOREVER,
    )
    broker_failover_strategy = Setting(
        optional(STR),
        None,
        "Order of the failover list: `round-robin` (none), `shuffle`.",
        awaits="a choice; the order of the list is kept",
    )
    broker_heartbeat = Setting(
        optional(DURATION),
        10.0,
        "Heartbeat of the connection, for brokers that have one; none or 0 has none. A broker "
        "that is silent for two is given up. Sent by a process that tasks can't block, so it "
        "needn't be longer than tasks take.",
        celery="120",
    )
    broker_heartbeat_checkrate = Setting(
        ANY,
        3.0,
        "How many times per heartbeat the connection is looked at.",
        awaits=_NETWORK,
    )
    broker_login_method = Setting(
        optional(STR),
        None,
        "Login method, for AMQP brokers: `PLAIN`, `AMQPLAIN`, `EXTERNAL`; none: the best.",
    )
    broker_pool_limit = Setting(
        optional(COUNT),
        10,
        "Most connections a process holds, for transports that pool them; none or 0 is "
        "without limit.",
    )
    broker_pool_acquire_timeout = Setting(
        optional(DURATION),
        None,
        "How long to wait for a pooled connection; none is for ever.",
        awaits=_NETWORK,
    )
    broker_use_ssl = Setting(
        ANY,
        False,
        "TLS: true, or a table of options.",
    )
    broker_native_delayed_delivery_queue_type = Setting(
        STR,
        "quorum",
        "Type of the queues of Celery's own delayed delivery, for AMQP brokers.",
    )
    broker_channel_error_retry = void(False, "channel errors are always recovered from.")
    broker_read_url = refused("Caraway reads and writes one broker; set broker_url instead.")
    broker_write_url = refused("Caraway reads and writes one broker; set broker_url instead.")
    broker_transport = refused("put the scheme into broker_url.")
    broker_host = refused("put the host into broker_url.")
    broker_port = refused("put the port into broker_url.")
    broker_user = refused("put the user into broker_url.")
    broker_password = refused("put the password into broker_url.")
    broker_vhost = refused("put the virtual host into broker_url's path.")
