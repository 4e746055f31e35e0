"""RabbitMQ under the name of a client that no longer builds.

librabbitmq, kombu's binding to the C client, has no release that compiles on the Pythons
that Caraway runs on.  Its URLs keep working: what is behind them is caraway-amqp.
"""

from __future__ import annotations

from caraway_amqp.transport import AmqpTransport


class LibrabbitmqTransport(AmqpTransport):
    """See `caraway_amqp.transport.AmqpTransport`: the same, for ``librabbitmq://``."""
