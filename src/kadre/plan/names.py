"""Names derived from what an author wrote (a tool's for models, a variable's for a secret), and those that are ours."""

from __future__ import annotations

import hashlib
import re

_NOT_IN_TOOL_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_NOT_IN_VARIABLE = re.compile(r"[^A-Z0-9]+")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
TOOL_NAME_LIMIT = 64
RESERVED = frozenset(
    {
        *("agents", "runs", "sessions", "v1", "health", "healthz", "readyz", "metrics"),
        *("a2a", "chat", "approvals", "mcp", "ui", ".well-known"),
    }
)
"""Agents of these names get no short route: the route was there first."""
SERVICE_NAME_LIMIT = 63


def tool_name(name: str) -> str:
    """`name` as every provider accepts it, `[a-zA-Z0-9_-]{1,64}`; a name cut short ends in a digest of the whole."""
    plain = _NOT_IN_TOOL_NAME.sub("_", name)
    if 1 <= len(plain) <= TOOL_NAME_LIMIT:
        return plain
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{plain[: TOOL_NAME_LIMIT - 9]}_{digest}" if plain else f"tool_{digest}"


def secret_variable(name: str, key: str) -> str:
    """The line of `.env` that holds this secret on a laptop: `crm-api-token`, `token` -> CRM_API_TOKEN_TOKEN.

    A key that is written as a variable (OPENAI_API_KEY) is that line.
    """
    if _VARIABLE.fullmatch(key):
        return key
    return _NOT_IN_VARIABLE.sub("_", f"{name}_{key}".upper()).strip("_")


def server_name(kind: str, name: str) -> str:
    """What the objects of a ModelAPI or MCPServer are called: `modelapi-ollama`; one cut short ends in a digest."""
    whole = f"{kind.lower()}-{name}"
    if len(whole) <= SERVICE_NAME_LIMIT:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: SERVICE_NAME_LIMIT - 9].rstrip('-')}-{digest}"
