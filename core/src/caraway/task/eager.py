"""Running a task in place: `Task.apply`, and `delay` under ``task_always_eager``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway import states
from caraway.errors import Retry
from caraway.outcome import Outcome
from caraway.protocol.ids import new_id
from caraway.protocol.v2 import header_template
from caraway.request import Request, current_request
from caraway.result import EagerResult
from caraway.runner import Runner, build_runner
from caraway.task.publication import lineage

if TYPE_CHECKING:
    from caraway.task import Task


def apply(
    task: Task[Any, Any], args: Any, kwargs: Any, options: dict[str, Any]
) -> EagerResult[Any]:
    """See `Task.apply`."""
    run = _Run(task, args, kwargs, options)
    if run.runner.is_async:
        import asyncio

        if _in_loop():
            return _in_thread(run)
        return asyncio.run(run.aresult())
    while True:
        outcome = run.runner.run(run.request)
        if not run.again(outcome):
            return run.finish(outcome)


async def aapply(
    task: Task[Any, Any], args: Any, kwargs: Any, options: dict[str, Any]
) -> EagerResult[Any]:
    """The same for coroutines: an async task runs on this loop."""
    run = _Run(task, args, kwargs, options)
    if run.runner.is_async:
        return await run.aresult()
    return apply(task, args, kwargs, options)


class _Run:
    """One eager task with its retries, which follow at once."""

    def __init__(
        self, task: Task[Any, Any], args: Any, kwargs: Any, options: dict[str, Any]
    ) -> None:
        app = task.app
        app.finalize(auto=True)
        conf = app.conf
        self.task = task
        self.options = options
        throw = options.get("throw")
        if throw is None:
            throw = conf.task_eager_propagates
        self.store = bool(task.store_eager_result) and app.backend_enabled
        self.runner: Runner = build_runner(task, store=self.store, throw=bool(throw))
        self.task_id = options.get("task_id") or new_id()
        headers = header_template(
            task.name,
            origin=app.origin,
            ignore_result=bool(options.get("ignore_result")),
            shadow=options.get("shadow"),
        )
        root, parent = lineage(current_request.get(), self.task_id)
        headers.update(
            id=self.task_id,
            root_id=options.get("root_id") or root,
            parent_id=options.get("parent_id") or parent,
            retries=options.get("retries") or 0,
            **(options.get("headers") or {}),
        )
        self.request = self._request(headers, args, kwargs)

    def _request(self, headers: dict[str, Any], args: Any, kwargs: Any) -> Request:
        hostname = self.task.app.node
        return Request(
            headers, tuple(args or ()), dict(kwargs or {}), {}, None, hostname, is_eager=True
        )

    def again(self, outcome: Outcome) -> bool:
        """Prepare the retry, if the outcome is one."""
        retry = outcome.retry
        if outcome.state != states.RETRY or not isinstance(retry, Retry):
            return False
        changes = retry.sig or {}
        before = self.request
        self.request = self._request(
            {**before.headers, "retries": before.retries + 1, **(changes.get("headers") or {})},
            changes.get("args", before.args),
            changes.get("kwargs", before.kwargs),
        )
        return True

    async def aresult(self) -> EagerResult[Any]:
        """Run an async task to its end on this loop."""
        while True:
            outcome = await self.runner.arun(self.request)
            if not self.again(outcome):
                return self.finish(outcome)

    def finish(self, outcome: Outcome) -> EagerResult[Any]:
        """Store if asked for, call the links, make the result."""
        task, app = self.task, self.task.app
        if self.store and outcome.payload is not None:
            app.store_payload(self.task_id, outcome.state, outcome.payload)
        failed = outcome.state in states.PROPAGATE_STATES
        links = self.options.get("link_error" if failed else "link")
        if links and (failed or outcome.state == states.SUCCESS):
            value = self.task_id if failed else outcome.value
            for link in links if isinstance(links, (list, tuple)) else [links]:
                from caraway.canvas import follow, maybe_signature

                signature = maybe_signature(link, app)
                known = app.tasks.get(signature.name) if failed else None
                if known is not None and follow.takes_failure(known, len(signature.args)):
                    follow.call_errback(known, signature, self.request, outcome)
                else:
                    signature.apply(() if signature.immutable else (value,))
        return EagerResult(
            self.task_id, outcome.value, outcome.state, outcome.traceback, task.name, app
        )


def _in_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _in_thread(run: _Run) -> EagerResult[Any]:
    """This thread's loop is busy with the caller: run the coroutine on another one's."""
    import asyncio
    import contextvars
    from concurrent.futures import ThreadPoolExecutor

    context = contextvars.copy_context()
    with ThreadPoolExecutor(1, thread_name_prefix="caraway-eager") as pool:
        return pool.submit(context.run, asyncio.run, run.aresult()).result()
