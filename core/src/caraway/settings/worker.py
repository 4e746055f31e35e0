"""Settings of the worker."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from caraway.settings.declare import Setting, void
from caraway.settings.values import (
    AUTOSCALE,
    BOOL,
    DURATION,
    POSITIVE,
    STR,
    number,
    optional,
)


class Workers:
    """The group ``worker``."""

    # -- processes ---------------------------------------------------------------------
    worker_pool = Setting(
        STR, "prefork", "What runs tasks: `prefork`, `threads`, `asyncio`, `solo`, or a bundle's."
    )
    worker_concurrency = Setting(
        optional(POSITIVE), None, "Tasks run at a time; none: as many as there are CPUs."
    )
    worker_async_concurrency = Setting(
        POSITIVE, 100, "Coroutines run at a time in one lane, for `async def` tasks."
    )
    worker_autoscale = Setting(
        optional(AUTOSCALE), None, "Most and least processes, e.g. `10,3`; grows with the queue."
    )
    worker_hostname = Setting(
        optional(STR), None, "Node name; `%h` host, `%n` name, `%d` domain. None: `caraway@%h`."
    )
    worker_max_tasks_per_child = Setting(
        optional(POSITIVE), None, "A process is replaced after so many tasks."
    )
    worker_max_memory_per_child = Setting(
        optional(POSITIVE),
        None,
        "A process is replaced when it has grown to this size, after the task it runs.",
        unit="KiB",
    )
    worker_pool_start_method = void(
        "fork", "processes are forked from a server process that has imported the app."
    )
    worker_proc_alive_timeout = void(4.0, "a process that dies at its start is noticed at once.")

    # -- fetching ----------------------------------------------------------------------
    worker_prefetch_limit = Setting(
        optional(POSITIVE),
        None,
        "Most messages a lane takes at a time, however short they run; with it, a lane takes no "
        "next batch while one runs. None: what suits the broker.",
    )
    worker_prefetch_seconds = Setting(
        DURATION,
        0.05,
        "A lane takes about what it runs in this time, and of a long queue twice as much. On "
        "Redis, where it takes the next batch while one runs, a long queue gives it four "
        "times as much, if it serves only this one and all messages have the same priority.",
    )
    worker_disable_prefetch = Setting(BOOL, False, "A lane takes only what it can start now.")
    worker_disable_rate_limits = Setting(
        BOOL, False, "Rate limits are not kept.", old=("CELERY_DISABLE_RATE_LIMITS",)
    )
    worker_direct = Setting(
        BOOL, False, "Each worker also consumes a queue of its own.",
        old=("CELERY_WORKER_DIRECT",), awaits="queues of single workers",
    )  # fmt: skip

    # -- stopping and watching ---------------------------------------------------------
    worker_shutdown_timeout = Setting(
        DURATION,
        25.0,
        "How long a warm stop waits for running tasks; then they are given back.",
        celery="for ever",
    )
    worker_stuck_timeout = Setting(
        DURATION,
        60.0,
        "A lane that gave no sign of life for so long is replaced, at the earliest after 5 "
        "seconds; 0 is never.",
    )
    worker_health_address = Setting(
        STR, "", "host:port of /health, /live and /metrics, e.g. `127.0.0.1:9808`; empty is off."
    )
    worker_health_file = Setting(
        STR, "", "A file that is kept fresh while the worker is healthy; empty is off."
    )
    worker_enable_remote_control = Setting(
        BOOL, True, "The worker listens to `caraway revoke`, `inspect` and `control`.",
        old=("CELERY_ENABLE_REMOTE_CONTROL",),
    )  # fmt: skip
    worker_send_task_events = Setting(
        BOOL, False, "Events of tasks are published, for monitors.",
        old=("CELERY_SEND_EVENTS",),
    )  # fmt: skip
    worker_heartbeat_interval = Setting(
        DURATION, 2.0, "How often the event worker-heartbeat is published; 0 is never."
    )

    # -- logging -----------------------------------------------------------------------
    worker_log_level = Setting(STR, "WARNING", "Least level that is logged.")
    worker_logfile = Setting(STR, "", "File to log to; empty is the terminal.")
    worker_pidfile = Setting(STR, "", "File to write the process id to; empty is none.")
    worker_log_json = Setting(BOOL, False, "One JSON object a line instead of text.")
    worker_log_color = Setting(
        optional(BOOL), None, "Coloured log lines; none: if it is a terminal."
    )
    worker_log_format = Setting(
        STR,
        "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
        "Format of log lines, as in the standard library's logging.",
    )
    worker_log_datefmt = Setting(
        optional(STR),
        None,
        "Format of times in log lines; none: as the standard library writes them.",
    )
    worker_task_log_format = Setting(
        STR,
        "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
        "Format of lines logged inside a task.",
    )
    worker_task_log_datefmt = Setting(
        optional(STR), None, "Format of times in lines logged inside a task."
    )
    worker_hijack_root_logger = Setting(
        BOOL, True, "Handlers of the root logger are replaced by the worker's."
    )
    worker_redirect_stdouts = Setting(
        BOOL, True, "What tasks print goes to the log.", old=("CELERY_REDIRECT_STDOUTS",)
    )
    worker_redirect_stdouts_level = Setting(
        STR,
        "WARNING",
        "Level at which what tasks print is logged.",
        old=("CELERY_REDIRECT_STDOUTS_LEVEL",),
    )

    # -- Celery's ----------------------------------------------------------------------
    worker_prefetch_multiplier = Setting(
        number(0),
        4.0,
        "Accepted. Prefetching adapts to how long tasks take; 1 is the same as "
        "`worker_disable_prefetch`, other numbers change nothing.",
    )
    worker_agent = void(None, "there are no agents.")
    worker_autoscaler = void("", "the autoscaler is built in; set worker_autoscale.")
    worker_consumer = void("", "the consumer is part of the transport.")
    worker_cancel_long_running_tasks_on_connection_loss = void(
        False, "a lost connection doesn't cost the lease, so the task goes on."
    )
    worker_deduplicate_successful_tasks = void(
        False, "the commit of outcome and acknowledgement is fenced, nothing is left to do."
    )
    worker_detect_quorum_queues = void(True, "delays lie in the broker, whatever the queue type.")
    worker_enable_prefetch_count_reduction = void(True, "prefetching adapts to the pace of tasks.")
    worker_enable_soft_shutdown_on_idle = void(
        False, "delayed tasks lie in the broker, so an idle worker has nothing to lose."
    )
    worker_eta_task_limit = void(None, "delayed tasks lie in the broker, not in the worker.")
    worker_lost_wait = void(10.0, "a dead process is noticed at once.")
    worker_pool_putlocks = void(True, "lanes fetch for themselves.")
    worker_pool_restarts = void(
        False, "pool_restart always replaces the processes, and never imports code anew."
    )
    worker_soft_shutdown_timeout = void(0.0, "set worker_shutdown_timeout.")
    worker_state_db = void(None, "revocations are kept by the broker.")
    worker_timer = void(None, "there is no timer to replace.")
    worker_timer_precision = void(1.0, "nothing is polled on a timer.")
