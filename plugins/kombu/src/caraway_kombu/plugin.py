"""What this bundle provides."""

from __future__ import annotations

from caraway.plugins import Capability, Option, TransportEntry, hookimpl
from caraway_kombu.facts import ALIASES, FACTS, OWN_SCHEMES

OPTIONS = (
    Option("poll", "duration", None, "Longest pause between looks into empty queues.", "seconds"),
    Option("connect_timeout", "duration", None, "To connect; broker_connection_timeout."),
    Option("heartbeat", "duration", None, "AMQP's; none."),
    Option("journal", "str", ".caraway/kombu", "Folder of what a worker holds; False is none."),
)
"""Ours; all others are kombu's, and handed to it as they are."""


@hookimpl
def caraway_register_transports() -> list[TransportEntry]:
    any_of_them = TransportEntry(
        name="kombu",
        schemes=("kombu",),
        factory="caraway_kombu.transport:KombuTransport",
        summary="kombu+SCHEME://: any transport of kombu's. No leases; what a killed worker held"
        " comes back with the connection's end (amqp), after the visibility timeout (redis, sqs,"
        " pgmq ...), at once (filesystem), from a journal on the worker's machine (sqla, mongodb,"
        " etcd, zookeeper ...), or never (memory)",
        driver="kombu",
        any_option=True,
        options=OPTIONS,
        # What holds for all of them, also for those that others wrote.
        capabilities=frozenset({Capability.DELAY, Capability.EXPIRY}),
        by_driver={
            name: FACTS[ALIASES.get(name, name)].capabilities for name in (*FACTS, *ALIASES)
        },
        notes={name: FACTS[ALIASES.get(name, name)].summary for name in (*FACTS, *ALIASES)},
    )
    return [any_of_them, *map(_entry, OWN_SCHEMES)]


def _entry(scheme: str) -> TransportEntry:
    facts = FACTS[scheme]
    others = tuple(alias for alias, name in ALIASES.items() if name == scheme)
    return TransportEntry(
        name=scheme,
        schemes=(scheme, *others),
        factory=f"caraway_kombu.transports:{scheme}",
        summary=facts.summary,
        driver="kombu",
        any_option=True,
        options=OPTIONS,
        capabilities=facts.capabilities,
    )
