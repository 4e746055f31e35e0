"""The transports that have a scheme of their own, one class each."""

from __future__ import annotations

from caraway_kombu.facts import FACTS, OWN_SCHEMES
from caraway_kombu.transport import KombuTransport


def of_scheme(scheme: str) -> type[KombuTransport]:
    """The class for one kombu transport of the table."""
    facts = FACTS[scheme]
    return type(
        f"{scheme.capitalize()}Transport",
        (KombuTransport,),
        {
            "__doc__": f"{facts.title}, by kombu.",
            "__module__": __name__,
            "facts": facts,
            "capabilities": facts.capabilities,
        },
    )


for _scheme in OWN_SCHEMES:
    globals()[_scheme] = of_scheme(_scheme)
