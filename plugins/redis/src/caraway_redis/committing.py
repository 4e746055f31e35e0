"""What the script ``commit.lua`` is given: completions as its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from caraway.message import Completion, Publication, Settlement, Tag
from caraway_redis.publishing import Row
from caraway_redis.results import milliseconds


def committing(
    head: tuple[Any, ...],
    result_key: str,
    prepare: Callable[[Sequence[Publication]], list[Row]],
    completions: Sequence[Completion],
) -> tuple[list[Tag], tuple[Any, ...]]:
    """The arguments for completions.

    Args:
        head: what every command of this consumer begins with.
        result_key: what the keys of results begin with.
        prepare: makes rows of follow-ups.
        completions: to commit.

    Returns:
        The tags in the order of the answer, and the arguments.

    Raises:
        PublishError: a follow-up can't be written.
    """
    # Almost all are like this: acknowledged, a result, and nothing follows.
    plain: dict[Tag, str] = {}
    stored: list[Any] = []
    first = completions[0].result if completions else None
    ttl = first.ttl if first is not None else 0.0
    rest: list[Tag] = []
    odd: set[Tag] = set()
    others: list[Any] = []
    for completion in completions:
        settlement = completion.settlement
        result = completion.result
        publications = completion.publications
        tag = settlement.tag
        if (
            settlement.action == "ack"
            and not publications
            and tag not in plain
            and tag not in odd
        ):  # fmt: skip
            if result is None:
                if first is None:
                    plain[tag] = ""
                    continue
            elif first is not None and result.ttl == ttl:
                key = plain[tag] = result_key + result.task_id
                stored += (key, result.payload)
                continue
        rest.append(tag)
        odd.add(tag)
        _settlement(others, settlement)
        if result is None:
            others.append("")
        else:
            others += (result_key + result.task_id, result.payload, milliseconds(result.ttl))
        rows = prepare(publications)
        others.append(len(rows))
        for queue, name, step, due, payload, _ in rows:
            others += (queue, name, step, f"{due:.6f}" if due else 0, payload)
    life = milliseconds(ttl)
    if stored and len(set(plain.values())) < len(plain):
        # The same task twice: the first end stands, and the script must look.
        for position, tag in enumerate(plain):
            at = 2 * position
            others += (tag, "a", *stored[at : at + 2], life, 0)
        rest += plain
        plain, stored = {}, []
    arguments = (
        *head, len(plain), life if stored else "", *plain, *stored, len(rest), *others,
    )  # fmt: skip
    return [*plain, *rest], arguments


def fenced(tags: list[Tag], positions: Sequence[int]) -> Sequence[Tag]:
    """The tags that the script's answer names."""
    return [tags[position] for position in positions] if positions else ()


def _settlement(arguments: list[Any], settlement: Settlement) -> None:
    action = settlement.action
    if action == "ack":
        arguments += (settlement.tag, "a")
    elif action == "release":
        arguments += (
            settlement.tag, "l", f"{settlement.delay:.6f}", 1 if settlement.counted else 0,
        )  # fmt: skip
    else:
        kind = "parked" if settlement.parked else "dead"
        arguments += (settlement.tag, "j", settlement.reason, kind)
