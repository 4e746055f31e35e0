"""The ends of chord members, in Celery's own keys.

The keys: docs/reference/wire-format.md, "Redis".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from caraway.message import ChordPart
from caraway_redis.connection import Script

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


def count(
    link: Link, group_key: str, parts: Sequence[ChordPart], *, ordered: bool
) -> list[Sequence[bytes] | None]:
    """See `caraway.interfaces.backend.Backend.chord_parts`."""
    answers: list[Sequence[bytes] | None] = []
    for part in parts:
        base = group_key + part.group_id
        index = "+inf" if part.index < 0 else str(part.index)
        keys = (base + ".j", base + ".t", base + ".s", base + ".d", base + ".c", base)
        arguments = (
            f"{part.task_id}:{index}", part.payload, "1" if ordered else "0", index, part.size,
            int(part.ttl), f"caraway:{part.task_id}:{index}", _CLAIM,
        )  # fmt: skip
        answers.append(link.run(PART, keys, arguments))
    return answers


def sent(link: Link, group_key: str, group_ids: Sequence[str]) -> None:
    """See `caraway.interfaces.backend.Backend.chord_sent`."""
    for group_id in group_ids:
        base = group_key + group_id
        keys = (base + ".j", base + ".t", base + ".s", base + ".d", base + ".c")
        link.run(SENT, keys, (_REMEMBER,))
