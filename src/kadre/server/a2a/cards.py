"""Agent cards: what an agent is and where it is asked, open to everybody. Plain JSON: reading one loads no library."""

from __future__ import annotations

from typing import Any

from kadre import __version__
from kadre.plan.types import AgentKey
from kadre.server import auth

CARD = auth.OPEN_END
TEXT = ["text/plain"]
_GRPC = {"protocolBinding": "GRPC", "protocolVersion": "1.0"}


def card(key: AgentKey, name: str, description: str, base: str, grpc: str = "") -> dict[str, Any]:
    """The card of an agent that is served at `base`, a URL. It names addresses for clients of A2A 1.0 and of 0.3.

    `grpc`: where it is asked over gRPC, as host:port; empty: nowhere.
    """
    url = f"{base.rstrip('/')}/agents/{key.namespace}/{key.name}/a2a"
    about = description or f"The agent {key.short}."
    return {
        "name": name or key.name,
        "description": about,
        "version": __version__,
        "supportedInterfaces": [
            {"url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"},
            {"url": url, "protocolBinding": "HTTP+JSON", "protocolVersion": "1.0"},
            *([{"url": grpc, **_GRPC, "tenant": key.short}] if grpc else []),
        ],
        "capabilities": {"streaming": True, "pushNotifications": True},
        "defaultInputModes": TEXT,
        "defaultOutputModes": TEXT,
        "skills": [{"id": "chat", "name": name or key.name, "description": about, "tags": ["chat"]}],
        "securitySchemes": {"bearer": {"httpAuthSecurityScheme": {"scheme": "bearer"}}},
        "securityRequirements": [{"schemes": {"bearer": {"list": []}}}],
        # A2A 0.3
        "url": url,
        "preferredTransport": "JSONRPC",
        "protocolVersion": "0.3.0",
    }
