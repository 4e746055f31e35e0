"""The bundles of the project, for the error that says what to install.

Generated from extras-matrix.toml by core/tools/matrix.py.  Do not edit.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Bundle(Struct, frozen=True):
    """A bundle: the name of its extra, its distribution, what it provides.

    Attributes:
        name: of the extra, as in ``caraway[redis]``.
        dist: distribution.
        status: ``shipped`` or ``planned``.
        summary: one line.
        roles: schemes or names by role.
    """

    name: str
    dist: str
    status: str
    summary: str
    roles: dict[str, tuple[str, ...]]


# fmt: off
BUNDLES: Final[tuple[Bundle, ...]] = (
    Bundle(
        "auth", "caraway-auth", "planned",
        "Signed messages: X.509 certificates, as Celery's `auth` serializer.",
        {
            "serializer": (
                "auth",
                "application/data",
            ),
        },
    ),
    Bundle(
        "msgpack", "caraway-msgpack", "shipped",
        "MessagePack: small, fast, binary.",
        {
            "serializer": (
                "msgpack",
                "application/x-msgpack",
            ),
        },
    ),
    Bundle(
        "yaml", "caraway-yaml", "planned",
        "YAML, for messages that people read and write.",
        {
            "serializer": (
                "yaml",
                "application/x-yaml",
            ),
        },
    ),
    Bundle(
        "eventlet", "caraway-eventlet", "planned",
        "Worker pool of green threads; in maintenance mode upstream.",
        {
            "pool": (
                "eventlet",
            ),
        },
    ),
    Bundle(
        "gevent", "caraway-gevent", "planned",
        "Worker pool of green threads.",
        {
            "pool": (
                "gevent",
            ),
        },
    ),
    Bundle(
        "librabbitmq", "caraway-librabbitmq", "shipped",
        "RabbitMQ, for configurations that name librabbitmq: what runs is caraway-amqp.",
        {
            "transport": (
                "librabbitmq",
            ),
        },
    ),
    Bundle(
        "redis", "caraway-redis", "shipped",
        "Redis and Valkey: broker and results, sharing queues with Celery.",
        {
            "transport": (
                "redis",
                "rediss",
                "sentinel",
                "valkey",
                "valkeys",
                "socket",
            ),
            "backend": (
                "redis",
                "rediss",
                "sentinel",
                "valkey",
                "valkeys",
                "socket",
            ),
        },
    ),
    Bundle(
        "amqp", "caraway-amqp", "shipped",
        "RabbitMQ: broker, and results over reply queues.",
        {
            "transport": (
                "amqp",
                "amqps",
                "pyamqp",
            ),
            "backend": (
                "rpc",
            ),
        },
    ),
    Bundle(
        "kombu", "caraway-kombu", "shipped",
        "Any transport of kombu's, as `kombu+SCHEME://`.",
        {
            "transport": (
                "kombu",
                "filesystem",
                "mongodb",
                "etcd",
                "azurestoragequeues",
                "azureservicebus",
                "gcpubsub",
                "confluentkafka",
                "kafka",
                "pgmq",
                "qpid",
            ),
        },
    ),
    Bundle(
        "sqs", "caraway-sqs", "planned",
        "Amazon SQS.",
        {
            "transport": (
                "sqs",
            ),
        },
    ),
    Bundle(
        "zookeeper", "caraway-zookeeper", "planned",
        "Apache ZooKeeper.",
        {
            "transport": (
                "zookeeper",
            ),
        },
    ),
    Bundle(
        "pyro", "caraway-pyro", "planned",
        "A broker process over Pyro.",
        {
            "transport": (
                "pyro",
            ),
        },
    ),
    Bundle(
        "slmq", "caraway-slmq", "planned",
        "SoftLayer Message Queue, whose service no longer exists.",
        {
            "transport": (
                "slmq",
            ),
        },
    ),
    Bundle(
        "consul", "caraway-consul", "planned",
        "HashiCorp Consul: broker and results.",
        {
            "transport": (
                "consul",
            ),
            "backend": (
                "consul",
            ),
        },
    ),
    Bundle(
        "tblib", "caraway-tblib", "planned",
        "Tracebacks of tasks, whole, in the caller.",
        {
            "integration": (
                "tblib",
            ),
        },
    ),
    Bundle(
        "memcache", "caraway-memcache", "planned",
        "Memcached through libmemcached.",
        {
            "backend": (
                "memcache",
                "pylibmc",
            ),
        },
    ),
    Bundle(
        "pymemcache", "caraway-pymemcache", "planned",
        "Memcached in pure Python.",
        {
            "backend": (
                "cache",
                "memcached",
                "pymemcache",
            ),
        },
    ),
    Bundle(
        "cassandra", "caraway-cassandra", "planned",
        "Apache Cassandra and ScyllaDB.",
        {
            "backend": (
                "cassandra",
            ),
        },
    ),
    Bundle(
        "couchbase", "caraway-couchbase", "planned",
        "Couchbase Server.",
        {
            "backend": (
                "couchbase",
            ),
        },
    ),
    Bundle(
        "arangodb", "caraway-arangodb", "planned",
        "ArangoDB.",
        {
            "backend": (
                "arangodb",
            ),
        },
    ),
    Bundle(
        "elasticsearch", "caraway-elasticsearch", "planned",
        "Elasticsearch.",
        {
            "backend": (
                "elasticsearch",
            ),
        },
    ),
    Bundle(
        "riak", "caraway-riak", "planned",
        "Riak KV, over its HTTP interface.",
        {
            "backend": (
                "riak",
            ),
        },
    ),
    Bundle(
        "dynamodb", "caraway-dynamodb", "planned",
        "Amazon DynamoDB.",
        {
            "backend": (
                "dynamodb",
            ),
        },
    ),
    Bundle(
        "sqlalchemy", "caraway-sqlalchemy", "planned",
        "PostgreSQL, MySQL and any other database of SQLAlchemy's: broker and results.",
        {
            "transport": (
                "sqla",
                "sqlalchemy",
            ),
            "backend": (
                "db",
                "database",
            ),
        },
    ),
    Bundle(
        "django", "caraway-django", "planned",
        "Django: settings, tasks found in apps, results and schedules in its database.",
        {
            "backend": (
                "django-db",
                "django-cache",
            ),
            "schedule": (
                "django",
            ),
            "integration": (
                "django",
            ),
        },
    ),
)
# fmt: on
