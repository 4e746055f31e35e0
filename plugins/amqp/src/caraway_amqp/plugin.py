"""What this bundle provides."""

from __future__ import annotations

from caraway.plugins import BackendEntry, Capability, Option, TransportEntry, hookimpl

_OPTIONS = (
    Option("heartbeat", "duration", None, "Of the connection; 0 is none; broker_heartbeat."),
    Option("connect_timeout", "duration", None, "To connect; broker_connection_timeout."),
    Option("login_method", "str", None, "PLAIN, AMQPLAIN or EXTERNAL; broker_login_method."),
    Option("consumer_timeout", "duration", None, "The broker's setting of this name; 1800."),
    Option("ca_certs", "str", None, "File of the authorities' certificates."),
    Option("certfile", "str", None, "File of our certificate."),
    Option("keyfile", "str", None, "File of its key."),
    Option("cert_reqs", "str", None, "required, optional or none; required."),
    Option("server_hostname", "str", None, "Name in the broker's certificate; the host."),
    Option("ciphers", "str", None, "Those allowed, as OpenSSL writes them."),
)


@hookimpl
def caraway_register_transports() -> list[TransportEntry]:
    return [
        TransportEntry(
            name="amqp",
            schemes=("amqp", "amqps", "pyamqp"),
            factory="caraway_amqp.transport:AmqpTransport",
            summary="RabbitMQ, sharing queues with Celery",
            driver="amqp",
            any_option=True,
            options=_OPTIONS,
            capabilities=frozenset(
                {
                    Capability.DELAY,
                    Capability.EXPIRY,
                    Capability.BROADCAST,
                    Capability.DEAD_LETTERS,
                    Capability.PERSISTENT,
                    Capability.SHARED,
                }
            ),
        )
    ]


@hookimpl
def caraway_register_backends() -> list[BackendEntry]:
    return [
        BackendEntry(
            name="rpc",
            schemes=("rpc",),
            factory="caraway_amqp.backend:RpcBackend",
            summary="Results as messages to the caller's own queue",
            driver="amqp",
            any_option=True,
            options=_OPTIONS,
            capabilities=frozenset({Capability.PUSH, Capability.TTL, Capability.REPLIES}),
        )
    ]
