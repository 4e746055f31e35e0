"""Settings of beat, events and remote control."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from caraway.settings.declare import Setting, void
from caraway.settings.values import BOOL, COUNT, DURATION, STR, TABLE, URL, optional

_BEAT = "beat"


class Beat:
    """The group ``beat``."""

    beat_schedule = Setting(TABLE, {}, "Periodic tasks by name.")
    beat_schedule_store = Setting(
        optional(URL),
        None,
        "Where beat remembers what it has sent: a URL; none: the broker if it can.",
        secret=True,
        awaits=_BEAT,
    )
    beat_max_loop_interval = Setting(
        DURATION, 0.0, "Longest sleep of beat; 0 lets beat choose.", awaits=_BEAT,
    )  # fmt: skip
    beat_sync_every = Setting(
        COUNT,
        0,
        "Records are kept after so many sends; 0 lets beat choose.",
        awaits=_BEAT,
    )
    beat_cron_starting_deadline = Setting(
        optional(DURATION),
        None,
        "Missed runs older than this are left out.",
        awaits=_BEAT,
    )
    beat_enable_remote_control = Setting(
        BOOL,
        False,
        "Beat listens to remote control.",
        awaits=_BEAT,
    )
    beat_remote_control_max_tick_age = Setting(
        optional(DURATION),
        None,
        "Beat that hasn't ticked for so long reports itself as ill.",
        awaits=_BEAT,
    )
    beat_scheduler = void("", "set beat_schedule_store; the scheduler itself is built in.")
    beat_schedule_filename = void(
        "celerybeat-schedule", "beat's memory is in a schedule store: beat_schedule_store."
    )


class Events:
    """The groups ``event`` and ``control``."""

    event_serializer = Setting(
        STR,
        "json",
        "Serializer of events, by name; monitors must accept it.",
    )
    event_exchange = Setting(
        STR,
        "celeryev",
        "Exchange of events.",
    )
    event_queue_prefix = Setting(
        STR,
        "celeryev",
        "How names of event queues begin.",
    )
    event_queue_ttl = Setting(
        DURATION,
        5.0,
        "How long an unread event is kept.",
    )
    event_queue_expires = Setting(
        DURATION,
        60.0,
        "How long an unused event queue is kept.",
    )
    event_queue_durable = Setting(
        BOOL,
        False,
        "Event queues survive the broker's restart.",
    )
    event_queue_exclusive = Setting(
        BOOL,
        True,
        "An event queue has one reader.",
    )
    control_exchange = Setting(
        STR,
        "celery",
        "Beginning of the name of remote control's exchanges.",
    )
    control_queue_ttl = Setting(
        DURATION,
        300.0,
        "How long an unread command is kept.",
    )
    control_queue_expires = Setting(
        DURATION,
        10.0,
        "How long an unused control queue is kept.",
    )
    control_queue_durable = Setting(
        BOOL,
        False,
        "Control queues survive the broker's restart.",
    )
    control_queue_exclusive = Setting(
        BOOL,
        True,
        "A control queue has one reader.",
    )
