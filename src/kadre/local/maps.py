"""Sends what a plan addresses to a cluster's service name to where that service is on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit, urlunsplit

import msgspec

from kadre.local.settings import Mapped
from kadre.plan.types import AgentPlan, McpTools

_DEFAULT_PORTS = {"http": 80, "https": 443}


def mapped_url(url: str, maps: Sequence[Mapped]) -> str:
    """`url` with host and port replaced where a map names them."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    for entry in maps:
        if parts.hostname == entry.host and port == entry.port:
            return urlunsplit(parts._replace(netloc=f"{entry.to_host}:{entry.to_port}"))
    return url


def mapped(plan: AgentPlan, maps: Sequence[Mapped]) -> AgentPlan:
    """The plan with every address mapped; the same object where nothing is."""
    if not maps:
        return plan
    model = msgspec.structs.replace(plan.model, endpoint=mapped_url(plan.model.endpoint, maps))
    tools = tuple(
        msgspec.structs.replace(tool, url=mapped_url(tool.url, maps)) if isinstance(tool, McpTools) else tool
        for tool in plan.tools
    )
    return msgspec.structs.replace(plan, model=model, tools=tools)
