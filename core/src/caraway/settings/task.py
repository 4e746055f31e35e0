"""Settings of tasks: defaults for what a task or a call doesn't say itself."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from caraway.settings.declare import Setting, void
from caraway.settings.values import (
    ANY,
    BOOL,
    COUNT,
    DELIVERY_MODE,
    DURATION,
    RATE,
    STR,
    TABLE,
    integer,
    optional,
)

_AMQP = "the bundle of AMQP brokers"
_CANVAS = "chords"


class Tasks:
    """The group ``task``."""

    # -- reliability -------------------------------------------------------------------
    task_acks_late = Setting(
        BOOL,
        True,
        "A message leaves the broker only with its outcome: at-least-once. False "
        "acknowledges before the run: at-most-once, the task is lost with its process.",
        celery="False",
    )
    task_acks_on_failure = Setting(
        optional(BOOL), None, "A failed task is acknowledged; False sends it to the dead letters."
    )
    task_acks_on_timeout = Setting(
        optional(BOOL),
        None,
        "As `task_acks_on_failure`, for runs that hit the hard time limit.",
        awaits="a choice; such a run is acknowledged as failed",
    )
    task_acks_on_failure_or_timeout = Setting(
        BOOL, True, "The default of the two settings `task_acks_on_failure` and `_on_timeout`."
    )
    task_max_deliveries = Setting(
        COUNT,
        3,
        "How often a message is delivered at most, when the process that ran it died each "
        "time. Past it the task fails with WorkerLostError and goes to the dead letters. "
        "0 is no limit.",
        celery="no such limit",
    )
    task_publish_retry = Setting(
        BOOL, True, "Publishing is tried again when the broker is away.",
        old=("CELERY_TASK_PUBLISH_RETRY",),
    )  # fmt: skip
    task_publish_retry_policy = Setting(
        TABLE,
        {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2},
        "How publishing is tried again: `max_retries`, and seconds `interval_start`, "
        "`interval_step`, `interval_max`.",
        old=("CELERY_TASK_PUBLISH_RETRY_POLICY",),
    )
    task_reject_on_worker_lost = Setting(
        optional(BOOL),
        None,
        "None and True: a run whose process died is delivered again, up to "
        "`task_max_deliveries`. False: it fails at the first loss.",
    )
    task_retry_on_worker_lost = void(
        False, "a run whose process died is delivered again anyway, up to task_max_deliveries."
    )

    # -- limits ------------------------------------------------------------------------
    task_time_limit = Setting(
        optional(DURATION), None, "Hard limit of a run: its process is killed, the task fails.",
        old=("CELERYD_TASK_TIME_LIMIT",),
    )  # fmt: skip
    task_soft_time_limit = Setting(
        optional(DURATION), None, "Soft limit: SoftTimeLimitExceeded is raised inside the task.",
        old=("CELERYD_TASK_SOFT_TIME_LIMIT",),
    )  # fmt: skip
    task_default_rate_limit = Setting(
        optional(RATE), None, 'Runs allowed per worker and task: "10/s", "100/m", "5/h".'
    )
    task_default_priority = Setting(
        optional(integer(0, 9)), None, "Priority of messages, 9 is served first."
    )
    task_inherit_parent_priority = Setting(BOOL, False, "Tasks sent from a task take its priority.")

    # -- running -----------------------------------------------------------------------
    task_always_eager = Setting(
        BOOL, False, "`delay` runs the task in place instead of sending it."
    )
    task_eager_propagates = Setting(
        BOOL, False, "Exceptions of eager tasks are raised by the call.",
        old=("CELERY_EAGER_PROPAGATES_EXCEPTIONS",),
    )  # fmt: skip
    task_store_eager_result = Setting(BOOL, False, "Results of eager tasks are stored.")
    task_ignore_result = Setting(BOOL, False, "Results are not stored.")
    task_store_errors_even_if_ignored = Setting(
        BOOL, False, "Failures are stored even where results are ignored."
    )
    task_track_started = Setting(BOOL, False, "The state STARTED is stored when a run begins.")
    task_remote_tracebacks = Setting(
        BOOL,
        False,
        "Results carry tracebacks that can be raised again (needs tblib).",
        awaits="the bundle tblib",
    )
    task_annotations = Setting(
        ANY, None, "Attributes to set on tasks from outside, by task name; `*` is all tasks."
    )
    task_allow_error_cb_on_chord_header = Setting(
        BOOL,
        False,
        "Error callbacks of a chord are attached to its header's tasks, too.",
        awaits=_CANVAS,
    )

    # -- messages ----------------------------------------------------------------------
    task_serializer = Setting(
        STR, "json", "Serializer of arguments, by name.", old=("CELERY_TASK_SERIALIZER",)
    )
    task_compression = Setting(
        optional(STR), None, "Compressor of message bodies, by name.",
        old=("CELERY_MESSAGE_COMPRESSION",),
    )  # fmt: skip
    task_protocol = Setting(
        integer(1, 2),
        2,
        "Version of the message protocol.",
        old=("CELERY_TASK_PROTOCOL",),
        awaits="sending protocol 1, which is understood when it comes",
    )
    task_send_argsrepr = Setting(
        BOOL,
        False,
        "Messages carry printable arguments, which monitors show. Costs time and room.",
        celery="always sent",
    )
    task_send_sent_event = Setting(
        BOOL, False, "The event task-sent is published for each task that is sent, by workers also "
        "for the retries, callbacks and steps of chains that follow a run.",
        old=("CELERY_SEND_TASK_SENT_EVENT",),
    )  # fmt: skip
    task_default_delivery_mode = Setting(
        DELIVERY_MODE, 2, "2 or persistent, 1 or transient (for brokers that know it)."
    )

    # -- routing -----------------------------------------------------------------------
    task_default_queue = Setting(STR, "celery", "Queue of tasks that nothing else routes.")
    task_default_exchange = Setting(
        optional(STR), None, "Exchange of the default queue; none: the queue's name."
    )
    task_default_exchange_type = Setting(STR, "direct", "Type of the default exchange.")
    task_default_routing_key = Setting(
        optional(STR), None, "Routing key of the default queue; none: the queue's name."
    )
    task_default_queue_type = Setting(
        STR,
        "classic",
        "Type of the default queue, for brokers that have types: `classic`, `quorum`.",
    )
    task_create_missing_queues = Setting(
        BOOL, True, "A queue that `task_queues` doesn't name is made when first used."
    )
    task_create_missing_queue_type = Setting(
        STR,
        "classic",
        "Type of queues that are made when first used: `classic`, `quorum`.",
    )
    task_create_missing_queue_exchange_type = Setting(
        optional(STR),
        None,
        "Exchange type of queues that are made when first used; none: the default one.",
        awaits=_AMQP,
    )
    task_queues = Setting(
        ANY,
        None,
        "Queues a worker consumes: a list of names or of tables (`name`, `routing_key`, "
        "`exchange`, `max_priority` ...), or a table by name. None: the default queue.",
    )
    task_queue_max_priority = Setting(
        optional(integer(0, 255)), None, "`x-max-priority` of queues, for AMQP brokers."
    )
    task_routes = Setting(
        ANY,
        None,
        "Which task goes where: table from task name, or pattern with `*`, to queue or "
        "options; a list of such; a function.",
    )
    task_repr_maxlevels = void(3, "task_send_argsrepr writes what fits into a kilobyte.")
