"""The replicas of the gateway, as the Service tells at which KEDA asks them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kadre.kube import kinds
from kadre.kube.client import Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Object
from kadre.operator.gateway.fleet import SERVICE_NAME, address_of


class ClusterPeers:
    """See `kadre.server.gateway.scaler.Peers`. `service`: of their gRPC ports, this replica's among them."""

    def __init__(self, client: Client, service: Key) -> None:
        scope = Scope(service.namespace, selector=f"{SERVICE_NAME}={service.name}")
        self.informer: Informer[tuple[str, ...]] = Informer(
            client, kinds.ENDPOINT_SLICE, _addresses, self._changed, (scope,)
        )
        self._news = asyncio.Event()

    def addresses(self) -> Sequence[str]:
        """See Peers."""
        return sorted({address for part in self.informer.kept.values() for address in part})

    async def changed(self) -> None:
        """See Peers."""
        await self._news.wait()

    def _changed(self, key: Key, before: tuple[str, ...] | None, after: tuple[str, ...] | None) -> None:
        del key, before, after
        self._news.set()
        self._news = asyncio.Event()


def _addresses(obj: Object, _: tuple[str, ...] | None) -> tuple[str, ...]:
    """Those that answer, one that is ending among them: messages may wait there still."""
    number = next((int(port["port"]) for port in obj.get("ports") or () if port.get("port")), 0)
    return tuple(
        address_of(address, number)
        for endpoint in obj.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("serving") is not False
        for address in (endpoint.get("addresses") or ())[:1]
    )
