"""What is kept of runs, while somebody wants to know: arguments and outcomes.

`Watched` stands in the place of the functions that run tasks, so that nothing is kept, and
nothing asked, while events are off.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway.events.shown import LARGE, REPR_SIZE, text_of

if TYPE_CHECKING:
    from caraway.outcome import Outcome
    from caraway.request import Request
    from caraway.worker.job import TaskPlan

_MOST = 20_000


class Watched:
    """Keeps arguments and outcomes by delivery, until they are taken.

    Attributes:
        outcomes: tag -> outcome.
        texts: tag -> arguments as text, written before the function could change them.
    """

    def __init__(self) -> None:
        self.outcomes: dict[Any, Outcome] = {}
        self.texts: dict[Any, tuple[str, str]] = {}
        self._plans: list[tuple[TaskPlan, Any, Any, Any]] = []

    def watch(self, plan: TaskPlan) -> None:
        """Keep what this task's runs have and come to, from now on."""
        runner = plan.runner
        run, arun, settle_failure = runner.run, runner.arun, runner.settle_failure
        self._plans.append((plan, run, arun, settle_failure))
        outcomes, texts = self.outcomes, self.texts

        def note(request: Any) -> Any:
            delivery = request.delivery
            message = delivery.message
            if len(message.body) <= LARGE and "argsrepr" not in message.headers:
                args, kwargs = request.args, request.kwargs
                try:
                    text = repr(tuple(args))
                    named = repr(kwargs) if kwargs else "{}"
                except Exception:  # noqa: BLE001 - a __repr__ of the user's may raise anything
                    text, named = text_of(args), text_of(kwargs)
                if len(text) > REPR_SIZE:
                    text = text[: REPR_SIZE - 3] + "..."
                if len(named) > REPR_SIZE:
                    named = named[: REPR_SIZE - 3] + "..."
                texts[delivery.tag] = (text, named)
            return delivery.tag

        def watched(request: Request) -> Outcome:
            tag = note(request)
            outcome = outcomes[tag] = run(request)
            return outcome

        async def awatched(request: Request) -> Outcome:
            tag = note(request)
            outcome = outcomes[tag] = await arun(request)
            return outcome

        def settled(request: Request, exc: BaseException) -> Outcome:
            outcome = settle_failure(request, exc)
            if request.delivery is not None:
                outcomes[request.delivery.tag] = outcome
            return outcome

        plan.run = runner.run = watched
        runner.arun = awatched
        runner.settle_failure = settled

    def trim(self) -> None:
        """Forget what nobody will ask for: of runs that were given back."""
        for kept in (self.outcomes, self.texts):
            if len(kept) > _MOST:
                kept.clear()

    def close(self) -> None:
        """Put the tasks' own functions back."""
        for plan, run, arun, settle_failure in reversed(self._plans):
            plan.run = plan.runner.run = run
            plan.runner.arun = arun
            plan.runner.settle_failure = settle_failure
        self._plans.clear()
