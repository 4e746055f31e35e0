"""What the broker and the client library raise, in Caraway's words."""

from __future__ import annotations

import re

from caraway.errors import TransportError, TransportUnavailable

NO_ROUTE, NOT_FOUND, LOCKED, MISMATCH, REFUSED = 312, 404, 405, 406, 403
_PASSING = frozenset({311, 313, 320, 504, 506, 541})
"""Reply codes after which trying again may help: resources, forced closes, restarts."""


class ChannelClosed(TransportError):
    """The broker refused something, and closed the channel over it.

    Attributes:
        code: AMQP's reply code, e.g. 404.
        text: what the broker said.
    """

    def __init__(self, code: int, text: str, hint: str = "") -> None:
        if code == MISMATCH:
            hint = hint or _same(text)
        super().__init__(f"RabbitMQ refused: {text} ({code})", hint=hint or _HINTS.get(code, ""))
        self.code = code
        self.text = text


_SETTINGS = {
    "x-max-priority": "max_priority of the queue in task_queues, or task_queue_max_priority",
    "x-queue-type": "task_default_queue_type, task_create_missing_queue_type or x-queue-type in "
    "the queue's arguments",
    "durable": "durable of the queue in task_queues",
    "type": "exchange_type in task_queues, or task_default_exchange_type",
}
"""What sets an argument of a declaration, by its name."""
_ARGUMENT = re.compile(
    r"inequivalent arg '([^']+)' for (queue|exchange) '([^']*)' in vhost '([^']*)'"
)


def _same(text: str) -> str:
    """What to do about something that exists otherwise: RabbitMQ names one difference."""
    found = _ARGUMENT.search(text)
    if found is None:
        return ""
    argument, kind, name, vhost = found.groups()
    where = _SETTINGS.get(argument, "arguments of the queue in task_queues")
    if kind == "exchange":
        return (
            f"Set what the broker has ({where}), or delete the exchange there and let it be made "
            "anew."
        )
    return (
        f"Set what the broker has ({where}); or, once the queue is empty, delete it there "
        f"(rabbitmqctl delete_queue -p {vhost} {name}) and let it be made anew. Another "
        "difference, if there is one, is named then."
    )


_HINTS = {
    REFUSED: "Give the user the rights to configure, write and read: rabbitmqctl "
    'set_permissions -p VHOST USER ".*" ".*" ".*".',
    LOCKED: "Another connection has this queue for itself; end that one, or take another name.",
}


def closed(code: int, text: str, shown: str) -> TransportError:
    """The broker closed the connection."""
    said = f"{shown} closed the connection: {text} ({code})"
    if code in _PASSING:
        return TransportUnavailable(said, hint="It is reconnected to when it is used again.")
    return TransportError(said, hint=_HINTS.get(code, "The log of the broker may say more."))


def connecting(exc: BaseException, shown: str, vhost: str) -> TransportError:
    """What a failed attempt to connect means."""
    from ssl import SSLEOFError, SSLError, SSLZeroReturnError

    from amqp.exceptions import AccessRefused, AMQPError, NotAllowed

    if isinstance(exc, AccessRefused):
        return TransportError(
            f"{shown} refused the login: {exc.message}",
            hint="Check user, password and broker_login_method; the user guest may only come "
            "from the broker's own host.",
        )
    if isinstance(exc, NotAllowed):
        return TransportError(
            f"{shown} refused the virtual host {vhost!r}: {exc.message}",
            hint=f"Make it (rabbitmqctl add_vhost {vhost}) and give the user its rights, or "
            "name another in the URL: amqp://host/vhost.",
        )
    if isinstance(exc, SSLError) and not isinstance(exc, SSLEOFError | SSLZeroReturnError):
        return _no_tls(str(exc), shown)
    if isinstance(exc, AMQPError):
        code = getattr(exc, "reply_code", 0) or 0
        return closed(code or 320, str(exc), shown)
    if isinstance(exc, SSLError):
        return TransportUnavailable(
            f"{shown} hung up while TLS was agreed on: {exc}",
            hint="Does it restart? It may also want a certificate of ours: certfile and keyfile "
            "of broker_use_ssl.",
        )
    return TransportUnavailable(
        f"{shown} can't be reached: {str(exc) or type(exc).__name__}",
        hint="Is RabbitMQ running there? The broker_url says where.",
    )


def _no_tls(text: str, shown: str) -> TransportError:
    """Two who can't agree on TLS."""
    if "Hostname mismatch" in text or "IP address mismatch" in text:
        return TransportError(
            f"{shown} isn't trusted: {text}",
            hint="Its certificate is of another name: write that into the URL, or into "
            "server_hostname of broker_use_ssl.",
        )
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return TransportError(
            f"{shown} isn't trusted: {text}",
            hint="Name the file of its authority's certificate: ca_certs of broker_use_ssl, or "
            "?ca_certs=/path/to/ca.pem.",
        )
    if "alert" in text.lower():
        return TransportError(
            f"{shown} refused us: {text}",
            hint="It may want a certificate of ours that it trusts: certfile and keyfile of "
            "broker_use_ssl.",
        )
    return TransportError(
        f"TLS with {shown} failed: {text}",
        hint="Check broker_use_ssl, and that the port speaks TLS (5671, as a rule).",
    )
