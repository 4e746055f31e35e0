"""`Caraway`: what everything else of one application hangs on.

Nothing is connected, discovered or read before it is needed; every component is built
once per process, and a forked child builds its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

from caraway import signals
from caraway.app import building, current
from caraway.app.components import Components
from caraway.app.registry import TaskRegistry
from caraway.message import Publication
from caraway.result import AsyncResult, ResultSet
from caraway.task import Task as BaseTask

if TYPE_CHECKING:
    from datetime import datetime, tzinfo

    from caraway.app.decorator import TaskDecorator
    from caraway.canvas import Signature
    from caraway.result.sets import ResultList


class Caraway(Components):
    """An application.

    Args:
        main: name of the module that tasks defined in ``__main__`` belong to.
        broker: URL; the setting ``broker_url``.
        backend: URL; the setting ``result_backend``.
        include: modules that define tasks; workers import them.
        plugins: plugin objects, or their dotted names, besides those installed.
        set_as_current: become the current app.
        task_cls: base class of tasks, or its dotted name.
        strict_typing: check the arguments of calls.
        config_source: as for `config_from_object`.
        namespace: as for `config_from_object`.
        autofinalize: False: `finalize` must be called.
        **settings: any setting by name.

    Raises:
        ImproperlyConfigured: with the first use, if a setting is unknown or bad.

    Attributes:
        main: see above.
        strict_typing: see above.
        finalized: settings and tasks are settled.
        on_configure: signal, before settings are read.
        on_after_configure: signal, after that.
        on_after_finalize: signal, when all tasks are registered.
        on_after_fork: signal, in a child process.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Iterable[str] | str = (),
        plugins: Iterable[object] = (),
        set_as_current: bool = True,
        task_cls: type[BaseTask[Any, Any]] | str | None = None,
        strict_typing: bool = True,
        config_source: Any = None,
        namespace: str = "",
        autofinalize: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.main = main
        self.strict_typing = strict_typing
        self.autofinalize = autofinalize
        self.finalized = False
        self._keywords = dict(settings)
        if broker is not None:
            self._keywords["broker_url"] = broker
        if backend is not None:
            self._keywords["result_backend"] = backend
        if include:
            self._keywords["include"] = [include] if isinstance(include, str) else list(include)
        self._plugins = tuple(plugins)
        self._tasks = TaskRegistry()
        self._task_cls = task_cls
        self._pending: list[Callable[[], None]] = []
        self._finalizing = RLock()
        self.on_configure = signals.Signal("app.on_configure")
        self.on_after_configure = signals.Signal("app.on_after_configure")
        self.on_after_finalize = signals.Signal("app.on_after_finalize")
        self.on_after_fork = signals.Signal("app.on_after_fork")
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        current.apps.add(self)
        if set_as_current:
            self.set_current()

    # -- tasks -------------------------------------------------------------------------

    if TYPE_CHECKING:

        @property
        def task(self) -> TaskDecorator:
            """See below; the types are those of `TaskDecorator`."""

    else:

        def task(self, *args: Any, **options: Any) -> Any:
            """Decorator that makes a task of a function, plain or ``async def``.

            Bare, or with options: ``name``, ``bind`` (the task is the first argument),
            ``base``, and any attribute of `Task`.
            """
            if len(args) == 1 and callable(args[0]):
                return self._task_from_function(args[0], **options)
            if args:
                raise TypeError("@app.task() takes options by keyword only: @app.task(name=...)")
            return lambda fun: self._task_from_function(fun, **options)

    def _task_from_function(self, fun: Any, **options: Any) -> BaseTask[Any, Any]:
        return self._add_task(building.from_function(self, fun, options))

    def register_task(self, task: Any, **options: Any) -> Any:
        """Register a task object or class; return the object."""
        return self._add_task(building.check_task(self, task, options))

    def _add_task(self, task: BaseTask[Any, Any]) -> BaseTask[Any, Any]:
        task.app = self
        self._tasks[task.name] = task
        if self.finalized:
            task.bind(self)
        return task

    def gen_task_name(self, name: str, module: str | None) -> str:
        """The name of a task that was given none."""
        return building.task_name(self, name, module)

    @property
    def Task(self) -> type[BaseTask[Any, Any]]:  # noqa: N802 - Celery's name
        """Base class of this app's tasks."""
        base = self._task_cls
        if isinstance(base, str):
            from caraway.app.importing import import_attribute

            base = self._task_cls = import_attribute(base)
        return base or BaseTask

    @Task.setter
    def Task(self, cls: type[BaseTask[Any, Any]]) -> None:  # noqa: N802
        self._task_cls = cls

    @property
    def tasks(self) -> TaskRegistry:
        """All tasks by name.  Finalizes the app."""
        self.finalize(auto=True)
        return self._tasks

    def finalize(self, auto: bool = False) -> None:  # noqa: FBT001, FBT002 - Celery's
        """Settle settings and tasks.  Happens by itself with the first use.

        Raises:
            RuntimeError: ``auto``, and the app was made with ``autofinalize=False``.
        """
        if not self.finalized:
            with self._finalizing:
                self._finalize(auto=auto)

    def _finalize(self, *, auto: bool) -> None:
        if not self.finalized:
            if auto and not self.autofinalize:
                raise RuntimeError("the app is not finalized: call app.finalize()")
            # settings first: tasks take defaults from them
            assert self.conf is not None
            pending, self._pending = self._pending, []
            for each in pending:
                each()
            for register in current.shared:
                register(self)
            for task in list(self._tasks.values()):
                task.bind(self)
            self.finalized = True
            if self._registry is not None or self._plugins:
                self.registry.configure(self)
            self.on_after_finalize.send(sender=self)

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
    ) -> None:
        """Import ``<package>.<related_name>`` of each package, where it exists.

        Args:
            packages: names, or a function that gives them; None: those of ``include``.
            related_name: None imports the packages themselves.
            force: now; else when the app is finalized.
        """

        def discover() -> None:
            from caraway.app.importing import import_related

            names = packages() if callable(packages) else packages
            import_related(self.conf.include if names is None else names, related_name)

        if force or self.finalized:
            discover()
        else:
            self._pending.append(discover)

    def import_modules(self) -> None:
        """Import what ``imports`` and ``include`` name; workers do this at start.

        Raises:
            ImproperlyConfigured: a module doesn't exist, or failed; the cause is chained.
        """
        from caraway.app.importing import import_all

        import_all((*self.conf.imports, *self.conf.include))
        signals.import_modules.send(sender=self)

    @property
    def current_task(self) -> BaseTask[Any, Any] | None:
        """The task that runs in this thread or coroutine."""
        return current.get_current_task()

    current_worker_task = current_task

    # -- sending -----------------------------------------------------------------------

    def send_task(
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """Send a task by name; this process need not know it.

        Args:
            name: of the task.
            args: positional arguments, unchecked.
            kwargs: keyword arguments, unchecked.
            **options: of `Task.apply_async`.
        """
        from caraway.task import send

        return send.send_task(self, name, args, kwargs, options)

    async def asend_task(
        self, name: str, args: Any = None, kwargs: Any = None, **options: Any
    ) -> AsyncResult[Any]:
        """`send_task` for coroutines."""
        from caraway.task import send

        return await send.asend_task(self, name, args, kwargs, options)

    def publish(
        self, signatures: Iterable[Signature[Any] | Mapping[str, Any]], *, chunk: int = 500
    ) -> ResultList[Any]:
        """Send many signatures, of any tasks, in few round trips.

        Args:
            signatures: taken in lazily.
            chunk: how many are published at a time.

        Returns:
            Their results, in order.
        """
        from caraway.task import send

        return send.publish_signatures(self, signatures, chunk)

    def publish_all(self, publications: Sequence[Publication]) -> None:
        """Publish through the middleware; see `caraway.producer.Producer.publish`."""
        (self.publish_middleware or self.producer.publish)(publications)

    def signature(self, *args: Any, **kwargs: Any) -> Signature[Any]:
        """A signature bound to this app."""
        from caraway.canvas import signature

        kwargs["app"] = self
        return signature(*args, **kwargs)

    def AsyncResult(self, id: str, **options: Any) -> AsyncResult[Any]:  # noqa: A002, N802
        """The result of a task by id."""
        return AsyncResult(id, app=self, **options)

    def ResultSet(self, results: Iterable[Any] = (), **options: Any) -> ResultSet[Any]:  # noqa: N802
        """Several results as one."""
        return ResultSet(results, app=self, **options)

    def revoke(
        self, task_ids: str | Sequence[str], *, terminate: bool = False, signal: str | None = None
    ) -> None:
        """Tasks are not to run.  Kept by the broker: workers that start later honour it.

        Args:
            task_ids: one or more.
            terminate: end them if they run.
            signal: how: see `caraway.control.Control.revoke`; None is ``SIGTERM``.
        """
        ids = [task_ids] if isinstance(task_ids, str) else list(task_ids)
        if ids:
            self.control.revoke(ids, terminate=terminate, signal=signal or "SIGTERM")

    # -- time --------------------------------------------------------------------------

    @property
    def timezone(self) -> tzinfo:
        """The zone that schedules are in."""
        from caraway.app.periodic import zone

        return zone(self.conf.timezone)

    def uses_utc_timezone(self) -> bool:
        """True if that zone is UTC."""
        return str(self.timezone) == "UTC"

    def now(self) -> datetime:
        """The time, aware, in the app's zone."""
        from datetime import datetime

        return datetime.fromtimestamp(self.context.clock(), self.timezone)

    # -- life --------------------------------------------------------------------------

    def set_current(self) -> None:
        """Become the current app."""
        current.set_current_app(self)

    def set_default(self) -> None:
        """Become the app that is current while no other is."""
        current.set_default_app(self)

    def add_periodic_task(
        self,
        schedule: Any,
        sig: Any,
        args: Any = (),
        kwargs: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> str:
        """Add an entry to ``beat_schedule``; return its name."""
        from caraway.app.periodic import entry_of

        if args or kwargs:
            sig = sig.clone(args, kwargs)
        name = name or repr(sig)
        entry = entry_of(schedule, sig, options)
        self._configure_by(lambda conf: conf.beat_schedule.update({name: entry}))
        return name

    def start(self, argv: list[str] | None = None) -> None:
        """Run the command ``caraway`` with this app."""
        from importlib import import_module

        # by name: the client's half doesn't depend on the command line
        import_module("caraway.cli.__main__").main(argv, app=self)

    def worker_main(self, argv: list[str] | None = None) -> None:
        """Run ``caraway worker`` with this app."""
        self.start(["worker", *(argv or [])])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main or '__main__'}>"

    def __reduce__(self) -> Any:
        return current.get_current_app, ()
