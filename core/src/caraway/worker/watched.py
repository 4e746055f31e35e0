"""What is kept of runs, while somebody wants to know: arguments and outcomes.

`Watched` stands in the place of the functions that run tasks, so that nothing is kept, and
nothing asked, while events are off.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Any

from caraway.events.shown import LARGE, text_of
from caraway.outcome import Outcome
from caraway.states import SUCCESS

if TYPE_CHECKING:
    from caraway.message import Delivery
    from caraway.request import Request
    from caraway.worker.job import TaskPlan

_MOST = 20_000
_SMALL = 200
"""Bytes of a body whose arguments can't be longer than a text may be."""


class Watched:
    """Keeps arguments and outcomes by delivery, until they are taken.

    Attributes:
        outcomes: tag -> outcome.
        texts: tag -> arguments as text, written before the function could change them.
        quiet: plans of tasks that want no events.
    """

    def __init__(self) -> None:
        self.outcomes: dict[Any, Outcome] = {}
        self.texts: dict[Any, tuple[str, str]] = {}
        self.quiet: set[TaskPlan] = set()
        self._plans: list[tuple[TaskPlan, Any, Any, Any, Any]] = []

    def watch(self, plan: TaskPlan) -> None:
        """Keep what this task's runs have and come to, from now on."""
        if not plan.task.send_events:
            self.quiet.add(plan)
            return
        runner = plan.runner
        run, arun, settle_failure = runner.run, runner.arun, runner.settle_failure
        swift: Any = plan.swift
        self._plans.append((plan, run, arun, settle_failure, swift))
        outcomes, texts = self.outcomes, self.texts

        def note(delivery: Delivery, request: Request) -> None:
            if len(delivery.message.body) <= LARGE and "argsrepr" not in request.headers:
                args, kwargs = request.args, request.kwargs
                texts[delivery.tag] = text_of(tuple(args)), text_of(kwargs) if kwargs else "{}"

        def watched(request: Request) -> Outcome:
            note_args(request)
            outcome = outcomes[request.delivery.tag] = run(request)  # type: ignore[union-attr]
            return outcome

        def note_args(request: Request) -> None:
            delivery: Any = request.delivery
            if len(delivery.message.body) > _SMALL or request.kwargs:
                note(delivery, request)
            elif "argsrepr" not in request.headers:
                # In place, for what is common: a call less for every task.
                try:
                    texts[delivery.tag] = repr(tuple(request.args)), "{}"
                except Exception:  # noqa: BLE001 - a __repr__ of the user's may raise anything
                    note(delivery, request)

        def swiftly(request: Request) -> Outcome | bytes:
            note_args(request)
            started = perf_counter()
            result: Outcome | bytes = swift(request)
            if type(result) is bytes:
                outcomes[request.delivery.tag] = Outcome(  # type: ignore[union-attr]
                    SUCCESS, request.returned, runtime=perf_counter() - started
                )
            else:
                outcomes[request.delivery.tag] = result  # type: ignore[assignment, union-attr]
            return result

        async def awatched(request: Request) -> Outcome:
            delivery: Any = request.delivery
            note(delivery, request)
            outcome = outcomes[delivery.tag] = await arun(request)
            return outcome

        def settled(request: Request, exc: BaseException) -> Outcome:
            outcome = settle_failure(request, exc)
            if request.delivery is not None:
                outcomes[request.delivery.tag] = outcome
            return outcome

        plan.run = runner.run = watched
        runner.arun = awatched
        if swift is not None:  # else nobody may come to count on it
            plan.swift = awatched if plan.is_async else swiftly
        runner.settle_failure = settled

    def trim(self) -> None:
        """Forget what nobody will ask for: of runs that were given back."""
        for kept in (self.outcomes, self.texts):
            if len(kept) > _MOST:
                kept.clear()

    def close(self) -> None:
        """Put the tasks' own functions back."""
        for plan, run, arun, settle_failure, swift in reversed(self._plans):
            plan.run = plan.runner.run = run
            plan.swift = swift
            plan.runner.arun = arun
            plan.runner.settle_failure = settle_failure
        self._plans.clear()
