"""The app: registration, settings, components, life."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from caraway import Caraway, Task, current_app, current_task, shared_task
from caraway.errors import (
    AlreadyRegistered,
    BackendError,
    ImproperlyConfigured,
    NotRegistered,
    QueueNotFound,
)

Make = Callable[..., Caraway]


# -- tasks -----------------------------------------------------------------------------


def test_a_task_is_named_by_its_module(app: Caraway) -> None:
    @app.task
    def add(x: int, y: int) -> int:
        """Adds."""
        return x + y

    assert add.name == f"{__name__}.add"
    assert app.tasks[add.name] is add
    assert add(1, 2) == 3
    assert add.__doc__ == "Adds."
    assert add.__name__ == "add"


def test_a_task_of_the_main_module_is_named_by_the_app(app: Caraway) -> None:
    assert app.gen_task_name("add", "__main__") == "shop.add"
    assert app.gen_task_name("add", "other") == "other.add"


def test_a_script_without_a_name_names_its_tasks_by_its_file(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(None)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/x/jobs.py", raising=False)

    assert app.gen_task_name("add", "__main__") == "jobs.add"


def test_options_become_attributes(app: Caraway) -> None:
    class Base(Task[Any, Any]):
        colour = "red"

    @app.task(name="shop.add", base=Base, max_retries=7, queue="slow", mine="yes")
    def add(x: int) -> int:
        return x

    assert add.name == "shop.add"
    assert isinstance(add, Base)
    assert (add.max_retries, add.queue, vars(type(add))["mine"]) == (7, "slow", "yes")


def test_a_mistyped_option_is_refused_with_the_nearest(app: Caraway) -> None:
    with pytest.raises(TypeError, match="did you mean 'max_retries'"):

        @app.task(max_retry=1)
        def add() -> None: ...


def test_a_bound_task_gets_itself(app: Caraway) -> None:
    @app.task(bind=True)
    def me(self: Any, x: int) -> tuple[Any, int]:
        return self, x

    assert me(3) == (me, 3)
    me.delay(3)
    with pytest.raises(TypeError):
        me.delay()  # type: ignore[call-arg]


def test_two_functions_cannot_have_one_name(app: Caraway) -> None:
    @app.task(name="one")
    def first() -> None: ...

    with pytest.raises(AlreadyRegistered, match="one"):

        @app.task(name="one")
        def second() -> None: ...


def test_an_unknown_task_names_the_nearest(app: Caraway) -> None:
    @app.task(name="shop.add")
    def add() -> None: ...

    with pytest.raises(NotRegistered, match=r"did you mean 'shop\.add'"):
        app.tasks["shop.ad"]


def test_a_class_is_registered_as_it_is(app: Caraway) -> None:
    class Add(Task[Any, Any]):
        name = "shop.add"

        def run(self, x: int) -> int:
            return x + 1

    class Unnamed(Task[Any, Any]):
        def run(self) -> None: ...

    add = app.register_task(Add)

    assert app.tasks["shop.add"] is add
    assert add(1) == 2
    assert app.register_task(Unnamed()).name == f"{__name__}.Unnamed"
    with pytest.raises(TypeError):
        app.register_task(lambda: None)


def test_only_functions_are_decorated(app: Caraway) -> None:
    with pytest.raises(TypeError):
        app.task("name")  # type: ignore[call-overload]


def test_tasks_take_defaults_from_the_settings(make_app: Make) -> None:
    app = make_app(task_ignore_result=True, task_acks_late=False)

    @app.task
    def early() -> None: ...

    @app.task(ignore_result=False)
    def own() -> None: ...

    app.finalize()

    @app.task
    def late() -> None: ...

    assert (early.ignore_result, early.acks_late) == (True, False)
    assert own.ignore_result is False
    assert late.ignore_result is True


def test_acknowledging_late_is_the_default(app: Caraway) -> None:
    @app.task
    def add() -> None: ...

    app.finalize()
    assert add.acks_late is True


def test_annotations_set_attributes_from_outside(make_app: Make) -> None:
    class Annotator:
        def annotate(self, task: Any) -> dict[str, Any] | None:
            return {"priority": 5} if task.name.endswith("add") else None

    app = make_app(
        task_annotations=[
            {"*": {"rate_limit": "10/s"}, "shop.add": {"max_retries": 9}},
            Annotator(),
        ]
    )

    @app.task(name="shop.add")
    def add() -> None: ...

    @app.task(name="shop.other")
    def other() -> None: ...

    app.finalize()
    assert (add.rate_limit, add.max_retries, add.priority) == ("10/s", 9, 5)
    assert (other.rate_limit, other.max_retries, other.priority) == ("10/s", 3, None)


def test_an_annotation_that_is_none_says_so(make_app: Make) -> None:
    app = make_app(task_annotations=[7])

    @app.task
    def add() -> None: ...

    with pytest.raises(ImproperlyConfigured, match="task_annotations"):
        app.finalize()


def test_without_autofinalize_use_is_refused(make_app: Make) -> None:
    app = make_app(autofinalize=False)

    with pytest.raises(RuntimeError, match="finalize"):
        assert app.tasks

    app.finalize()
    assert app.tasks == {}


# -- current ---------------------------------------------------------------------------


def test_the_last_app_is_the_current_one(make_app: Make) -> None:
    first = make_app("first")
    assert current_app == first
    second = make_app("second")
    assert current_app.main == "second"
    make_app("third", set_as_current=False)
    assert current_app == second
    first.set_current()
    assert current_app == first


def test_outside_of_a_task_there_is_no_current_one(app: Caraway) -> None:
    assert not current_task
    assert app.current_task is None

    @app.task
    def name() -> str:
        return f"{current_task.name} {app.current_task is not None}"

    assert name.apply().get() == f"{name.name} True"


def test_a_shared_task_belongs_to_every_app(make_app: Make) -> None:
    early = make_app("early")
    early.finalize()

    @shared_task(name="lib.add")
    def add(x: int) -> int:
        return x + 1

    late = make_app("late")

    assert "lib.add" in early.tasks
    assert late.tasks["lib.add"] is not early.tasks["lib.add"]
    assert add.app == late
    assert add(1) == 2
    early.set_current()
    assert add.app == early


# -- importing -------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "stock"
    root.mkdir()
    (root / "__init__.py").write_text("")
    (root / "tasks.py").write_text("import stock\nstock.loaded = True\n")
    (root / "broken.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in list(sys.modules):
        if name.split(".")[0] == "stock":
            monkeypatch.delitem(sys.modules, name)
    return root


def test_autodiscovery_happens_when_the_app_is_finalized(app: Caraway, package: Path) -> None:
    app.autodiscover_tasks(lambda: ["stock"])
    assert "stock.tasks" not in sys.modules

    app.finalize()

    stock: Any = sys.modules["stock"]
    assert stock.loaded
    app.autodiscover_tasks(["stock"], related_name="nothing_there", force=True)


def test_an_import_error_inside_of_a_module_is_raised(app: Caraway, package: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_thing"):
        app.autodiscover_tasks(["stock"], related_name="broken", force=True)


def test_a_module_to_include_that_is_missing_says_so(make_app: Make, package: Path) -> None:
    make_app(include=["stock.tasks"]).import_modules()
    with pytest.raises(ImproperlyConfigured, match=r"no module 'stock\.nothing'"):
        make_app(include="stock.nothing").import_modules()
    with pytest.raises(ImproperlyConfigured, match="no_such_thing"):
        make_app(imports=["stock.broken"]).import_modules()


# -- settings --------------------------------------------------------------------------


def test_settings_are_read_with_the_first_use(make_app: Make) -> None:
    app = make_app(task_seriaizer="json")

    with pytest.raises(ImproperlyConfigured, match="task_serializer"):
        assert app.conf


def test_settings_come_from_objects_and_defaults(make_app: Make) -> None:
    app = make_app()
    configured: list[str] = []
    app.on_configure.connect(lambda **_: configured.append("before"), weak=False)
    app.on_after_configure.connect(lambda **_: configured.append("after"), weak=False)
    app.add_defaults({"task_default_queue": "low", "task_serializer": "json"})
    app.config_from_object({"task_default_queue": "high"})

    assert configured == []
    assert app.conf.task_default_queue == "high"
    assert configured == ["before", "after"]

    app.config_from_object({"CELERY_TASK_DEFAULT_QUEUE": "higher"}, namespace="CELERY")
    assert app.conf.task_default_queue == "higher"


def test_settings_come_from_the_module_that_a_variable_names(
    app: Caraway, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: Any = ModuleType("shop_settings")
    module.task_default_queue = "from_env"
    monkeypatch.setitem(sys.modules, "shop_settings", module)
    monkeypatch.setenv("SHOP_SETTINGS", "shop_settings")

    assert app.config_from_envvar("SHOP_SETTINGS")
    assert app.conf.task_default_queue == "from_env"
    assert not app.config_from_envvar("NOT_SET_AT_ALL", silent=True)


def test_a_changed_setting_holds_for_tasks_that_were_called(app: Caraway, sent: Any) -> None:
    @app.task
    def add() -> None: ...

    add.delay()
    app.config_from_object({"task_routes": {"*": "elsewhere"}})
    add.delay()

    assert len(sent(app, "celery")) == 1
    assert len(sent(app, "elsewhere")) == 1


def test_queues_are_the_declared_ones_or_those_named(make_app: Make) -> None:
    app = make_app(task_queues=["a", "b"], task_create_missing_queues=False)

    assert [queue.name for queue in app.queues()] == ["a", "b"]
    assert [queue.name for queue in app.queues("b, a")] == ["b", "a"]
    with pytest.raises(QueueNotFound):
        app.queues(["c"])
    assert [queue.name for queue in make_app().queues()] == ["celery"]
    assert [queue.name for queue in make_app().queues(["new"])] == ["new"]


# -- components ------------------------------------------------------------------------


def test_components_are_built_once_however_many_ask(app: Caraway) -> None:
    found: list[Any] = []
    threads = [
        threading.Thread(
            target=lambda: found.append((app.transport, app.backend, app.producer, app.registry))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(found) == 8
    assert all(each == found[0] for each in found)


def test_without_a_backend_reading_says_what_to_set(make_app: Make) -> None:
    app = make_app(backend="disabled://")

    @app.task
    def add() -> None: ...

    result = add.delay()

    assert not app.backend_enabled
    with pytest.raises(BackendError, match="result_backend"):
        result.get(timeout=1)


def test_an_app_can_be_closed_twice_and_used_again(app: Caraway, sent: Any) -> None:
    @app.task
    def add() -> None: ...

    add.delay()
    first = app.transport
    app.close()
    app.close()
    add.delay()

    assert app.transport is not first


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_builds_its_own_and_leaves_the_parents_open(
    tmp_path: Path, make_app: Make
) -> None:
    url = f"sqlite:///{tmp_path}/q.db"
    app = make_app(broker=url, backend=url)

    @app.task
    def add(x: int) -> int:
        return x

    add.delay(1)
    mine = app.transport
    origin, oid = app.origin, app.oid
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            good = app._transport is None and app.origin != origin and app.oid != oid
            add.delay(2)
            code = 0 if good and app.transport is not mine else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    add.delay(3)

    assert os.waitstatus_to_exitcode(status) == 0
    assert app.transport is mine
    assert app.transport.stats(["celery"])[0].ready == 3


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_child_forked_while_others_publish_is_not_stuck(tmp_path: Path, make_app: Make) -> None:
    url = f"sqlite:///{tmp_path}/q.db"
    app = make_app(broker=url, backend=url)

    @app.task
    def add(x: int) -> int:
        return x

    add.delay(0)
    ended = threading.Event()

    def publish() -> None:
        while not ended.is_set():
            add.delay(1)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    try:
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                try:
                    import signal

                    # not pytest-timeout's handler: Python code may never run again
                    signal.signal(signal.SIGALRM, signal.SIG_DFL)
                    signal.alarm(20)
                    add.delay(2)
                except BaseException:
                    os._exit(1)
                os._exit(0)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)

    assert codes == [0] * 5


def test_the_time_is_that_of_the_context(make_app: Make) -> None:
    from msgspec.structs import replace

    app = make_app(timezone="Europe/Berlin")
    app.context = replace(app.context, clock=lambda: 0.0)

    assert app.now().isoformat() == "1970-01-01T01:00:00+01:00"
    assert not app.uses_utc_timezone()
    assert make_app().uses_utc_timezone()


def test_a_periodic_task_becomes_an_entry(app: Caraway) -> None:
    @app.task(name="shop.add")
    def add(x: int) -> int:
        return x

    name = app.add_periodic_task(10.0, add.s(3), name="each ten", queue="slow")

    assert name == "each ten"
    assert app.conf.beat_schedule["each ten"] == {
        "schedule": 10.0,
        "task": "shop.add",
        "args": [3],
        "kwargs": {},
        "options": {"queue": "slow"},
    }


def test_revoking_is_kept_by_the_broker(app: Caraway) -> None:
    app.revoke(["a", "b"])
    app.revoke("c")
    app.revoke([])

    assert app.transport.revoked(["a", "b", "c", "d"]) == {"a", "b", "c"}
