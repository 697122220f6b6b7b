"""A gateway on a real port of this machine, before hosts that are there too, each behind its own doors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from kadre.base.addresses import Policy
from kadre.engine import http_client
from kadre.local.serving import speak_grpc
from kadre.plan.types import AgentKey
from kadre.server.gateway import app
from kadre.server.gateway.crowd import Crowd
from kadre.server.gateway.metrics import GatewayMetrics
from kadre.server.gateway.upstream import Upstream
from kadre.server.gateway.visitors import Reception
from kadre.server.identity import Signer, Verifier, key_id
from tests.support.scene import Scene
from tests.support.serving import answering, serving

NOWHERE = "127.0.0.1:1"
"""Where nobody listens."""


class Hosts:
    """A Fleet that a test makes: addresses by agent."""

    def __init__(self) -> None:
        self.at: dict[AgentKey, list[str]] = {}
        self.coming: set[AgentKey] = set()
        self.allowed: dict[AgentKey, float] = {}
        self.kept: set[AgentKey] = set()
        """Agents whose runs outlive their hosts."""
        self.news = asyncio.Event()

    def all(self) -> Sequence[AgentKey]:
        """See Directory."""
        return list(self.at)

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        return [key for key in self.at if key.name == name]

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """See Fleet."""
        return self.at.get(key, ())

    def comes(self, key: AgentKey) -> bool:
        """See Fleet."""
        return key in self.coming

    async def arrives(self, key: AgentKey) -> None:
        """See Fleet."""
        del key
        await self.news.wait()
        self.news.clear()

    def seconds(self, key: AgentKey) -> float | None:
        """See Fleet."""
        return self.allowed.get(key)

    def durable(self, key: AgentKey) -> bool:
        """See Fleet."""
        return key in self.kept

    def shown(self, key: AgentKey) -> Mapping[str, Any]:
        """See Fleet."""
        return {"name": key.name, "namespace": key.namespace, "hosts": len(self.hosts(key))}


def new_key(folder: Path) -> None:
    """A key that signs, in `key`, and its public half as pods have it."""
    private = Ed25519PrivateKey.generate()
    (folder / "key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / f"{key_id(private.public_key())}.pem").write_bytes(public)


@asynccontextmanager
async def gateway(
    folder: Path,
    scenes: Mapping[str, Sequence[Scene]],
    reception: Reception | None = None,
    crowd: Crowd | None = None,
    policy: Policy | None = None,
    grpc_port: int = 0,
) -> AsyncIterator[tuple[aiohttp.ClientSession, Hosts]]:
    """A client of it, and whom it knows. `scenes`: the hosts of each agent, by its name in namespace default."""
    new_key(folder)
    fleet = Hosts()
    async with AsyncExitStack() as stack:
        for name, hosts in scenes.items():
            key = AgentKey("default", name)
            urls = [
                await stack.enter_async_context(serving(each, Verifier(folder, str(key).__eq__), policy))
                for each in hosts
            ]
            fleet.at[key] = [urlsplit(url).netloc for url in urls]
        http = await stack.enter_async_context(http_client.session())
        upstream = Upstream(fleet, http, Signer((folder / "key").read_bytes))
        crowd = crowd or Crowd()
        metrics = GatewayMetrics(fleet, upstream, crowd)
        doors = app.build(fleet, upstream, reception or Reception(), crowd, metrics.get, home="default")
        url = await stack.enter_async_context(answering(doors))
        await speak_grpc(stack, doors.grpc, "127.0.0.1", grpc_port, 0.1)
        yield await stack.enter_async_context(aiohttp.ClientSession(url)), fleet
