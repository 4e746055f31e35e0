"""Sending with options: `apply_async`, bulk, retry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from caraway import signals
from caraway.errors import PublishError, Retry
from caraway.message import Publication
from caraway.protocol.v2 import retry_publication
from caraway.result import AsyncResult
from caraway.result.sets import ResultList
from caraway.task.publication import Unsent, build, sent

if TYPE_CHECKING:
    from caraway.app import Caraway
    from caraway.task import Task

_MISSING: Any = object()


class BulkError(PublishError):
    """A bulk call stopped in the middle.

    Attributes:
        results: of the calls that were sent.
        failed: positions in the chunk that failed, counted from ``sent``.
        sent: how many calls were in the broker before the chunk that failed.
    """

    def __init__(
        self, *args: object, results: Any = (), sent: int = 0, failed: Sequence[int] = ()
    ) -> None:
        super().__init__(
            *args,
            failed=failed,
            hint=f"{sent} calls were sent; go on with the one after",
        )
        self.results = results
        self.sent = sent


def apply_async(
    task: Task[Any, Any], args: Any, kwargs: Any, options: dict[str, Any]
) -> AsyncResult[Any]:
    """See `Task.apply_async`."""
    app = task.app
    app.finalize(auto=True)
    check_arguments(task, args, kwargs)
    if app.conf.task_always_eager:
        from caraway.task import eager

        return eager.apply(task, args, kwargs, {**options, "always": True})
    retry, policy, timeout = delivery_options(options)
    unsent = build(app, task.name, args, kwargs, options, task)
    publish(app, (unsent.publication,), retry, policy, timeout)
    return _told(app, task, unsent)


async def aapply_async(
    task: Task[Any, Any], args: Any, kwargs: Any, options: dict[str, Any]
) -> AsyncResult[Any]:
    """See `Task.aapply_async`."""
    app = task.app
    app.finalize(auto=True)
    check_arguments(task, args, kwargs)
    if app.conf.task_always_eager:
        from caraway.task import eager

        return await eager.aapply(task, args, kwargs, {**options, "always": True})
    delivery_options(options)  # the thread that publishes for all has one policy
    if not options and not signals.before_task_publish.receivers:
        publication = task.build(args or (), kwargs or {})
        if publication is not None and not signals.after_task_publish.receivers:
            await app.publish_thread.submit((publication,))
            return AsyncResult(publication.message.headers["id"], None, task.name, app)
    unsent = build(app, task.name, args, kwargs, options, task)
    await app.publish_thread.submit((unsent.publication,))
    return _told(app, task, unsent)


def send_task(
    app: Caraway, name: str, args: Any, kwargs: Any, options: dict[str, Any]
) -> AsyncResult[Any]:
    """See `Caraway.send_task`."""
    task = _known(app, name)
    retry, policy, timeout = delivery_options(options)
    unsent = build(app, name, args, kwargs, options, task)
    publish(app, (unsent.publication,), retry, policy, timeout)
    if signals.after_task_publish.receivers:
        sent(name, unsent)
    return AsyncResult(unsent.task_id, None, name, app)


async def asend_task(
    app: Caraway, name: str, args: Any, kwargs: Any, options: dict[str, Any]
) -> AsyncResult[Any]:
    """See `Caraway.asend_task`."""
    task = _known(app, name)
    delivery_options(options)
    unsent = build(app, name, args, kwargs, options, task)
    await app.publish_thread.submit((unsent.publication,))
    if signals.after_task_publish.receivers:
        sent(name, unsent)
    return AsyncResult(unsent.task_id, None, name, app)


def _known(app: Caraway, name: str) -> Task[Any, Any] | None:
    if app.conf.task_always_eager:
        import warnings

        warnings.warn(
            "task_always_eager has no effect on send_task(): it knows no function to run",
            stacklevel=4,
        )
    return app.tasks.get(name)


def publish_signatures(app: Caraway, signatures: Iterable[Any], chunk: int) -> ResultList[Any]:
    """See `Caraway.publish`."""
    from caraway.canvas import maybe_signature

    if chunk < 1:
        raise ValueError("chunk must be 1 or more")
    results: ResultList[Any] = ResultList(app)
    tasks = app.tasks
    iterator = iter(signatures)
    eager = app.conf.task_always_eager
    done = 0
    while True:
        unsents = []
        count = 0
        for each in islice(iterator, chunk):
            count += 1
            signature = maybe_signature(each, app)
            if eager:
                results.append_eager(signature.apply_async())
                continue
            options = dict(signature.options)
            delivery_options(options)
            name = signature.name
            unsents.append(
                build(app, name, signature.args, signature.kwargs, options, tasks.get(name))
            )
        if unsents:
            try:
                app.publish_all([unsent.publication for unsent in unsents])
            except PublishError as exc:
                raise BulkError(
                    exc.args[0] if exc.args else "publishing failed",
                    results=results, sent=done, failed=exc.failed,
                ) from exc  # fmt: skip
            for unsent in unsents:
                results.append_id(unsent.task_id)
                if signals.after_task_publish.receivers:
                    sent(unsent.publication.message.headers["task"], unsent)
            done += len(unsents)
        if count < chunk:
            return results


def check_arguments(task: Task[Any, Any], args: Any, kwargs: Any) -> None:
    """Raise TypeError if the task doesn't take these."""
    if args is not None and (isinstance(args, (str, bytes)) or not isinstance(args, Iterable)):
        raise TypeError(
            f"args of {task.name} must be a list or tuple, not {type(args).__name__}; "
            "did you mean delay(), or (arg,)?"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs of {task.name} must be a mapping, not {type(kwargs).__name__}")
    check = task.argument_check
    if check is not None:
        check(*(args or ()), **(kwargs or {}))


def delivery_options(options: dict[str, Any]) -> tuple[Any, Any, float | None]:
    """Take ``retry``, ``retry_policy`` and ``timeout`` out of a call's options."""
    return (
        options.pop("retry", None),
        options.pop("retry_policy", None),
        options.pop("timeout", None),
    )


def publish(
    app: Caraway,
    publications: Sequence[Publication],
    retry: bool | None,  # noqa: FBT001 - Celery's option
    policy: Mapping[str, Any] | None,
    timeout: float | None,
) -> None:
    """Publish with the app's retry policy, or with the call's own."""
    if retry is None and policy is None and timeout is None:
        app.publish_all(publications)
        return
    conf = app.conf
    if (conf.task_publish_retry if retry is None else retry) is False:
        own = None
    else:
        own = {**conf.task_publish_retry_policy, **(policy or {})}

    def apart(these: Sequence[Publication]) -> None:
        app.producer.publish_apart(these, policy=own, timeout=timeout)

    app.publish_through(apart)(publications)


def _told(app: Caraway, task: Task[Any, Any], unsent: Unsent) -> AsyncResult[Any]:
    if signals.after_task_publish.receivers:
        sent(task.name, unsent)
    return AsyncResult(unsent.task_id, None, task.name, app)


def delay_many(
    task: Task[Any, Any],
    calls: Iterable[Sequence[Any] | Mapping[str, Any]],
    chunk: int,
    options: dict[str, Any],
) -> ResultList[Any]:
    """See `Task.delay_many`."""
    if chunk < 1:
        raise ValueError("chunk must be 1 or more")
    if options.get("task_id"):
        raise TypeError("delay_many() can't give all tasks the same task_id")
    app = task.app
    app.finalize(auto=True)
    results: ResultList[Any] = ResultList(app, task.name)
    if app.conf.task_always_eager:
        for call in calls:
            args, kwargs = _call(task, call)
            results.append_eager(apply_async(task, args, kwargs, dict(options)))
        return results
    retry, policy, timeout = delivery_options(options)
    compiled = (
        not (
            options or signals.before_task_publish.receivers or signals.after_task_publish.receivers
        )
        and task.build((), {}) is not None
    )
    check = task.argument_check
    if compiled:
        make = task.__dict__["_build"]
    add = results.append_id
    iterator = iter(calls)
    done = 0
    while True:
        publications = []
        unsents = []
        failure: BaseException | None = None
        try:
            for call in islice(iterator, chunk):
                args, kwargs = _call(task, call)
                if check is not None:
                    check(*args, **kwargs)
                if compiled:
                    publications.append(make(args, kwargs))
                else:
                    unsent = build(app, task.name, args, kwargs, options, task)
                    unsents.append(unsent)
                    publications.append(unsent.publication)
        except Exception as exc:  # noqa: BLE001 - what was good before it is sent first
            failure = exc
        if publications:
            try:
                publish(app, publications, retry, policy, timeout)
            except PublishError as exc:
                raise BulkError(
                    exc.args[0] if exc.args else "publishing failed",
                    results=results, sent=done, failed=exc.failed,
                ) from exc  # fmt: skip
            except Exception as exc:
                exc.add_note(f"delay_many: {done} calls were sent before this failed")
                raise
            for publication in publications:
                add(publication.message.headers["id"])
            for unsent in unsents:
                sent(task.name, unsent)
            done += len(publications)
        if failure is not None:
            failure.add_note(f"delay_many: {done} calls were sent before this one")
            raise failure
        if len(publications) < chunk:
            return results


def _call(task: Task[Any, Any], call: Any) -> tuple[Any, Any]:
    kind = type(call)
    if kind is tuple or kind is list:
        return call, {}
    if isinstance(call, Mapping):
        return (), dict(call)
    if isinstance(call, Sequence) and not isinstance(call, (str, bytes, bytearray)):
        return tuple(call), {}
    raise TypeError(
        f"delay_many() of {task.name} takes one tuple of arguments, or one mapping, for each "
        f"call, not {kind.__name__}; for a single argument write (x,)"
    )


def retry(
    task: Task[Any, Any],
    args: Any,
    kwargs: Any,
    exc: BaseException | None,
    throw: bool,  # noqa: FBT001
    eta: datetime | None,
    countdown: float | None,
    max_retries: int | None,
    options: dict[str, Any],
) -> Retry:
    """See `Task.retry`."""
    import sys

    request = task.request
    active = sys.exc_info()[1]
    if request.called_directly:
        # a plain call has no message to send again
        raise exc or active or Retry("Task can be retried", None)
    allowed = task.max_retries if max_retries is None else max_retries
    if allowed is not None and request.retries >= allowed:
        if exc is not None:
            raise exc
        raise task.MaxRetriesExceededError(
            f"Can't retry {task.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
            task_args=request.args,
            task_kwargs=request.kwargs,
        )
    if countdown is None and eta is None:
        countdown = task.default_retry_delay
    changes = {key: value for key, value in options.items() if key != "link" or value}
    if args is not None:
        changes["args"] = list(args)
    if kwargs is not None:
        changes["kwargs"] = dict(kwargs)
    again = Retry(
        exc=exc if exc is not None else active,
        when=countdown if countdown is not None else eta,
        is_eager=request.is_eager,
        sig=changes,
    )
    if throw:
        raise again
    if request.delivery is not None:
        task.app.publish_all(
            [
                retry_publication(
                    request.delivery, request, again,
                    now=task.app.context.clock(), registry=task.app.registry,
                )
            ]
        )  # fmt: skip
    return again
