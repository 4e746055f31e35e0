from __future__ import annotations

import types
import warnings
from pathlib import Path
from typing import Any

import pytest

from caraway.errors import ImproperlyConfigured
from caraway.settings import Layer, Settings, SettingsWarning, apply_envvar, apply_object, load


def test_defaults_are_read_as_attributes_and_as_a_mapping(project: Path) -> None:
    settings = load(environ={})
    assert settings.task_acks_late is True
    assert settings["task_acks_late"] is True
    assert settings.get("nothing_such") is None
    assert dict(settings)["worker_pool"] == "prefork"
    assert len(list(settings)) == len(settings)
    assert str(settings.source_of("task_acks_late")) == "default"
    assert not settings.is_set("task_acks_late")


def test_a_broker_that_can_keep_results_is_the_default_backend(project: Path) -> None:
    settings = Settings()
    assert settings.result_backend == settings.broker_url == "sqlite://"
    settings.broker_url = "memory://"
    assert settings.result_backend == "memory://"
    settings.broker_url = "redis://h"
    assert settings.result_backend is None
    settings.result_backend = "redis://h/1"
    assert settings["result_backend"] == "redis://h/1"


def test_a_higher_layer_overrules_a_lower_one_in_any_order() -> None:
    ranked = list(Layer)[1:]
    for order in (ranked, ranked[::-1]):
        settings = Settings()
        for layer in order:
            settings.apply({"task_default_queue": layer.name}, layer)
        assert settings.task_default_queue == "COMMAND_LINE"


def test_the_sources_overrule_each_other_as_documented(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "caraway.toml").write_text(
        "task_default_queue='file'\nresult_serializer='file'\ntimezone='file'\n"
        "task_default_exchange='file'\n"
    )
    settings = load(
        {"task_default_queue": "keyword", "timezone": "keyword"},
        environ={"CARAWAY_TASK_DEFAULT_QUEUE": "env", "CARAWAY_RESULT_SERIALIZER": "env"},
    )
    given = ("task_default_queue", "timezone", "result_serializer", "task_default_exchange")
    apply_object(settings, dict.fromkeys(given, "obj"))
    assert settings.task_default_queue == "env"
    assert settings.result_serializer == "env"
    assert settings.timezone == "keyword"
    assert settings.task_default_exchange == "obj"
    where = settings.source_of("task_default_queue")
    assert str(where) == "environment variable CARAWAY_TASK_DEFAULT_QUEUE"


def test_one_bad_value_leaves_everything_as_it_was() -> None:
    settings = Settings()
    with pytest.raises(ImproperlyConfigured):
        settings.update(task_default_queue="x", task_acks_late="maybe")
    with pytest.raises(ImproperlyConfigured):
        settings.update(task_default_queue="x", plugins={"redis": 3})
    assert settings.task_default_queue == "celery"


def test_an_unknown_name_is_an_error_with_the_nearest_one() -> None:
    settings = Settings()
    with pytest.raises(ImproperlyConfigured, match="did you mean 'task_acks_late'"):
        settings.update(task_ack_late=True)
    with pytest.raises(ImproperlyConfigured, match="did you mean 'worker_pool'"):
        settings.worker_pol = "solo"
    with pytest.raises(AttributeError, match="did you mean 'worker_pool'"):
        _ = settings.worker_pol
    with pytest.raises(KeyError):
        settings["worker_pol"]
    with pytest.raises(KeyError):
        settings.source_of("worker_pol")


def test_a_secret_is_not_shown_in_an_error_nor_in_repr() -> None:
    settings = Settings()
    with pytest.raises(ImproperlyConfigured) as caught:
        settings.apply({"broker_url": ["redis://:hunter2@h"]})
    assert "hunter2" not in str(caught.value)
    settings.broker_url = "redis://:hunter2@h"
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings.shown("broker_url"))
    assert settings.broker_url == "redis://:hunter2@h"


def test_a_setting_without_meaning_is_accepted_with_one_message() -> None:
    settings = Settings()
    with pytest.warns(SettingsWarning, match="worker_state_db.*no meaning.*revocations"):
        settings.update(worker_state_db="/tmp/x")
    assert settings.worker_state_db == "/tmp/x"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings.update(worker_state_db="/tmp/x")
    assert len(settings.notes) == 1


def test_a_setting_that_has_no_effect_yet_says_so_unless_it_is_the_default() -> None:
    settings = Settings()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings.update(broker_heartbeat_checkrate=3)
    with pytest.warns(SettingsWarning, match="broker_heartbeat_checkrate.*no effect yet"):
        settings.update(broker_heartbeat_checkrate=10)
    assert settings.broker_heartbeat_checkrate == 10.0


def test_a_setting_whose_loss_would_do_harm_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="broker_url"):
        Settings().update(broker_write_url="redis://other")


