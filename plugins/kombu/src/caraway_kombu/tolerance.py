"""Messages that are none: read all the same."""

from __future__ import annotations

from typing import Any

_KNOWN: dict[type[Any], type[Any]] = {}


def tolerant(message: type[Any]) -> type[Any]:
    """The channel's class of messages, one that reads everything: what has been taken out
    of the broker must not be lost for being odd."""
    known = _KNOWN.get(message)
    if known is not None:
        return known

    class Tolerant(message):  # type: ignore[misc]
        defect = ""

        def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
            try:
                super().__init__(payload, channel=channel, **kwargs)
            except Exception as exc:  # noqa: BLE001 - whatever a hostile payload may cause
                import json
                import uuid

                plain = {
                    "body": json.dumps(payload, default=repr),
                    "content-type": "application/json",
                    "content-encoding": "utf-8",
                    "headers": {},
                    "properties": {"delivery_tag": str(uuid.uuid4()), "delivery_info": {
                        "exchange": "", "routing_key": ""}},
                }  # fmt: skip
                super().__init__(plain, channel=channel, **kwargs)
                self.defect = f"not a message of kombu's: {type(exc).__name__}: {exc}"[:500]

    _KNOWN[message] = Tolerant
    return Tolerant
