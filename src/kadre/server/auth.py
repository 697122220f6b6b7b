"""Who is calling, and from where.

Whom the gateway vouches for is who it says. Else a connection whose peer is exactly this machine, without a forwarding
header, is local: the person at the keyboard. A browser is on this machine too, so a page of another origin, or a name
that was rebound to 127.0.0.1, must not pass as that person.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.types import Scope

from kadre.base.errors import Forbidden, Unauthorized
from kadre.plan.types import AgentKey
from kadre.server.identity import HEADER, Right, Verifier

_LOOPBACK = frozenset({"127.0.0.1", "::1"})
_LOCAL_NAMES = frozenset({"127.0.0.1", "::1", "localhost"})
_FORWARDED = frozenset(
    {
        *(b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto"),
        *(b"x-forwarded-port", b"x-forwarded-server", b"x-envoy-external-address", b"x-envoy-original-path"),
    }
)
_IDENTITY = HEADER.encode()
ALL_RIGHTS: tuple[Right, ...] = ("see-all", "approve")
NOT_LOCAL = (
    "only callers on this machine are served, and not through a proxy: go by kubectl port-forward to an agent in a"
    " cluster, and call any other from the machine it runs on"
)
OPEN_PATHS = frozenset({"/health", "/healthz", "/readyz", "/metrics"})
OPEN_END = "/.well-known/agent-card.json"
"""How every address ends at which an agent's card is."""
_CARD = re.compile(r"(/agents/[^/]+(/[^/]+)?)?" + re.escape(OPEN_END))


class Caller(NamedTuple):
    """Who calls, and what they may do beyond talking."""

    name: str
    rights: tuple[Right, ...] = ()
    agent: str = ""
    """The agent that the gateway has vouched for them to, and all that they see here; empty: everything here."""
    via: str = ""
    """The agent that asks for them: it sees what it delegates alone."""


LOCAL = Caller("local", ALL_RIGHTS)
ANYBODY = Caller("anonymous")


def caller(scope: Scope, verifier: Verifier | None = None) -> Caller:
    """Who calls. `verifier`: hears the gateway, where there is one.

    Raises Forbidden for a foreign origin or host name, Unauthorized for a caller that is neither local nor vouched for.
    """
    origin = host = said = b""
    forwarded = False
    for name, value in scope["headers"]:
        if name == b"origin":
            origin = value
        elif name == b"host":
            host = value
        elif name == _IDENTITY:
            said = value
        elif name in _FORWARDED:
            forwarded = True
    if origin and not _is_local_origin(origin.decode("latin-1"), host.decode("latin-1")):
        raise Forbidden("requests from pages of another origin are refused", reason="ForeignOrigin")
    if is_open(scope["path"]):
        return ANYBODY
    if said and verifier is not None:
        claims = verifier.heard(said.decode("latin-1"))
        if claims.via and not _is_delegating(scope["path"], scope["method"]):
            raise Forbidden(
                f"agent {claims.via} may begin runs here and see those, and nothing else", reason="ViaAgent"
            )
        return Caller(claims.sub, claims.rights, claims.aud, claims.via)
    client = scope.get("client")
    if client is None or client[0] not in _LOOPBACK or forwarded:
        raise Unauthorized(NOT_LOCAL, reason="NotLocal")
    if host and host_name(host.decode("latin-1")) not in _LOCAL_NAMES:
        raise Forbidden("the Host header names another machine; use localhost or 127.0.0.1", reason="ForeignHost")
    return LOCAL


def is_open(path: str) -> bool:
    """Whether who asks there need not be known."""
    return path in OPEN_PATHS or (path.endswith(OPEN_END) and _CARD.fullmatch(path) is not None)


def check(caller: Caller, agent: AgentKey) -> None:
    """Raises Forbidden where the gateway has vouched for them to another agent."""
    if caller.agent and caller.agent != str(agent):
        raise Forbidden(f"the gateway has vouched for a caller of {caller.agent}, not of {agent}", reason="OtherAgent")


def host_name(host: str) -> str:
    """The name in a Host header, without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def _is_delegating(path: str, method: str) -> bool:
    """Whether that is a way to begin a run, or to one that is known: no list and no other door."""
    return path.startswith("/runs/") or (path == "/runs" and method == "POST")


def _is_local_origin(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.netloc == host and (parts.hostname or "") in _LOCAL_NAMES
