"""What this bundle provides."""

from __future__ import annotations

from caraway.plugins import BackendEntry, Capability, Option, TransportEntry, hookimpl

_SCHEMES = ("redis", "rediss", "sentinel", "valkey", "valkeys", "socket")

_CONNECTION = (
    Option("socket_timeout", "duration", None, "For one command's answer; 5.", "seconds"),
    Option("socket_connect_timeout", "duration", None, "To connect; broker_connection_timeout."),
    Option("socket_keepalive", "bool", None, "Have the system notice dead peers; true."),
    Option("max_connections", "int", None, "Most of a process's pool; broker_pool_limit."),
    Option("health_check_interval", "duration", None, "Idle longer, it is asked first; 25."),
    Option("client_name", "str", None, "Shown by CLIENT LIST."),
    Option("global_keyprefix", "str", None, "Before every key and channel."),
    Option("hash_tag", "str", None, "Puts all keys in one slot of a cluster."),
    Option("master_name", "str", None, "The Sentinels' name of the master."),
    Option("min_other_sentinels", "int", None, "How many others a Sentinel must know; 0."),
    Option("ssl_cert_reqs", "str", None, "required, optional or none; required."),
    Option("ssl_ca_certs", "str", None, "File of the authorities' certificates."),
    Option("ssl_certfile", "str", None, "File of our certificate."),
    Option("ssl_keyfile", "str", None, "File of its key."),
    Option("ssl_check_hostname", "bool", None, "Compare the server's name; true."),
)
_BROKER = (
    Option("sep", "str", None, "Between a queue's name and a priority, in keys."),
    Option("priority_order", "str", None, "amqp: 9 first; celery: 0 first, as Celery; amqp."),
    Option("queue_order_strategy", "str", None, "round_robin, priority or sorted; round_robin."),
    Option("visibility_timeout", "duration", None, "Of what Celery's workers hold; 3600."),
    Option("fanout_patterns", "bool", None, "Channels carry the routing key; true."),
    Option("unacked_key", "str", None, "Hash of what Celery's workers hold."),
    Option("unacked_index_key", "str", None, "Sorted set of since when."),
    Option("unacked_mutex_key", "str", None, "Lock of putting it back."),
    Option("unacked_mutex_expire", "duration", None, "When that lock ends by itself; 300."),
    Option("unacked_restore_limit", "int", None, "Most put back at a time; 1000."),
)
# Celery's settings redis_host, redis_db ... are those of its result backend alone.
_RESULTS = (
    Option("result_chord_ordered", "bool", None, "Results of a chord in its order; true."),
    Option("host", "str", None, "Where the URL names none."),
    Option("port", "int", None, "Where the URL names none."),
    Option("db", "int", None, "Number of the database, where the URL names none."),
    Option("username", "str", None, "Where the URL names none."),
    Option("password", "str", None, "Where the URL names none."),
)


@hookimpl
def caraway_register_transports() -> list[TransportEntry]:
    return [
        TransportEntry(
            name="redis",
            schemes=_SCHEMES,
            joined=("sentinel",),
            factory="caraway_redis.transport:RedisTransport",
            summary="Redis and Valkey, sharing queues with Celery",
            driver="redis",
            any_option=True,
            options=(*_CONNECTION, *_BROKER),
            capabilities=frozenset(
                {
                    Capability.DELAY,
                    Capability.PRIORITY,
                    Capability.EXPIRY,
                    Capability.BROADCAST,
                    Capability.DEAD_LETTERS,
                    Capability.LEASE,
                    Capability.ADOPT,
                    Capability.REVOKE,
                    Capability.INSPECT,
                    Capability.PERSISTENT,
                    Capability.SHARED,
                    Capability.ATOMIC_COMMIT,
                }
            ),
        )
    ]


@hookimpl
def caraway_register_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="redis",
            schemes=_SCHEMES,
            joined=("sentinel",),
            factory="caraway_redis.backend:RedisBackend",
            summary="Redis and Valkey, in Celery's own keys",
            driver="redis",
            any_option=True,
            options=(*_CONNECTION, *_RESULTS),
            capabilities=frozenset(
                {
                    Capability.PUSH,
                    Capability.TTL,
                    Capability.GROUPS,
                    Capability.CHORDS,
                    Capability.PERSISTENT,
                    Capability.SHARED,
                }
            ),
        )
    ]
