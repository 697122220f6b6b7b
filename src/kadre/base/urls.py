"""What makes a URL one that a client can call."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

EXAMPLE = "http://tools.team.svc:8080/mcp"
_HOST = re.compile(r"[\w.-]+")
_BRACKETED = re.compile(r"\[[^]]*\](:.*)?")
_ORIGIN = re.compile(r"(?i)https?://([^/?#\\]*)")
_ONE_LABEL = re.compile(r"\{[^{}]*\}(\.[^{}.:@]+){2,}\.?(:[0-9]*)?")
_AT = re.compile(r"://[^/\s@]*@")
_LOGIN = (
    "the URL says who logs in, before its @: everybody who may read the object, or what is made of it, would know",
    "take that out, and have it in a Secret: a model's apiKeySecretRef, a tool's secretHeaders",
)


def fault(url: str) -> tuple[str, str] | None:
    """What is wrong with an http or https URL, and how to mend it; None where nothing is.

    One that holds a password is refused, and no part is told of one that may hold one.
    """
    if any(character.isspace() or not character.isprintable() for character in url):
        return "the URL has a space or a line break in it", "take it out; within a path it is written %20"
    if not url.lower().startswith(("http://", "https://")):
        scheme, marked, _ = url.partition("://")
        got = f", not {scheme}://" if marked and scheme.isalnum() else ""
        return f"an endpoint is an http or https URL{got}", f"write it with its scheme, as in {EXAMPLE}"
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return "the URL's host is not complete", f"write it as in {EXAMPLE}; [ ] are for IPv6 addresses"
    if "@" in parts.netloc:
        return _LOGIN
    if not host:
        return "the URL names no host", f"write one after ://, as in {EXAMPLE}"
    wrong = _host_fault(host, parts.netloc) or _port_fault(parts.netloc)
    return _LOGIN if wrong and "@" in url else wrong  # a / in a password ends what counts as the host


def sure_of_host(template: str) -> bool:
    """Whether `{name}` in a URL's host is none of what says whose host it is: not there, or one label of a domain."""
    origin = _ORIGIN.match(template)
    return origin is not None and ("{" not in origin[1] or bool(_ONE_LABEL.fullmatch(origin[1])))


def without_login(text: str) -> str:
    """A text without the user and the password that URLs in it may have."""
    return _AT.sub("://", text)


def _host_fault(host: str, netloc: str) -> tuple[str, str] | None:
    if "[" in netloc and not _BRACKETED.fullmatch(netloc):
        return "only a port may follow the ] of the URL's host", "write it as in http://[fd00::1]:8080/mcp"
    if _is_ipv6(host) if "[" in netloc else _HOST.fullmatch(host):
        return None
    return f"{host!r} can't be a host", f"use letters, digits, - and ., as in {EXAMPLE}"


def _is_ipv6(host: str) -> bool:
    try:
        return bool(ipaddress.IPv6Address(host))
    except ValueError:
        return False


def _port_fault(netloc: str) -> tuple[str, str] | None:
    _, colon, port = netloc.rpartition("]")[2].rpartition(":")
    if not colon or not port or (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        return None
    return f"{port[:20]!r} can't be a port", "write a number from 1 to 65535"
