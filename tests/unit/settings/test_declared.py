from __future__ import annotations

import re
from pathlib import Path

from caraway.settings import DECLARED, Settings, names
from caraway.settings.names import canonical


def test_every_default_is_of_its_kind() -> None:
    settings = Settings()
    for name, declared in DECLARED.items():
        value = getattr(settings, name)
        assert declared.kind.check(value) == value, name


def test_every_setting_says_what_it_is_for() -> None:
    for name, declared in DECLARED.items():
        assert declared.name == name
        assert declared.doc.endswith("."), name
        assert len(declared.doc) > 10, name


def test_every_setting_is_read_by_somebody_or_says_that_it_is_not() -> None:
    root = Path(__file__).parents[3]
    sources = [*root.glob("core/src/caraway/**/*.py"), *root.glob("plugins/*/src/**/*.py")]
    text = "\n".join(p.read_text() for p in sources if "settings" not in p.parts)
    names_only = ("cli", "task/binding.py")
    said = "\n".join(
        p.read_text()
        for p in sources
        if "settings" not in p.parts and not any(part in p.as_posix() for part in names_only)
    )
    used = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", text)) | {"app", "imports", "include"}
    used |= {"timezone", "middleware", "plugins"}
    live = {n for n, s in DECLARED.items() if not (s.void or s.refused or s.awaits)}
    waiting = {n for n, s in DECLARED.items() if s.awaits}
    assert sorted(live - used) == []
    read = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", said))
    assert sorted(waiting & read) == [], "these are read now: take `awaits` away"


def test_no_two_settings_share_an_old_name() -> None:
    seen: dict[str, str] = {}
    for name, declared in DECLARED.items():
        for old in declared.old_names:
            assert seen.setdefault(old, name) == name, old


def test_old_names_of_celery_lead_to_the_new_ones() -> None:
    pairs = {
        "CELERY_ACKS_LATE": "task_acks_late",
        "CELERY_TASK_SERIALIZER": "task_serializer",
        "CELERY_RESULT_BACKEND": "result_backend",
        "CELERY_TASK_RESULT_EXPIRES": "result_expires",
        "CELERYD_CONCURRENCY": "worker_concurrency",
        "CELERYD_TASK_TIME_LIMIT": "task_time_limit",
        "CELERY_DISABLE_RATE_LIMITS": "worker_disable_rate_limits",
        "CELERYBEAT_SCHEDULE": "beat_schedule",
        "CELERY_ACCEPT_CONTENT": "accept_content",
        "CELERY_MESSAGE_COMPRESSION": "task_compression",
        "BROKER_URL": "broker_url",
        "TASK_ACKS_LATE": "task_acks_late",
        "CELERY_TASK_ACKS_LATE": "task_acks_late",
    }
    assert {old: canonical(old) for old in pairs} == pairs


def test_the_nearest_name_is_found_with_and_without_its_group() -> None:
    assert names.nearest("task_ack_late") == "task_acks_late"
    assert names.nearest("acks_late") == "task_acks_late"
    assert names.nearest("worker_conccurency") == "worker_concurrency"
    assert names.nearest("zzzzzz") == ""


def test_every_setting_of_celery_is_known() -> None:
    celery = """
    accept_content enable_utc imports include result_accept_content timezone
    task_acks_late task_acks_on_failure task_acks_on_failure_or_timeout task_acks_on_timeout
    task_allow_error_cb_on_chord_header task_always_eager task_annotations task_compression
    task_create_missing_queue_exchange_type task_create_missing_queue_type
    task_create_missing_queues task_default_delivery_mode task_default_exchange
    task_default_exchange_type task_default_priority task_default_queue task_default_queue_type
    task_default_rate_limit task_default_routing_key task_eager_propagates task_ignore_result
    task_inherit_parent_priority task_protocol task_publish_retry task_publish_retry_policy
    task_queue_max_priority task_queues task_reject_on_worker_lost task_remote_tracebacks
    task_repr_maxlevels task_retry_on_worker_lost task_routes task_send_sent_event
    task_serializer task_soft_time_limit task_store_eager_result
    task_store_errors_even_if_ignored task_time_limit task_track_started
    worker_agent worker_autoscaler worker_cancel_long_running_tasks_on_connection_loss
    worker_concurrency worker_consumer worker_deduplicate_successful_tasks
    worker_detect_quorum_queues worker_direct worker_disable_prefetch worker_disable_rate_limits
    worker_enable_prefetch_count_reduction worker_enable_remote_control
    worker_enable_soft_shutdown_on_idle worker_eta_task_limit worker_hijack_root_logger
    worker_log_color worker_log_datefmt worker_log_format worker_lost_wait
    worker_max_memory_per_child worker_max_tasks_per_child worker_pool worker_pool_putlocks
    worker_pool_restarts worker_pool_start_method worker_prefetch_multiplier
    worker_proc_alive_timeout worker_redirect_stdouts worker_redirect_stdouts_level
    worker_send_task_events worker_soft_shutdown_timeout worker_state_db
    worker_task_log_datefmt worker_task_log_format worker_timer worker_timer_precision
    broker_channel_error_retry broker_connection_max_retries broker_connection_retry
    broker_connection_retry_on_startup broker_connection_timeout broker_failover_strategy
    broker_heartbeat broker_heartbeat_checkrate broker_host broker_login_method
    broker_native_delayed_delivery_queue_type broker_password broker_pool_acquire_timeout
    broker_pool_limit broker_port broker_read_url broker_transport broker_transport_options
    broker_url broker_use_ssl broker_user broker_vhost broker_write_url
    beat_cron_starting_deadline beat_enable_remote_control beat_max_loop_interval
    beat_remote_control_max_tick_age beat_schedule beat_schedule_filename beat_scheduler
    beat_sync_every event_exchange event_queue_durable event_queue_exclusive
    event_queue_expires event_queue_prefix event_queue_ttl event_serializer
    control_exchange control_queue_durable control_queue_exclusive control_queue_expires
    control_queue_ttl result_backend result_backend_always_retry
    result_backend_base_sleep_between_retries_ms result_backend_max_retries
    result_backend_max_sleep_between_retries_ms result_backend_transport_options
    result_cache_max result_chord_expires result_chord_join_timeout
    result_chord_retry_interval result_compression result_exchange result_exchange_type
    result_expires result_extended result_failure_expires result_persistent result_serializer
    redis_max_connections cassandra_servers s3_bucket security_key database_engine_options
    """.split()  # noqa: SIM905 - a list of 165 lines would hide the test
    assert [name for name in celery if names.known(name) is None] == []
