"""The hooks of Caraway.  Read this first.

A plugin is a module (or an object) with functions named after these, each marked with
`caraway.plugins.hookimpl`.  An installed distribution announces its plugin module by an
entry point::

    [project.entry-points.caraway]
    shelf = "caraway_shelf.plugin"

How a start goes:

1. Nothing happens at import.  The first look-up of a component that isn't built in (or
   the first `caraway_configure`) finds the entry points and imports the plugin modules,
   once a process.
2. Each **registration hook** of each plugin is called, once a process; the entries it
   returns go into tables by scheme or name.  From then on nothing changes.
3. A component is imported and built when a setting or a message asks for it.
4. The **life-cycle hooks** are called when their moment comes.

Rules for all hooks:

- They are plain functions, called outside any event loop; none is called per task.  What
  is to happen per task is done by the objects that a plugin registers, by middleware, or
  by signals.
- An implementation may take any of the parameters below, by name, or none.  Give
  parameters no default.
- Implementations are called one by one.  One that raises is logged with the name of its
  plugin and costs only itself; with ``CARAWAY_PLUGINS_STRICT=1`` the error is raised.
- Order: ``tryfirst``, then as registered (built-in, installed by name, the app's own),
  then ``trylast``.  The two ``_stop`` hooks run in the opposite order.
- Wrappers are not supported.

Only types are imported here, none at run time: importing this costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from caraway.plugins.entries import (
        BackendEntry,
        CommandEntry,
        CompressorEntry,
        IntegrationEntry,
        MiddlewareEntry,
        PoolEntry,
        ScheduleEntry,
        SerializerEntry,
        TransportEntry,
    )

hookspec = pluggy.HookspecMarker("caraway")


# -- registration: what there is -------------------------------------------------------


@hookspec
def caraway_register_transports() -> Iterable[TransportEntry]:  # type: ignore[empty-body]
    """Offer brokers, found by the scheme of ``broker_url``.

    Called once a process, when a transport that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no transports; what it offers in other
    roles stays, and asking for a transport of its name says what was raised.
    """


@hookspec
def caraway_register_backends() -> Iterable[BackendEntry]:  # type: ignore[empty-body]
    """Offer result backends, found by the scheme of ``result_backend``.

    Called once a process, when a backend that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no backends; what it offers in other
    roles stays, and asking for a backend of its name says what was raised.
    """


@hookspec
def caraway_register_serializers() -> Iterable[SerializerEntry]:  # type: ignore[empty-body]
    """Offer serializers, found by name and by content type.

    ``task_serializer`` and the like name one; a message's ``content_type`` chooses who reads
    it.  An entry's ``safe`` decides whether it may be accepted by default.

    Called once a process, when a serializer that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no serializers; what it offers in other
    roles stays, and asking for a serializer of its name says what was raised.
    """


@hookspec
def caraway_register_compressors() -> Iterable[CompressorEntry]:  # type: ignore[empty-body]
    """Offer compression methods, found by name and by content type.

    ``task_compression`` names one; a message's header ``compression`` chooses who undoes it.

    Called once a process, when a compressor that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no compressors; what it offers in other
    roles stays, and asking for a compressor of its name says what was raised.
    """


@hookspec
def caraway_register_pools() -> Iterable[PoolEntry]:  # type: ignore[empty-body]
    """Offer worker pools, found by name (``worker_pool``, ``caraway worker -P``).

    Called once a process, when a pool that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no pools; what it offers in other
    roles stays, and asking for a pool of its name says what was raised.
    """


@hookspec
def caraway_register_schedules() -> Iterable[ScheduleEntry]:  # type: ignore[empty-body]
    """Offer schedule stores for beat, found by scheme.

    Called once a process, when a schedule store that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no schedule stores; what it offers in other
    roles stays, and asking for a schedule store of its name says what was raised.
    """


@hookspec
def caraway_register_middleware() -> Iterable[MiddlewareEntry]:  # type: ignore[empty-body]
    """Offer middleware by name.

    None is active unless the setting ``middleware`` lists it.

    Called once a process, when a middleware that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no middleware; what it offers in other
    roles stays, and asking for a middleware of its name says what was raised.
    """


@hookspec
def caraway_register_integrations() -> Iterable[IntegrationEntry]:  # type: ignore[empty-body]
    """Offer integrations with frameworks.

    Those whose ``detect`` holds are called with each app, after ``caraway_configure``.

    Called once a process, when a integration that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no integrations; what it offers in other
    roles stays, and asking for an integration of its name says what was raised.
    """


@hookspec
def caraway_register_commands() -> Iterable[CommandEntry]:  # type: ignore[empty-body]
    """Offer commands of the ``caraway`` program.

    The command itself is imported when it is run; built-in names can't be taken.

    Called once a process, when a command that isn't built in is first looked for, or an app
    is configured.  If it raises, this plugin offers no commands; what it offers in other
    roles stays, and asking for a command of its name says what was raised.
    """


# -- life-cycle: what happens when -----------------------------------------------------


@hookspec(historic=True)
def caraway_configure(app: Any) -> None:
    """An app has its settings; its components are not built yet.

    Called once for each app, in each process that sets it up.  A plugin that is added to
    an app later gets the call then.

    Args:
        app: the `caraway.Caraway`.
    """


@hookspec
def caraway_worker_start(worker: Any) -> None:
    """A worker is about to start its lanes.  Once, in the supervisor's process.

    Args:
        worker: the `caraway.worker.Worker`.
    """


@hookspec
def caraway_worker_stop(worker: Any) -> None:
    """A worker's lanes have ended.  Once, in the supervisor's process, in the opposite
    order; not called if the process is killed.

    Args:
        worker: the `caraway.worker.Worker`.
    """


@hookspec
def caraway_child_start(app: Any, index: int) -> None:
    """A lane's process has begun and will soon fetch.  Close what was inherited over a
    fork here.  Once for each lane process, in it.

    Args:
        app: the `caraway.Caraway`; the worker itself lives in another process.
        index: the lane's number, from 0.
    """


@hookspec
def caraway_child_stop(app: Any, index: int) -> None:
    """A lane's process is about to end.  Once for each, in it, in the opposite order;
    not called if it is killed.

    Args:
        app: the `caraway.Caraway`; the worker itself lives in another process.
        index: the lane's number, from 0.
    """
