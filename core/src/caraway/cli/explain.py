"""``caraway explain``: why a task isn't running, or what became of it.

`gather` asks broker and backend; `explain` judges what they said, and touches nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from caraway import states
from caraway.cli.output import span, when
from caraway.cli.program import Program, pass_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from caraway.app import Caraway
    from caraway.message import Located, OwnerStats, QueueStats


class Facts(Struct, frozen=True, kw_only=True):
    """All that is known of one task.

    Attributes:
        now: epoch seconds.
        located: where its messages are.
        revoked: the broker keeps a revocation of it.
        owners: live owners.
        stats: depths of the queues it is in, by name.
        meta: its stored result record, empty if there is none.
        letters: ids of its dead letters.
        rate_limit: of its task, if the app knows it.
        disabled: results are not kept at all.
        unseen: what the broker can't tell, as sentences.
    """

    task_id: str
    now: float
    located: Sequence[Located] = ()
    revoked: bool = False
    owners: Sequence[OwnerStats] = ()
    stats: Mapping[str, QueueStats] = {}
    meta: Mapping[str, Any] = {}
    letters: Sequence[str] = ()
    rate_limit: str = ""
    disabled: bool = False
    unseen: Sequence[str] = ()


class Explanation(Struct, frozen=True):
    """The answer.

    Attributes:
        verdict: one word for scripts: ``ended``, ``running``, ``held``, ``delayed``,
            ``revoked``, ``expired``, ``dead``, ``parked``, ``no-worker``,
            ``unknown-task``, ``rate-limited``, ``waiting``, ``unknown``.
        text: one sentence.
        repair: what to do; empty if nothing is to be done.
        details: more sentences.
    """

    verdict: str
    text: str
    repair: str = ""
    details: tuple[str, ...] = ()


def explain(facts: Facts) -> Explanation:
    """Judge.  The most telling fact decides: a message that is there before its result."""
    order = {"held": 0, "ready": 1, "delayed": 2, "parked": 3, "dead": 4}
    located = sorted(facts.located, key=lambda item: order[item.place])
    state = str(facts.meta.get("status", ""))
    if state in states.READY_STATES and not any(item.place == "held" for item in located):
        return _ended(facts, state, located)
    if not located:
        return _nothing(facts, state)
    first, details = located[0], list(facts.unseen)
    if len(located) > 1:
        details.append(f"{len(located)} messages of it are in the broker")
    if state:
        details.append(f"stored state: {state}")
    if first.attempt:
        details.append(f"delivered {first.attempt} times so far")
    if first.place == "held":
        return _held(facts, first, state, details)
    if first.place in ("dead", "parked"):
        return _dead(facts, first, details)
    if facts.revoked:
        return Explanation(
            "revoked",
            "it is revoked; the next worker that takes it will drop it",
            "",
            tuple(details),
        )
    if first.expires and first.expires <= facts.now:
        text = f"it expired {when(first.expires, facts.now)}; it will be dropped, not run"
        return Explanation("expired", text, "send it again, or with a later --expires", (*details,))
    if first.place == "delayed" and first.due > facts.now:
        if facts.rate_limit and not first.message.headers.get("eta"):
            # Nobody asked for a delay: a worker gave it a place in time.
            return Explanation(
                "rate-limited",
                f"its task is limited to {facts.rate_limit} per worker; "
                f"its turn comes {when(first.due, facts.now)}",
                "caraway control rate-limit TASK RATE changes the limit in running workers",
                (*details, *_consumers(facts, first)),
            )
        reason = " for a retry" if state == states.RETRY else ""
        text = f"it isn't due{reason}: it waits until {when(first.due, facts.now)}"
        return Explanation("delayed", text, "", (*details, *_consumers(facts, first)))
    return _ready(facts, first, details)


def _ended(facts: Facts, state: str, located: Sequence[Located]) -> Explanation:
    done = facts.meta.get("date_done")
    text = f"it ended: {state}{f' at {done}' if done else ''}"
    details = [f"a message of it is {item.place} in {item.queue!r}" for item in located]
    if state == states.FAILURE:
        result = facts.meta.get("result")
        if isinstance(result, dict):
            details.insert(0, f"{result.get('exc_type')}: {result.get('exc_message')}")
        return Explanation(
            "ended",
            text,
            f"caraway result {facts.task_id} --traceback",
            (*details, *_letters(facts)),
        )
    return Explanation("ended", text, "", tuple(details))


def _letters(facts: Facts) -> list[str]:
    return [f"dead letter {one}: caraway dead show {one}" for one in facts.letters]


def _nothing(facts: Facts, state: str) -> Explanation:
    if state:
        return Explanation(
            "running" if state == states.STARTED else "waiting",
            f"its stored state is {state}, and the broker has no message of it",
            "if no worker runs it (caraway status), the message is lost or in another broker",
            tuple(facts.unseen),
        )
    details = list(facts.unseen)
    if facts.disabled:
        details.append("results are not kept here, so a task that has ended leaves no trace")
    else:
        details.append("it may have ended long ago (result_expires), or with ignore_result")
    if facts.revoked:
        details.append("it is revoked: if it comes, it won't run")
    return Explanation(
        "unknown",
        "neither the broker nor the result backend knows it",
        "check the id, and that -b and --config name the broker it was sent to",
        tuple(details),
    )


def _held(facts: Facts, item: Located, state: str, details: list[str]) -> Explanation:
    owner = next((stats for stats in facts.owners if stats.owner.id == item.owner), None)
    if owner is None:
        return Explanation(
            "held",
            "a worker took it and has fallen silent",
            "wait: it is given back when the lease ends (broker_lease)",
            tuple(details),
        )
    who = f"{owner.owner.worker or owner.owner.id} (process {owner.owner.pid})"
    details.append(f"the lease ends in {span(owner.expires - facts.now)} unless renewed")
    if state == states.STARTED:
        return Explanation("running", f"it is running on {who}", "", tuple(details))
    if owner.held > 1:
        details.append(f"that process holds {owner.held} messages and runs them in turn")
    if facts.rate_limit:
        details.append(f"its task is limited to {facts.rate_limit} per worker")
    if facts.revoked:
        details.append("it is revoked; only --terminate ends it once it runs")
    return Explanation("held", f"{who} has it: it runs, or is about to", "", tuple(details))


def _dead(facts: Facts, item: Located, details: list[str]) -> Explanation:
    one = facts.letters[0] if facts.letters else "ID"
    if item.place == "parked":
        return Explanation(
            "parked",
            f"it is parked, since no worker could judge it: {item.reason}",
            f"start a worker that knows it, then: caraway dead replay {one}",
            tuple(details),
        )
    return Explanation(
        "dead",
        f"it is in the dead letters of {item.queue!r}: {item.reason}",
        f"mend the cause, then: caraway dead replay {one} (or: caraway dead drop {one})",
        tuple(details),
    )


def _consumers(facts: Facts, item: Located) -> list[str]:
    """A sentence if nobody would take it."""
    if facts.unseen or any(item.queue in owner.queues for owner in facts.owners):
        return []
    return [f"no worker consumes {item.queue!r} now"]


def _ready(facts: Facts, item: Located, details: list[str]) -> Explanation:
    name = str(item.message.headers.get("task", ""))
    stats = facts.stats.get(item.queue)
    if item.ahead is not None:
        details.append(f"{item.ahead} messages of {item.queue!r} go first")
    if stats is not None:
        details.append(f"{item.queue!r}: {stats.ready} ready, {stats.held} held")
    if facts.unseen:
        return Explanation("waiting", f"it waits in {item.queue!r}", "", tuple(details))
    consumers = [owner for owner in facts.owners if item.queue in owner.queues]
    if not consumers:
        others = sorted({queue for owner in facts.owners for queue in owner.queues})
        details.append(
            f"workers that are alive consume {', '.join(others)}"
            if others
            else "no worker is alive at all"
        )
        repair = f"start one: caraway -A shop worker -Q {item.queue}"
        text = f"no worker consumes its queue {item.queue!r}"
        return Explanation("no-worker", text, repair, tuple(details))
    told = [owner for owner in consumers if owner.owner.tasks]
    if name and told and not any(name in owner.owner.tasks for owner in told):
        return Explanation(
            "unknown-task",
            f"no worker of {item.queue!r} knows the task {name!r}; one will park it",
            "deploy the code that has it, or see imports and include in the settings",
            tuple(details),
        )
    if facts.rate_limit:
        return Explanation(
            "rate-limited",
            f"it waits in {item.queue!r}; its task is limited to {facts.rate_limit} per worker",
            "raise the limit, or start more workers",
            tuple(details),
        )
    workers = sorted({owner.owner.worker or owner.owner.id for owner in consumers})
    return Explanation(
        "waiting",
        f"it waits in {item.queue!r} for a free place on {', '.join(workers)}",
        "if that takes too long: more concurrency (-c), or more workers",
        tuple(details),
    )


# -- asking ----------------------------------------------------------------------------


def gather(app: Caraway, task_id: str) -> Facts:
    """Ask broker and backend about a task."""
    from caraway.interfaces import Capability

    transport: Any = app.transport
    can = transport.capabilities
    unseen: list[str] = []
    located: Sequence[Located] = ()
    owners: Sequence[OwnerStats] = ()
    if Capability.INSPECT in can:
        located, owners = transport.find(task_id), transport.owners()
    else:
        unseen.append("this broker can't be searched for a task")
    queues = list(dict.fromkeys(item.queue for item in located))
    revoked = Capability.REVOKE in can and task_id in transport.revoked([task_id])
    letters: list[str] = []
    if Capability.DEAD_LETTERS in can and any(i.place in ("dead", "parked") for i in located):
        letters = _letter_ids(transport, task_id)
    meta, disabled = _meta(app, task_id)
    return Facts(
        task_id=task_id,
        now=time.time(),
        located=located,
        revoked=bool(revoked),
        owners=owners,
        stats={stats.name: stats for stats in transport.stats(queues)} if queues else {},
        meta=meta,
        letters=letters,
        rate_limit=_rate_limit(app, located),
        disabled=disabled,
        unseen=unseen,
    )


def _letter_ids(transport: Any, task_id: str, most: int = 100_000) -> list[str]:
    from caraway.cli.broker import task_id_of

    found: list[str] = []
    after, seen = "", 0
    while seen < most and (page := transport.dead(limit=500, after=after)):
        found += [letter.id for letter in page if task_id_of(letter.message) == task_id]
        after, seen = page[-1].id, seen + len(page)
    return found


def _meta(app: Caraway, task_id: str) -> tuple[dict[str, Any], bool]:
    """The stored record as far as it can be read, and whether results are not kept."""
    if not app.conf.result_backend or str(app.conf.result_backend).startswith("disabled"):
        return {}, True
    stored = app.backend.get([task_id]).get(task_id)
    if stored is None:
        return {}, False
    import json

    try:
        record = json.loads(stored.payload)
    except ValueError:
        record = {}  # another serializer's: the state alone is told
    return {**(record if isinstance(record, dict) else {}), "status": stored.state}, False


def _rate_limit(app: Caraway, located: Sequence[Located]) -> str:
    if app.conf.worker_disable_rate_limits:
        return ""
    for item in located:
        task = app.tasks.get(str(item.message.headers.get("task", "")))
        if task is not None:
            limit = task.rate_limit or app.conf.task_default_rate_limit
            return "" if limit is None else str(limit)
    return ""


@click.command("explain")
@click.argument("task_id")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_program
def command(program: Program, /, *, task_id: str, as_json: bool) -> int:
    """Say why a task isn't running, or what became of it.

    It may not be due, revoked, expired, rate-limited, parked or dead; no worker may
    consume its queue or know it; or it runs, or has ended. Exit code 1 if nobody knows it.

    \b
    Examples:
      caraway explain 5a0c3f0e-...
      caraway -A shop explain 5a0c3f0e-... --json     (with -A: rate limits, too)
    """
    from caraway.cli import exits, output

    answer = explain(gather(program.client(), task_id))
    if as_json:
        output.emit_json(answer)
    else:
        click.echo(f"{answer.verdict}: {answer.text}")
        for detail in answer.details:
            click.echo(f"  {detail}")
        if answer.repair:
            click.echo(f"  -> {answer.repair}")
    return exits.NEGATIVE if answer.verdict == "unknown" else exits.OK
