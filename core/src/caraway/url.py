"""URLs of brokers, result backends and schedule stores.

``scheme[+driver]://[username[:password]@]host[:port][/path][?name=value&...]``

The scheme picks the component; what follows the first ``+`` is handed to it.  Besides
that form are accepted: a bare word (``memory``), and, wherever a scheme is, the
``package.module:Class`` of a component (``shop.queues:MyTransport://host``,
``shop.queues:MyBackend+redis://host``).  A password is shown by `Url.raw` alone.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct, field

from caraway.errors import ImproperlyConfigured

_SCHEME = re.compile(
    r"(?P<scheme>[A-Za-z_][\w.\-]*(?::[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)?)"
    r"(?:\+(?P<driver>[A-Za-z][\w.+:\-]*?))?(?P<sep>://|\Z)"
)
_LIST_BREAK = re.compile(r";\s*(?=[A-Za-z_][\w.+:\-]*://|\Z)")
SECRET_NAME = re.compile(
    r"passw|secret|token|credential|api_?key|access_key|private_key", re.IGNORECASE
)
"""Found in names of parameters whose values are to be hidden."""
_SECRET_QUERY = re.compile(
    r"([?&;][^=&]*(?:passw|secret|token|credential|api_?key|access_key|private_key)[^=&]*=)"
    r"[^&;#\s]*",
    re.IGNORECASE,
)

HIDDEN = "**"
"""What stands where a password was."""


class Url(Struct, frozen=True, kw_only=True):
    """One URL, taken apart; all parts percent-decoded.

    Attributes:
        scheme: lower-case; picks the component.  Case is kept in a ``module:Class``.
        driver: what followed the first ``+`` of the scheme, else empty.
        username: empty if there is none.
        password: empty if there is none.
        host: name or address, IPv6 without brackets; several hosts with commas between
            them stay one text, ports included.  ``%2Frun%2Fx.sock`` gives a socket path.
        port: 0 to 65535, or None.
        path: as in the URL, with its first slash: ``/1``, ``//vhost``, ``/relative.db``,
            ``//absolute.db``; empty if there is none.
        query: parameters by name; a component's option table gives them types.
        raw: the text it was parsed from, password included.  Never log it.
    """

    scheme: str
    driver: str = ""
    username: str = ""
    password: str = ""
    host: str = ""
    port: int | None = None
    path: str = ""
    query: dict[str, str] = field(default_factory=dict)
    raw: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Parse one URL.

        Raises:
            ImproperlyConfigured: malformed, or a list of several (see `parse_list`).
        """
        stripped = text.strip()
        if not stripped:
            raise ImproperlyConfigured(
                "the URL is empty", hint="Give one such as 'sqlite://' or 'memory://'."
            )
        if len(_split(stripped)) > 1:
            raise ImproperlyConfigured(
                f"one URL is wanted here, not a list: {redact(text)!r}",
                hint="Keep only one of the URLs between the ';'.",
            )
        return _parse(stripped.rstrip(";"), raw=stripped)

    @classmethod
    def parse_list(cls, text: str) -> tuple[Url, ...]:
        """Parse one or several URLs with ``;`` between them: a failover list.

        A ``;`` separates only where a scheme and ``://`` follow it.

        Raises:
            ImproperlyConfigured: empty, or one of them is malformed.
        """
        parts = _split(text)
        if len(parts) <= 1:
            return (cls.parse(text),)
        return tuple(_parse(part, raw=part) for part in parts)

    def __str__(self) -> str:
        return redact(self.raw) if self.raw else self._compose()

    def __repr__(self) -> str:
        return f"Url({str(self)!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("url", str(self))]  # msgspec's own would show every field

    def _compose(self) -> str:
        """The URL from its parts, for one that was not parsed, without its secrets."""
        from urllib.parse import quote

        user = quote(self.username, safe="")
        if self.password:
            user += f":{HIDDEN}"
        host = self.host
        if ":" in host and "," not in host:
            host = f"[{host}]"
        elif "/" in host:
            host = quote(host, safe="")
        text = f"{self.scheme}{'+' + self.driver if self.driver else ''}://"
        text += f"{user}@{host}" if user else host
        text += "" if self.port is None else f":{self.port}"
        text += quote(self.path, safe="/%:")
        if self.query:
            text += "?" + "&".join(
                f"{quote(name)}={HIDDEN if SECRET_NAME.search(name) else quote(value)}"
                for name, value in self.query.items()
            )
        return text


