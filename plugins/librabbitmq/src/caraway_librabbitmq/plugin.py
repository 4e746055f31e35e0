"""What this bundle provides."""

from __future__ import annotations

from caraway.plugins import Capability, TransportEntry, hookimpl


@hookimpl
def caraway_register_transports() -> list[TransportEntry]:
    return [
        TransportEntry(
            name="librabbitmq",
            schemes=("librabbitmq",),
            factory="caraway_librabbitmq.transport:LibrabbitmqTransport",
            summary="RabbitMQ, for configurations that name librabbitmq",
            driver="caraway_amqp",
            # Those of caraway-amqp, which checks them.
            any_option=True,
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
