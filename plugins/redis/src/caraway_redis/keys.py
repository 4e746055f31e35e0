"""The names of keys: Celery's and our own.

Celery's: docs/reference/wire-format.md, "Redis".  Ours all begin with ``caraway:``.
"""

from __future__ import annotations

from caraway_redis.options import Options

OURS = "caraway:"


class Keys:
    """Names under one prefix.

    Args:
        options: prefix, separator, steps, hash tag.
    """

    def __init__(self, options: Options) -> None:
        self.prefix = options.global_keyprefix + options.tag
        self.sep = options.sep
        own = self.prefix + OURS
        self.owners = own + "owners"
        """Sorted set: owner -> end of its lease."""
        self.leases = own + "leases"
        """Hash: owner -> seconds of its lease."""
        self.infos = own + "infos"
        """Hash: owner -> what it told of itself."""
        self.inboxes = own + "inboxes"
        """Hash: owner -> its inboxes and their lists, a line each."""
        self.held = own + "held:"
        """+ owner: hash: tag -> step, queue and payload, a line each."""
        self.inbox = own + "inbox:"
        """+ owner, step and queue: list: what came while it waited."""
        self.orphans = own + "orphans"
        """Sorted set: inboxes and lists of an owner that ended -> until when to look."""
        self.seq = own + "seq"
        """Counter of tags and dead letters."""
        self.revoked = own + "revoked"
        """Sorted set: task id -> until when it is revoked."""
        self.sweep = own + "sweep"
        """Exists while somebody looked for dead owners lately."""
        self.timer = own + "timer"
        """Who wakes up for the next due time."""
        self.queues = own + "queues"
        """Set: names of queues."""
        self.delayed = own + "delayed:"
        """+ queue: sorted set: step and payload, a line each -> due time."""
        self.bell = "\nbell"
        """After a delayed set's name: list that whoever waits looks at, rung where what
        was added is due soon."""
        self.dead = own + "dead:"
        """+ id: hash: one dead letter."""
        self.dead_index = own + "dead-letters"
        """Sorted set of all dead letters' ids."""
        self.dead_of = own + "dead-of:"
        """+ queue: sorted set of its dead letters' ids."""
        self.binding = self.prefix + "_kombu.binding."
        """+ exchange: set: routing key, pattern and queue."""
        self.permanent = self.prefix + "_kombu.binding_permanent."
        """+ exchange: set: those of queues that don't expire."""
        self.deadlines = self.prefix + "_kombu.binding_deadlines"
        """Sorted set: exchange -> when its bindings end, unless put off (ms)."""
        self.ping = own + "ping"
        self.unacked = self.prefix + options.unacked_key
        self.unacked_index = self.prefix + options.unacked_index_key
        self.unacked_mutex = self.prefix + options.unacked_mutex_key

    def list(self, queue: str, step: int) -> str:
        """The list of a queue and a priority's step."""
        return f"{self.prefix}{queue}{self.sep}{step}" if step else self.prefix + queue

    def member(self, queue: str, routing_key: str, pattern: str = "") -> str:
        """A member of a binding's set."""
        return self.sep.join((routing_key, pattern, queue))
