"""The gateway's doors before one host, without a cluster: `python -m benchmarks.apps.gateway_app PORT UPSTREAM_PORT`.

Everything a request passes in `kadre gateway` is there: who calls, by an API key, what they may, the signed word, the
choice of a host, the crowd. What is followed in a cluster stands still.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import uvloop
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from kadre.base import collector
from kadre.engine import http_client
from kadre.local import serving
from kadre.plan.types import AgentKey
from kadre.server.gateway import app
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.metrics import GatewayMetrics
from kadre.server.gateway.upstream import Upstream
from kadre.server.gateway.visitors import Reception
from kadre.server.identity import Signer

KEY = AgentKey("bench", "agent")
API_KEY = "k-of-the-bench"


class Still:
    """A Fleet of one agent with one host, and the one API key."""

    def __init__(self, host: str) -> None:
        self._hosts = (host,)
        self._keys = {"bench": API_KEY}

    def all(self) -> Sequence[AgentKey]:
        """See Directory."""
        return (KEY,)

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        return (KEY,) if name == KEY.name else ()

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """See Fleet."""
        del key
        return self._hosts

    def comes(self, key: AgentKey) -> bool:
        """See Fleet."""
        del key
        return False

    async def arrives(self, key: AgentKey) -> None:
        """See Fleet."""
        del key

    def seconds(self, key: AgentKey) -> float | None:
        """See Fleet."""
        del key
        return None

    def durable(self, key: AgentKey) -> bool:
        """See Fleet."""
        del key
        return False

    def shown(self, key: AgentKey) -> Mapping[str, Any]:
        """See Fleet."""
        return {"name": key.name}

    def current(self) -> Mapping[str, str]:
        """See Keys."""
        return self._keys


async def main(port: int, upstream_port: int) -> None:
    """Serve until killed."""
    fleet = Still(f"127.0.0.1:{upstream_port}")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    async with http_client.session() as http:
        upstream, crowd = Upstream(fleet, http, Signer(lambda: pem)), Crowd()
        metrics = GatewayMetrics(fleet, upstream, crowd)
        doors = app.build(fleet, upstream, Reception(fleet, trust_local=False), crowd, metrics.get)
        server = serving.Server(serving.listen("127.0.0.1", port), doors)
        collector.settle()
        await server.serve()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]), int(sys.argv[2])))
