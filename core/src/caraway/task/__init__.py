"""Tasks: functions that can be sent.  Attributes and methods as in Celery."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NoReturn, ParamSpec, TypeVar

from caraway import states
from caraway.errors import MaxRetriesExceededError, OperationalError, Retry
from caraway.request import Request, current_request
from caraway.result import AsyncResult
from caraway.task.arguments import argument_check
from caraway.task.handlers import Handlers
from caraway.task.plan import compile_build, compile_delay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from datetime import datetime

    from caraway.app import Caraway
    from caraway.canvas import Signature
    from caraway.interfaces.backend import Backend
    from caraway.result import EagerResult
    from caraway.result.sets import ResultList

P = ParamSpec("P")
R = TypeVar("R")

_PLANS = ("delay", "_delay", "_build", "_check")
"""What is compiled with the first use, and lies in the instance."""


class Task(Handlers, Generic[P, R]):
    """A task.  Made by ``@app.task``, or subclassed with a method ``run``.

    Attributes:
        name: unique in the app; default is module and function.
        app: whose task it is.
        max_retries: how often `retry` may be called; None is for ever.
        default_retry_delay: seconds before a retry that says nothing.
        rate_limit: ``"10/m"`` and the like, per worker; None: the setting.
        ignore_result: don't store results.
        serializer: name; None: the setting ``task_serializer``.
        compression: name; None: the setting ``task_compression``.
        time_limit: seconds until a run is killed.
        soft_time_limit: seconds until `SoftTimeLimitExceeded` is raised inside it.
        acks_late: True: acknowledge with the outcome (at-least-once, the default);
            False: before the run (at-most-once).
        track_started: store the state ``STARTED``.
        throws: exceptions that are expected: logged as information, without traceback.
        expires: seconds (or datetime) after which a message is not run any more.
        priority: 0 to 9, 9 first.
        queue: where its messages go; the call and ``task_routes`` may say else.
        autoretry_for: exceptions on which it retries by itself.
        retry_backoff: True, or seconds of the first back-off, doubled each time.
        typing: check arguments when the task is called.
    """

    name: str = None  # type: ignore[assignment] # set before anyone can read it
    app: Caraway = None  # type: ignore[assignment]
    typing: bool | None = None
    abstract: bool = True
    max_retries: int | None = 3
    default_retry_delay: float = 180
    rate_limit: str | None = None
    ignore_result: bool | None = None
    trail: bool = True
    send_events: bool = True
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    track_started: bool | None = None
    acks_late: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    throws: Sequence[type[BaseException]] = ()
    expires: float | datetime | None = None
    priority: int | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str | None = None
    delivery_mode: int | None = None
    resultrepr_maxsize: int = 1024
    autoretry_for: Sequence[type[BaseException]] = ()
    dont_autoretry_for: Sequence[type[BaseException]] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: bool | float = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    MaxRetriesExceededError: ClassVar[Any] = MaxRetriesExceededError
    OperationalError: ClassVar[Any] = OperationalError

    if TYPE_CHECKING:
        run: Callable[..., Any]
        """The work itself; what ``@app.task`` decorates."""
    else:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"task {self.name} must define run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run here and now, as the plain function it is."""
        result: R = self.run(*args, **kwargs)
        return result

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        self.forget_plans()

    def forget_plans(self) -> None:
        """Compile anew with the next call."""
        for plan in _PLANS:
            self.__dict__.pop(plan, None)

    def bind(self, app: Caraway) -> None:
        """Take what is None from the app's settings and annotations."""
        from caraway.task.binding import annotate, take_defaults

        self.app = app
        annotate(self, app.conf.task_annotations)
        take_defaults(self, app.conf)
        self.on_bound(app)

    @property
    def argument_check(self) -> Callable[..., Any] | None:
        """Takes what ``run`` takes and does nothing; None if arguments aren't checked."""
        try:
            check: Callable[..., Any] | None = self.__dict__["_check"]
        except KeyError:
            typed = self.app.strict_typing if self.typing is None else self.typing
            check = self.__dict__["_check"] = argument_check(self.run) if typed else None
        return check

    @property
    def request(self) -> Request:
        """The run that is going on in this thread or coroutine."""
        request = current_request.get()
        if request is not None and request.task_object is self:
            return request
        return Request({"task": self.name}, called_directly=True)

    @property
    def backend(self) -> Backend:
        """Where its results are kept."""
        return self.app.backend

    # -- sending -----------------------------------------------------------------------

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send with these arguments.  Returns when the broker has it.

        Raises:
            TypeError: arguments that ``run`` doesn't take.
            EncodeError: arguments that can't be written.
            TransportUnavailable: the broker can't be reached in time.
        """
        self.app.finalize(auto=True)
        plan = self.__dict__.get("_delay")
        if plan is None:
            plan = self.__dict__["_delay"] = compile_delay(self)
            if type(self).delay is Task.delay:
                # from now on `task.delay` is the compiled function itself
                self.__dict__["delay"] = plan
        result: AsyncResult[R] = plan(*args, **kwargs)
        return result

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """`delay` for coroutines: calls made together are published together."""
        return await self.aapply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """Send with options.  Returns when the broker has it.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            **options: ``countdown`` (seconds), ``eta`` (datetime), ``expires`` (seconds or
                datetime), ``queue``, ``exchange``, ``routing_key``, ``priority`` (0 to 9),
                ``serializer``, ``compression``, ``headers``, ``time_limit``,
                ``soft_time_limit`` (seconds), ``retry`` (bool), ``retry_policy``,
                ``timeout`` (seconds), ``task_id``, ``ignore_result``, ``link``,
                ``link_error``, ``shadow``, ``reply_to``, and AMQP properties.

        Raises:
            TypeError: arguments that ``run`` doesn't take, or an unknown option.
            EncodeError: arguments that can't be written.
            TransportUnavailable: the broker can't be reached in time.
        """
        from caraway.task import send

        result: AsyncResult[R] = send.apply_async(self, args, kwargs, options)
        return result

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[R]:
        """`apply_async` for coroutines."""
        from caraway.task import send

        result: AsyncResult[R] = await send.aapply_async(self, args, kwargs, options)
        return result

    def delay_many(
        self,
        calls: Iterable[Sequence[Any] | Mapping[str, Any]],
        *,
        chunk: int = 500,
        **options: Any,
    ) -> ResultList[R]:
        """Send many calls in few round trips.

        Args:
            calls: one item a call: a tuple of its arguments, or a mapping of keyword
                arguments.  Taken in lazily.
            chunk: how many are published at a time.
            **options: of `apply_async`, for all of them.

        Returns:
            Their results, in order.

        Raises:
            BulkError: a chunk failed; says how many calls were sent before it.
        """
        from caraway.task import send

        results: ResultList[R] = send.delay_many(self, calls, chunk, options)
        return results

    def build(self, args: Any, kwargs: Any) -> Any:
        """The compiled way to a publication, None where there is none."""
        try:
            return self.__dict__["_build"](args, kwargs)
        except KeyError:
            plan = compile_build(self)
            self.__dict__["_build"] = plan if plan is not None else lambda *_: None
            return self.__dict__["_build"](args, kwargs)

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run here and now, with all that a worker does around it.

        Args:
            args: positional arguments.
            kwargs: keyword arguments.
            **options: ``link``, ``link_error``, ``task_id``, ``retries``, ``throw`` (raise
                what the task raises), ``headers``; those of `apply_async` that only
                concern messages are passed over.
        """
        from caraway.task import eager

        result: EagerResult[R] = eager.apply(self, args, kwargs, options)
        return result

    def s(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """A signature: this call, for later."""
        return self.signature(args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R]:
        """An immutable signature: takes no result of the task before it."""
        return self.signature(args, kwargs, immutable=True)

    def signature(
        self, args: Any = None, kwargs: Any = None, *starargs: Any, **starkwargs: Any
    ) -> Signature[R]:
        """A signature with options."""
        from caraway.canvas import Signature

        starkwargs.setdefault("app", self.app)
        return Signature(self, args, kwargs, *starargs, **starkwargs)

    subtask = signature

    def AsyncResult(self, task_id: str, **options: Any) -> AsyncResult[R]:  # noqa: N802
        """The result of a task of this kind, by id."""
        return AsyncResult(task_id, app=self.app, task_name=self.name, **options)

    # -- from inside a run -------------------------------------------------------------

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run this task again later: same id, one retry more.  Raises `Retry`.

        Args:
            args: new positional arguments; None keeps them.
            kwargs: new keyword arguments; None keeps them.
            exc: why; raised when there were retries enough.
            throw: False publishes at once and returns instead of raising.
            eta: when.
            countdown: seconds from now; default ``default_retry_delay``.
            max_retries: in place of the task's.
            **options: of `apply_async`.

        Raises:
            Retry: always, if there is a retry left and ``throw``.
            MaxRetriesExceededError: none is left, and no ``exc`` was given.
        """
        from caraway.task import send

        return send.retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, options)

    def autoretry(self, exc: BaseException, request: Request) -> NoReturn:
        """What ``autoretry_for`` does: retry, with back-off if there is any.

        Raises:
            Retry: there is a retry left.
            BaseException: ``exc`` itself, if none is.
        """
        from caraway.retry import exponential_backoff

        options = dict(self.retry_kwargs)
        if self.retry_backoff:
            options["countdown"] = exponential_backoff(
                request.retries,
                factor=max(1.0, float(self.retry_backoff)),
                maximum=self.retry_backoff_max,
                jitter=self.retry_jitter,
            )
        raise self.retry(exc=exc, **options)

    def update_state(
        self,
        task_id: str | None = None,
        state: str | None = None,
        meta: Any = None,
        **_: Any,
    ) -> None:
        """Store a state of the running task, a custom one with any ``meta``.

        Args:
            task_id: default the one that runs.
            state: default unchanged ``STARTED``.
            meta: what ``AsyncResult.info`` gives.
        """
        self.app.store_state(task_id or self.request.id, state or states.STARTED, meta)

    def send_event(self, type_: str, **fields: Any) -> None:
        """Send an event of your own, with this task's id, to whoever listens."""
        request = self.request
        fields.setdefault("hostname", request.hostname or None)
        self.app.send_event(type_, uuid=request.id, **fields)

    def replace(self, sig: Any) -> NoReturn:
        """Put another task in this one's place."""
        raise NotImplementedError("Task.replace comes with the canvas, which isn't here yet")

    def add_to_chord(self, sig: Any, lazy: bool = False) -> NoReturn:  # noqa: FBT001, FBT002
        """Add a task to the chord this one is a member of."""
        raise NotImplementedError("Task.add_to_chord comes with the canvas, not here yet")

    @property
    def __name__(self) -> str:
        return type(self).__qualname__.rpartition(".")[2]

    def __repr__(self) -> str:
        return f"<@task: {self.name} of {self.app!r}>"

    def __reduce__(self) -> Any:
        from caraway.app.current import task_by_name

        return task_by_name, (self.name,)


if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """A task made of an ``async def``: its result is what the coroutine returns."""

        def __call__(  # type: ignore[override]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...

else:
    AsyncTask = Task
