"""Settings of results and their backend."""

# ruff: noqa: FBT003 - a default that is a bool stands where every default stands

from __future__ import annotations

from typing import TYPE_CHECKING

from caraway.settings.declare import Setting, void
from caraway.settings.values import BOOL, COUNT, DURATION, STR, TABLE, URL, optional

if TYPE_CHECKING:
    from caraway.settings.store import Settings

SHARED_SCHEMES = ("sqlite", "memory")


def backend_beside_broker(settings: Settings) -> str | None:
    """The broker's own store where it can keep results, else None."""
    url = settings.broker_url
    return url if url.partition(":")[0].lower() in SHARED_SCHEMES else None


_NETWORK = "bundles of brokers and backends that are reached over a network"
_AMQP = "the bundle of AMQP brokers"
_CANVAS = "chords"


class Results:
    """The group ``result``."""

    result_backend = Setting(
        optional(URL),
        None,
        "Where results are kept: a URL; `disabled://` or none for nowhere.",
        derive=backend_beside_broker,
        derived="the broker itself if it is sqlite or memory, else none",
        secret=True,
        celery="none",
    )
    result_backend_transport_options = Setting(
        TABLE, {}, "Options of the backend, as in the URL's query."
    )
    result_backend_always_retry = Setting(
        BOOL,
        False,
        "Operations of the backend are tried again after errors that may pass.",
        awaits=_NETWORK,
    )
    result_backend_max_retries = Setting(
        optional(COUNT),
        None,
        "How often an operation of the backend is tried again; none is for ever.",
        celery="infinite",
        awaits=_NETWORK,
    )
    result_backend_base_sleep_between_retries_ms = Setting(
        COUNT,
        10,
        "First pause between attempts, doubled each time.",
        unit="ms",
        awaits=_NETWORK,
    )
    result_backend_max_sleep_between_retries_ms = Setting(
        COUNT,
        10000,
        "Longest pause between attempts.",
        unit="ms",
        awaits=_NETWORK,
    )
    result_serializer = Setting(STR, "json", "Serializer of results, by name.")
    result_compression = Setting(
        optional(STR),
        None,
        "Compressor of results, by name.",
        awaits="results that are compressed",
    )
    result_expires = Setting(
        optional(DURATION),
        86400.0,
        "How long results are kept; none or 0 is for ever.",
        old=("CELERY_TASK_RESULT_EXPIRES",),
    )
    result_failure_expires = Setting(
        optional(DURATION), None, "How long failures are kept; none: as `result_expires`."
    )
    result_extended = Setting(
        BOOL, False, "Results carry name, arguments, worker, retries and queue of the task."
    )
    result_persistent = Setting(
        optional(BOOL),
        None,
        "Result messages survive the broker's restart (rpc backend).",
    )
    result_cache_max = void(
        -1,
        "a result is kept by the AsyncResult that read it, nowhere else.",
        old=("CELERY_MAX_CACHED_RESULTS",),
    )
    result_chord_join_timeout = Setting(
        DURATION, 3.0, "How long the results of a chord's header are waited for.",
        old=("CELERY_CHORD_JOIN_TIMEOUT",), awaits=_CANVAS,
    )  # fmt: skip
    result_chord_retry_interval = Setting(
        DURATION, 1.0, "Pause between two looks at a chord, in backends that must look.",
        old=("CELERY_CHORD_RETRY_INTERVAL",),
    )  # fmt: skip
    result_chord_expires = Setting(
        optional(DURATION),
        None,
        "How long a chord's count is kept; none: as `result_expires`.",
    )
    result_exchange = Setting(
        STR,
        "celeryresults",
        "Exchange of the amqp result backend.",
        awaits=_AMQP,
    )
    result_exchange_type = Setting(
        STR,
        "direct",
        "Type of the exchange of the amqp result backend.",
        awaits=_AMQP,
    )
    result_backend_thread_safe = void(False, "every backend is thread-safe.")