def redact(text: str) -> str:
    """``text`` with every password of the URLs in it replaced; for logs and errors.

    Works on text that isn't a valid URL too; then it rather hides too much.
    """
    return ";".join(
        _SECRET_QUERY.sub(rf"\1{HIDDEN}", _redact_userinfo(part))
        for part in _LIST_BREAK.split(str(text))
    )


def _redact_userinfo(text: str) -> str:
    head, sep, rest = text.partition("://")
    if not sep:
        head, rest = "", text
    if "@" not in rest:
        return text
    cut = _authority_end(rest)
    at = rest.rfind("@", 0, cut)
    if at < 0:
        # The '@' is in the path or query: harmless, unless an unquoted password
        # brought the '/' or '?' along.
        if not _password_is_cut(rest[:cut], rest[cut:]):
            return text
        at = rest.rfind("@")
    user, colon, _ = rest[:at].partition(":")
    return f"{head}{sep}{user}{':' + HIDDEN if colon else ''}{rest[at:]}"


def _authority_end(rest: str) -> int:
    return min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))


def _password_is_cut(authority: str, tail: str) -> bool:
    """True where what looks like a port is the first half of a password."""
    _, colon, port = authority.rpartition(":")
    return "@" in tail and bool(colon) and not port.isdigit() and "]" not in port


def _split(text: str) -> list[str]:
    return [part for part in (piece.strip() for piece in _LIST_BREAK.split(text)) if part]


def _bad(text: str, why: str, hint: str = "") -> ImproperlyConfigured:
    return ImproperlyConfigured(f"not a URL: {redact(text)!r}: {why}", hint=hint)


def _parse(text: str, raw: str) -> Url:
    match = _SCHEME.match(text)
    if match is None:
        hint = "A URL begins with a scheme, as in 'sqlite:///jobs.db' or 'redis://localhost/0'."
        raise _bad(text, "it has no scheme", hint)
    scheme, driver = match["scheme"], match["driver"] or ""
    if ":" not in scheme:
        scheme = scheme.lower()
        if "." in scheme and match["sep"] == "":
            raise _bad(text, "it has no scheme", f"Did you mean 'redis://{text}'?")
    rest = text[match.end() :]
    if any(ch in "\r\n\t\0" for ch in rest):
        raise _bad(text, "it contains a control character")
    cut = _authority_end(rest)
    if _password_is_cut(rest[:cut], rest[cut:]):
        raise _bad(
            text,
            "the password holds a '/' or '?'",
            "Write '/' in a password as '%2F', and '?' as '%3F'.",
        )
    netloc, tail = rest[:cut], rest[cut:]
    path, _, query = tail.partition("?")
    if "#" in rest:
        raise _bad(text, "it has a fragment ('#')", "Write '#' as '%23'.")
    userinfo, _, hostport = netloc.rpartition("@")
    username, _, password = userinfo.partition(":")
    host, port_number = _host(hostport, text)
    return Url(
        scheme=scheme,
        driver=driver,
        username=_unquote(username),
        password=_unquote(password),
        host=_unquote(host),
        port=port_number,
        path=_unquote(path),
        query=_query(query, text) if query else {},
        raw=raw,
    )


def _host(hostport: str, text: str) -> tuple[str, int | None]:
    if ";" in hostport:
        raise _bad(text, "the host holds a ';'", "Each URL of a list begins with its own scheme.")
    if "," in hostport:
        return hostport, None
    if hostport.startswith("["):
        host, closed, rest = hostport[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise _bad(
                text, "the IPv6 address lacks its ']'", "Write it as in 'redis://[::1]:6379'."
            )
        port = rest[1:]
    else:
        host, _, port = hostport.partition(":")
        if ":" in port:
            raise _bad(
                text,
                "the host holds more than one ':'",
                "Put an IPv6 address in brackets, and write ':' in a password as '%3A'.",
            )
    if not port:
        return host, None
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise _bad(text, "the port isn't one", "A port is a number from 0 to 65535.")
    return host, int(port)


def _query(query: str, text: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for pair in query.split("&"):
        if not pair:
            continue
        name, _, value = pair.partition("=")
        name = _unquote(name.replace("+", " "))
        if not name:
            raise _bad(text, "a query parameter has no name")
        if name in out:
            raise _bad(text, f"the query parameter {name!r} is given twice")
        out[name] = _unquote(value.replace("+", " "))
    return out


def _unquote(text: str) -> str:
    if "%" not in text:
        return text
    from urllib.parse import unquote  # 7 ms that most URLs don't need

    return unquote(text)
