"""The ends of chord members, in Celery's own keys.

The keys: docs/reference/wire-format.md, "Redis".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caraway.message import ChordPart, ChordStart
from caraway_redis.results import milliseconds
from caraway_redis.wires import Script

if TYPE_CHECKING:
    from caraway_redis.connection import Link

PART = Script("chord_part")
SENT = Script("chord_sent")
JOIN = Script("join")
_CLAIM = 60
"""Seconds for which the one that completes a chord has to send its body, before another
member that reports may."""
_REMEMBER = 600
"""Seconds for which a chord that is done is known to be."""


def start(link: Link, group_key: str, starts: Sequence[ChordStart]) -> None:
    """See `caraway.interfaces.backend.Backend.chord_start`."""
    for each in starts:
        command = ["SET", f"{group_key}{each.group_id}.s", str(each.size)]
        if each.ttl > 0:
            command += ["PX", str(milliseconds(each.ttl))]
        link.call(*command)


def count(
    link: Link, group_key: str, parts: Sequence[ChordPart], *, ordered: bool
) -> list[Sequence[bytes] | None]:
    """See `caraway.interfaces.backend.Backend.chord_parts`."""
    calls = []
    for part in parts:
        keys = _keys(group_key, part.group_id)
        index = "+inf" if part.index < 0 else str(part.index)
        arguments = (
            f"{part.task_id}:{index}", part.payload, "1" if ordered else "0", index, part.size,
            milliseconds(part.ttl), f"caraway:{part.task_id}:{index}", _CLAIM,
        )  # fmt: skip
        calls.append(((*keys, group_key + part.group_id), arguments))
    return link.run_each(PART, calls) if calls else []


def sent(link: Link, group_key: str, group_ids: Sequence[str]) -> None:
    """See `caraway.interfaces.backend.Backend.chord_sent`."""
    if group_ids:
        link.run_each(SENT, [(_keys(group_key, each), (_REMEMBER,)) for each in group_ids])


def _keys(group_key: str, group_id: str) -> tuple[str, ...]:
    return tuple(f"{group_key}{group_id}.{kind}" for kind in "jtsdc")
