"""Runs one task to its outcome: the same code for eager calls and for the worker.

`build_runner` looks everything up that can't change between two runs (function,
middleware, serializer, handlers, listeners' lists) and closes over it.  What a feature
costs is paid by the tasks that use it: a plain function with nothing around it passes
through one frame of ours.

Steps of one run:

1. the request becomes the current one;
2. ``before_start`` and the signal ``task_prerun``, where somebody listens;
3. the function, inside the middleware;
4. its value or exception becomes an `Outcome`: retry, ignore, reject, failure, success;
5. the result is encoded here, so that one that can't be is this task's failure and
   nobody else's;
6. handlers and signals.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

from caraway import states
from caraway.errors import (
    EncodeError,
    Ignore,
    Reject,
    Retry,
    TaskRevokedError,
    Terminated,
)
from caraway.outcome import Outcome, revoked
from caraway.request import Request, current_request

if TYPE_CHECKING:
    from caraway.task import Task

Run = Callable[[Request], Outcome]
AsyncRun = Callable[[Request], Awaitable[Outcome]]
SwiftRun = Callable[[Request], "Outcome | bytes | Awaitable[Outcome | bytes]"]


class ExceptionInfo:
    """An exception with its traceback as text: what handlers get as ``einfo``."""

    __slots__ = ("exception", "traceback", "type")

    def __init__(self, exception: BaseException, traceback: str) -> None:
        self.exception = exception
        self.type = type(exception)
        self.traceback = traceback

    def __str__(self) -> str:
        return self.traceback


class Runner:
    """What `build_runner` returns.

    Attributes:
        run: runs a sync task; raises nothing.
        swift: `run`, or of an async task `arun`, for a message that asks for nothing but
            its result: returns the value as JSON where it is a plain success, for
            `codec.success_record`.  None where each outcome is told to somebody, or
            records aren't JSON.
        arun: runs an async task on the current loop; raises nothing.
        is_async: which of the two is for this task.
        settle_failure: turns an exception that came from outside of the function
            (time limit, undecodable body, lost process) into the failure's outcome.
    """

    __slots__ = ("arun", "is_async", "run", "settle_failure", "swift")

    def __init__(
        self,
        run: Run,
        arun: AsyncRun,
        settle_failure: Callable[[Request, BaseException], Outcome],
        swift: SwiftRun | None = None,
        *,
        is_async: bool,
    ) -> None:
        self.run = run
        self.swift = swift
        self.arun = arun
        self.settle_failure = settle_failure
        self.is_async = is_async


def format_traceback(exc: BaseException, skip: int = 1) -> str:
    """The traceback as text, without the first ``skip`` frames, which are ours."""
    import traceback

    tb = exc.__traceback__
    while skip and tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
        skip -= 1
    try:
        return "".join(traceback.format_exception(type(exc), exc, tb))
    except Exception:  # noqa: BLE001 - a __str__ of the user's may raise anything
        return f"{type(exc).__name__}: <its text can't be shown>\n"


def is_async_callable(fun: Any) -> bool:
    """True if calling ``fun`` makes a coroutine."""
    import inspect

    return inspect.iscoroutinefunction(fun) or inspect.iscoroutinefunction(
        getattr(fun, "__call__", None)  # noqa: B004 - the method itself is wanted
    )


def build_runner(task: Task[Any, Any], *, store: bool = True, throw: bool = False) -> Runner:
    """Compile a task.

    Args:
        task: bound to an app whose settings are final.
        store: encode results for the backend; False (eager) leaves payloads out.
        throw: let exceptions of the function pass through (eager with ``throw=True``).
    """
    from caraway import middleware, signals
    from caraway.protocol import result as codec
    from caraway.protocol.codec import QUICK, quick, success_encoder, value_encoder
    from caraway.task import Task as Base

    app = task.app
    conf = app.conf
    cls = type(task)
    fun: Callable[..., Any] = task.run if cls.__call__ is Base.__call__ else task
    is_async = is_async_callable(task.run)
    chain = tuple(app.middleware)
    call: Callable[..., Any] | None = None
    if middleware.wraps_runs(chain, is_async=is_async):
        call = middleware.compile_chain(chain, fun, is_async=is_async)
    before_start = task.before_start if cls.before_start is not Base.before_start else None
    on_success = task.on_success if cls.on_success is not Base.on_success else None
    on_failure = task.on_failure if cls.on_failure is not Base.on_failure else None
    on_retry = task.on_retry if cls.on_retry is not Base.on_retry else None
    after_return = task.after_return if cls.after_return is not Base.after_return else None
    autoretry_for = tuple(task.autoretry_for or ())
    dont_autoretry_for = tuple(task.dont_autoretry_for or ())
    ignore_always = bool(task.ignore_result)
    keep_errors = bool(task.store_errors_even_if_ignored)
    serializer = app.registry.serializer(conf.result_serializer)
    extended = bool(conf.result_extended)
    encode_success = success_encoder(serializer)
    encode_value = value_encoder(serializer)
    prerun, postrun = signals.task_prerun, signals.task_postrun
    sig_success, sig_failure = signals.task_success, signals.task_failure
    sig_retry = signals.task_retry
    clock = perf_counter
    plain_end = not (on_success or after_return)
    # What only reads the value can't fail but in its encoding: see `swift`.
    plain = plain_end and store and not ignore_always and not extended

    def encode(
        request: Request, state: str, value: Any, traceback: str | None = None
    ) -> bytes | None:
        headers = request.headers
        if not store or (
            (ignore_always or headers.get("ignore_result"))
            and not (keep_errors and state in states.EXCEPTION_STATES)
        ):
            return None
        if (
            state == states.SUCCESS
            and not extended
            and not headers.get("group")
            and (request.children is None and not headers.get("parent_id"))
        ):
            return encode_success(headers["id"], value)
        return codec.encode_meta(
            serializer,
            cast("str", request.id),
            state,
            codec.encode_exception(value)
            if isinstance(value, BaseException) and state in states.EXCEPTION_STATES
            else value,
            traceback=traceback,
            request=request,
            extended=extended,
        )

    def succeeded(request: Request, value: Any, runtime: float) -> Outcome:
        try:
            payload = encode(request, states.SUCCESS, value)
        except (EncodeError, RecursionError, MemoryError) as exc:
            return failed(request, exc, runtime)
        if plain_end and not sig_success.receivers and not postrun.receivers:
            return Outcome(states.SUCCESS, value, payload, runtime=runtime)
        outcome = Outcome(states.SUCCESS, value, payload, runtime=runtime)
        if on_success:
            guard(on_success, value, request.id, request.args, request.kwargs)
        if sig_success.receivers:
            sig_success.send(sender=task, result=value, runtime=runtime)
        return ended(request, outcome, value)

    def ended(request: Request, outcome: Outcome, value: Any, einfo: Any = None) -> Outcome:
        if after_return:
            guard(
                after_return, outcome.state, value, request.id, request.args,
                request.kwargs, einfo,
            )  # fmt: skip
        if postrun.receivers:
            postrun.send(
                sender=task, task_id=request.id, task=task, args=request.args,
                kwargs=request.kwargs, retval=value, state=outcome.state,
            )  # fmt: skip
        return outcome

    def guard(handler: Callable[..., Any], *args: Any) -> None:
        # A handler that fails must not change what became of the task: it is logged.
        try:
            handler(*args)
        except BaseException:
            import logging

            logging.getLogger("caraway.task").exception(
                "handler %s of task %s failed", getattr(handler, "__name__", handler), task.name
            )

    def retried(request: Request, retry: Retry, runtime: float) -> Outcome:
        reason = retry.exc if retry.exc is not None else retry
        text = format_traceback(reason)
        payload = encode(request, states.RETRY, reason, text)
        outcome = Outcome(
            states.RETRY, reason, payload, traceback=text, retry=retry, runtime=runtime
        )
        info = ExceptionInfo(reason, text)
        if on_retry:
            guard(on_retry, reason, request.id, request.args, request.kwargs, info)
        if sig_retry.receivers:
            sig_retry.send(sender=task, request=request, reason=reason, einfo=info)
        return ended(request, outcome, retry, info)

    def failed(request: Request, exc: BaseException, runtime: float) -> Outcome:
        text = format_traceback(exc)
        state = states.REVOKED if isinstance(exc, TaskRevokedError) else states.FAILURE
        payload = encode(request, state, exc, text)
        outcome = Outcome(state, exc, payload, traceback=text, runtime=runtime)
        info = ExceptionInfo(exc, text)
        failure = state == states.FAILURE
        if on_failure and failure:
            guard(on_failure, exc, request.id, request.args, request.kwargs, info)
        if sig_failure.receivers and failure:
            sig_failure.send(
                sender=task, task_id=request.id, exception=exc, args=request.args,
                kwargs=request.kwargs, traceback=exc.__traceback__, einfo=info,
            )  # fmt: skip
        return ended(request, outcome, exc, info)

    def raised(request: Request, exc: BaseException, runtime: float) -> Outcome:
        if isinstance(exc, Terminated) and exc.signum is not None:
            return failed(request, revoked("terminated", exc.signum, exc), runtime)
        if isinstance(exc, Retry):
            return retried(request, exc, runtime)
        if isinstance(exc, Ignore):
            return ended(request, Outcome(states.IGNORED, exc, runtime=runtime), None)
        if isinstance(exc, Reject):
            reason = f"rejected by the task: {exc.reason}" if exc.reason else "rejected by the task"
            return ended(
                request,
                Outcome(states.REJECTED, exc, requeue=exc.requeue, reason=reason, runtime=runtime),
                None,
            )
        if (
            autoretry_for
            and isinstance(exc, autoretry_for)
            and not (dont_autoretry_for and isinstance(exc, dont_autoretry_for))
        ):
            trace = exc.__traceback__
            try:
                task.autoretry(exc, request)
            except Retry as retry:
                return retried(request, retry, runtime)
            except BaseException as final:  # noqa: BLE001 - the original, or too many retries
                # Raised again, it would lead its readers through our frames.
                exc = exc.with_traceback(trace) if final is exc else final
        if throw:
            raise exc
        return failed(request, exc, runtime)

    def begin(request: Request) -> None:
        if before_start:
            before_start(cast("str", request.id), request.args, request.kwargs)
        if prerun.receivers:
            prerun.send(
                sender=task, task_id=request.id, task=task,
                args=request.args, kwargs=request.kwargs,
            )  # fmt: skip

    def run(request: Request) -> Outcome:
        request.task_object = task
        token = current_request.set(request)
        started = clock()
        try:
            if before_start or prerun.receivers:
                begin(request)
            value = fun(*request.args, **request.kwargs) if call is None else call(request)
            return succeeded(request, value, clock() - started)
        except BaseException as exc:  # noqa: BLE001 - SystemExit of a task is a failure
            return raised(request, exc, clock() - started)
        finally:
            current_request.reset(token)

    def plainly(request: Request, value: Any, started: float) -> Outcome | bytes:
        """The end of `swift` and `aswift`."""
        if request.children or sig_success.receivers or postrun.receivers:
            return succeeded(request, value, clock() - started)
        request.returned = value
        if type(value) in QUICK:
            try:
                return quick(value)
            except (ValueError, OverflowError):  # lone surrogates, large integers
                pass
        try:
            return encode_value(value)  # type: ignore[misc]
        except (EncodeError, RecursionError, MemoryError) as exc:
            return failed(request, exc, clock() - started)

    def swift(request: Request) -> Outcome | bytes:
        # `run`, with nothing in it that a plain success doesn't need: between two tasks
        # that compute, each line of ours is read from cold memory.
        request.task_object = task
        token = current_request.set(request)
        started = clock()
        try:
            if before_start or prerun.receivers:
                begin(request)
            value = fun(*request.args, **request.kwargs) if call is None else call(request)
            return plainly(request, value, started)
        except BaseException as exc:  # noqa: BLE001 - as above
            return raised(request, exc, clock() - started)
        finally:
            current_request.reset(token)

    async def aswift(request: Request) -> Outcome | bytes:
        request.task_object = task
        token = current_request.set(request)
        started = clock()
        try:
            if before_start or prerun.receivers:
                begin(request)
            if call is None:
                value = await fun(*request.args, **request.kwargs)
            else:
                value = await call(request)
            return plainly(request, value, started)
        except BaseException as exc:  # noqa: BLE001 - as above
            return raised(request, exc, clock() - started)
        finally:
            current_request.reset(token)

    async def arun(request: Request) -> Outcome:
        request.task_object = task
        token = current_request.set(request)
        started = clock()
        try:
            if before_start or prerun.receivers:
                begin(request)
            if call is None:
                value = await fun(*request.args, **request.kwargs)
            else:
                value = await call(request)
            return succeeded(request, value, clock() - started)
        except BaseException as exc:  # noqa: BLE001 - as above
            return raised(request, exc, clock() - started)
        finally:
            current_request.reset(token)

    def settle_failure(request: Request, exc: BaseException) -> Outcome:
        request.task_object = task
        return failed(request, exc, 0.0)

    fast = aswift if is_async else swift
    return Runner(
        run, arun, settle_failure, fast if plain and encode_value is not None else None,
        is_async=is_async,
    )  # fmt: skip