def test_two_spellings_that_disagree_are_refused() -> None:
    settings = Settings()
    with pytest.raises(ImproperlyConfigured, match="another spelling of 'task_acks_late'"):
        settings.apply({"task_acks_late": True, "CELERY_ACKS_LATE": False})
    settings.apply({"task_acks_late": False, "CELERY_ACKS_LATE": False})
    assert settings.task_acks_late is False


def test_options_of_bundles_gather_in_their_tables() -> None:
    settings = Settings()
    settings.apply({"redis_max_connections": 5}, Layer.KEYWORD)
    settings.apply({"plugins": {"redis": {"socket_timeout": 3, "max_connections": 9}}}, Layer.FILE)
    assert settings.plugins == {"redis": {"max_connections": 5, "socket_timeout": 3}}
    assert settings["redis_max_connections"] == 5
    with pytest.raises(KeyError):
        settings["redis_password"]
    with pytest.raises(ImproperlyConfigured, match="table of options"):
        settings.apply({"plugins": {"redis": 3}})


def test_the_table_of_one_settings_object_is_not_that_of_another() -> None:
    first, second = Settings(), Settings()
    first.beat_schedule["a"] = 1
    first.plugins["a"] = {}
    assert first.beat_schedule == {"a": 1}
    assert second.beat_schedule == {}
    given: dict[str, Any] = {"redis": {"a": 1}}
    first.apply({"plugins": given})
    first.plugins["redis"]["b"] = 2
    assert given == {"redis": {"a": 1}}


def test_deleting_a_setting_brings_its_default_back() -> None:
    settings = Settings()
    settings.worker_pool = "solo"
    del settings.worker_pool
    assert settings.worker_pool == "prefork"
    assert not settings.is_set("worker_pool")


def test_a_module_gives_its_settings_and_keeps_its_other_names(project: Path) -> None:
    (project / "conf_a.py").write_text(
        "import os\nfrom datetime import timedelta\nSECRET = 1\ndef helper(): pass\n"
        "task_acks_late = False\nCELERY_RESULT_BACKEND = 'redis://h'\nresult_expires = "
        "timedelta(hours=1)\n"
    )
    settings = load(environ={})
    apply_object(settings, "conf_a")
    assert settings.task_acks_late is False
    assert settings.result_backend == "redis://h"
    assert settings.result_expires == 3600.0
    assert str(settings.source_of("task_acks_late")) == "conf_a"


def test_a_misspelt_setting_in_a_module_is_an_error(project: Path) -> None:
    (project / "conf_b.py").write_text("task_ack_late = False\n")
    with pytest.raises(ImproperlyConfigured, match="conf_b: unknown setting 'task_ack_late'"):
        apply_object(load(environ={}), "conf_b")


def test_a_namespace_picks_its_own_names_only() -> None:
    django = types.SimpleNamespace(
        DEBUG=True, CELERY_TASK_ACKS_LATE=False, CELERY_BROKER_URL="redis://h", task_protocol=1
    )
    settings = Settings()
    apply_object(settings, django, namespace="CELERY")
    assert settings.task_acks_late is False
    assert settings.broker_url == "redis://h"
    assert settings.task_protocol == 2
    with pytest.raises(ImproperlyConfigured, match="did you mean 'task_acks_late'"):
        apply_object(settings, {"CELERY_TASK_ACK_LATE": 1}, namespace="CELERY")


def test_a_class_an_instance_and_an_attribute_of_a_module_serve_as_settings(project: Path) -> None:
    class Base:
        task_default_queue = "x"

    class Config(Base):
        worker_pool = "solo"

    for source in (Config, Config()):
        settings = Settings()
        apply_object(settings, source)
        assert (settings.worker_pool, settings.task_default_queue) == ("solo", "x")
    (project / "conf_c.py").write_text("class Live:\n    worker_pool = 'threads'\n")
    for name in ("conf_c:Live", "conf_c.Live"):
        settings = Settings()
        apply_object(settings, name)
        assert settings.worker_pool == "threads"


def test_a_settings_module_that_is_missing_is_an_error_unless_silent(project: Path) -> None:
    settings = Settings()
    with pytest.raises(ImproperlyConfigured, match="'no_such_module' not found"):
        apply_object(settings, "no_such_module")
    apply_object(settings, "no_such_module", silent=True)
    (project / "conf_d.py").write_text("import no_such_dependency\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_dependency"):
        apply_object(settings, "conf_d", silent=True)


def test_an_environment_variable_names_the_module(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "conf_e.py").write_text("worker_pool = 'solo'\n")
    settings = Settings()
    with pytest.raises(ImproperlyConfigured, match="MY_CONFIG"):
        apply_envvar(settings, "MY_CONFIG")
    apply_envvar(settings, "MY_CONFIG", silent=True)
    monkeypatch.setenv("MY_CONFIG", "conf_e")
    apply_envvar(settings, "MY_CONFIG")
    assert settings.worker_pool == "solo"
