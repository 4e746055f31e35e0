"""Which setting a name means: new names, Celery's old ones, those of bundles, mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from caraway.settings.beat import Beat, Events
from caraway.settings.broker import Broker
from caraway.settings.declare import GROUP_PREFIXES, Setting
from caraway.settings.general import General
from caraway.settings.result import Results
from caraway.settings.task import Tasks
from caraway.settings.worker import Workers

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GROUPS = (General, Broker, Tasks, Results, Workers, Beat, Events)

DECLARED: Mapping[str, Setting[Any]] = {
    name: declared
    for group in GROUPS
    for name, declared in vars(group).items()
    if isinstance(declared, Setting)
}
"""Every setting by name, in the order of declaration."""

TABLE_GROUPS = ("task", "worker", "broker", "result", "beat", "event", "control")
"""Tables of the file whose keys are names without their beginning."""

BUNDLES = {
    "redis_": "redis",
    "cache_": "memcache",
    "database_": "sqlalchemy",
    "mongodb_": "mongodb",
    "cassandra_": "cassandra",
    "couchbase_": "couchbase",
    "arangodb_": "arangodb",
    "elasticsearch_": "elasticsearch",
    "azureblockblob_": "azureblockblob",
    "cosmosdbsql_": "cosmosdbsql",
    "dynamodb_": "dynamodb",
    "s3_": "s3",
    "gcs_": "gcs",
    "security_": "auth",
}
"""Beginnings of Celery's settings that belong to a bundle: ``redis_max_connections`` is
``max_connections`` of the table ``[plugins.redis]``."""

_PROGRAM_OPTIONS = ("logfile", "pidfile", "uid", "gid", "umask", "executable")


def canonical(name: str, prefix: str = "") -> str | None:
    """The setting's lower-case name, or None if there is no such setting.

    Args:
        name: as written: new, old upper-case, or with the prefix.
        prefix: what namespaced names begin with, e.g. ``CELERY_``; names that don't
            begin so are unknown then.
    """
    if prefix:
        if not name.startswith(prefix):
            return None
        return known(name[len(prefix) :].lower())
    found = known(name)
    if found is not None or not name.isupper():
        return found
    found = old_names().get(name) or known(name.lower())
    if found is not None:
        return found
    for beginning in ("CELERY_", "CARAWAY_"):
        if name.startswith(beginning):
            return known(name[len(beginning) :].lower())
    return None


def known(name: str) -> str | None:
    """The name if it is declared or belongs to a bundle, else None."""
    return name if name in DECLARED or bundle_of(name) is not None else None


def bundle_of(name: str) -> tuple[str, str] | None:
    """Plugin and option of a setting that belongs to a bundle, else None."""
    for beginning, bundle in BUNDLES.items():
        if name.startswith(beginning) and len(name) > len(beginning):
            return bundle, name[len(beginning) :]
    return None


_old: dict[str, str] = {}


def old_names() -> Mapping[str, str]:
    """New names by Celery's old upper-case ones."""
    if not _old:
        for name, declared in DECLARED.items():
            for old in declared.old_names:
                _old.setdefault(old, name)
    return _old


def looks_ours(name: str) -> bool:
    """True for names that can only be meant as a setting: an unknown one is a mistake."""
    lowered = name.lower()
    return lowered.startswith((*GROUP_PREFIXES, "caraway_", "celery_"))


def is_program_option(name: str) -> bool:
    """True for what Celery reads as an option of its programs (``worker_umask``)."""
    program, _, option = name.partition("_")
    return program in ("worker", "beat", "events") and option in _PROGRAM_OPTIONS


def nearest(name: str, candidates: Iterable[str] | None = None, *, cutoff: float = 0.6) -> str:
    """The most alike name, or an empty text if none is."""
    import difflib

    pool = list(DECLARED if candidates is None else candidates)
    lowered = name.lower()
    found = difflib.get_close_matches(lowered, pool, 1, cutoff)
    if not found and candidates is None:
        tails = {full.partition("_")[2]: full for full in pool}
        alike = difflib.get_close_matches(lowered, tails, 1, max(cutoff, 0.75))
        found = [tails[alike[0]]] if alike else []
    return found[0] if found else ""
