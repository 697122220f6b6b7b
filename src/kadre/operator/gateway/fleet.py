"""The agents of a cluster and the pods that answer for them, followed: the gateway asks with every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kadre.kube import kinds
from kadre.kube.client import ALL, Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Object, shared
from kadre.operator.children.common import HTTP_PORT, MANAGED_BY, MANAGER
from kadre.operator.cluster import our_kinds
from kadre.plan.types import NATIVE_GROUP, AgentKey

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service that it is of."""
_AGENTS = {kind.group: kind for kind in our_kinds() if kind.kind == "Agent"}
_READY = "Ready"
_COMING = frozenset({"ScaledToZero", "Starting", "Pending", "RollingOut", "Scaling", "Unknown"})
"""What is said of an agent that has no pod and is about to have one; all else needs somebody."""


class Told(NamedTuple):
    """What is kept of an agent, for lists."""

    display_name: str
    description: str
    model: str
    status: str


class Slice(NamedTuple):
    """What is kept of an EndpointSlice: its Service, and the addresses that take requests."""

    service: Key
    addresses: tuple[str, ...]


class ClusterFleet:
    """See `kadre.server.gateway.fleet.Fleet`. `namespaces`: those that are looked at; an empty one stands for all."""

    def __init__(self, client: Client, namespaces: Sequence[str] = ALL) -> None:
        scopes = [Scope(namespace) for namespace in namespaces]
        ours = [Scope(namespace, selector=f"{MANAGED_BY}={MANAGER}") for namespace in namespaces]
        self._agents = Informer(client, _AGENTS[NATIVE_GROUP], _told, self._agent_changed, scopes)
        self._slices = Informer(client, kinds.ENDPOINT_SLICE, _slice, self._slice_changed, ours)
        self._named: dict[str, tuple[AgentKey, ...]] = {}
        self._parts: dict[Key, dict[Key, tuple[str, ...]]] = {}
        """Addresses of a Service, by the slices that hold them."""
        self._hosts: dict[Key, tuple[str, ...]] = {}
        self._awaited: dict[Key, asyncio.Event] = {}
        """Set when something may have come for those that wait for a host."""

    def informers(self) -> list[Informer[Any]]:
        """All of them, to be run."""
        return [self._agents, self._slices]

    @property
    def synced(self) -> bool:
        """Whether everything there was when it began to be followed is known."""
        return all(informer.synced.is_set() for informer in self.informers())

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return [AgentKey(*key) for key in self._agents.kept]

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory."""
        return self._named.get(name, ())

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """See Fleet."""
        return self._hosts.get(Key(key.namespace, key.name), ())

    def comes(self, key: AgentKey) -> bool:
        """See Fleet."""
        told = self._agents.kept.get(Key(key.namespace, key.name))
        return told is not None and told.status in _COMING

    async def arrives(self, key: AgentKey) -> None:
        """See Fleet."""
        await self._awaited.setdefault(Key(key.namespace, key.name), asyncio.Event()).wait()

    def _arrived(self, key: Key) -> None:
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            awaited.set()

    def shown(self, key: AgentKey) -> Mapping[str, Any]:
        """See Fleet."""
        told = self._agents.kept.get(Key(key.namespace, key.name)) or Told("", "", "", "Unknown")
        hosts = len(self.hosts(key))
        return {"name": key.name, "namespace": key.namespace, "group": key.group, **told._asdict(), "hosts": hosts}

    def _agent_changed(self, key: Key, before: Told | None, after: Told | None) -> None:
        self._arrived(key)
        if before is not None and after is not None:
            return
        agent = AgentKey(*key)
        others = tuple(each for each in self._named.get(key.name, ()) if each != agent)
        self._set(self._named, key.name, others if after is None else (*others, agent))

    def _slice_changed(self, key: Key, before: Slice | None, after: Slice | None) -> None:
        if before is not None:
            self._put(before.service, key, ())
        if after is not None:
            self._put(after.service, key, after.addresses)

    def _put(self, service: Key, key: Key, addresses: tuple[str, ...]) -> None:
        parts = self._parts.setdefault(service, {})
        self._set(parts, key, addresses)
        hosts = tuple(dict.fromkeys(address for part in parts.values() for address in part))
        self._set(self._hosts, service, hosts)
        self._arrived(service)
        if not parts:
            del self._parts[service]

    @staticmethod
    def _set(of: dict[Any, Any], key: Any, value: tuple[Any, ...]) -> None:
        if value:
            of[key] = value
        else:
            of.pop(key, None)


def _told(obj: Object, _: Told | None) -> Told:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    ready = conditions.get(_READY) or {}
    word = _READY if ready.get("status") == "True" else shared(str(ready.get("reason") or "Unknown"))
    name, about = str(spec.get("displayName") or ""), str(spec.get("description") or "")
    return Told(name, about, shared(str(status.get("model") or "")), word)


def _slice(obj: Object, _: Slice | None) -> Slice:
    metadata = obj["metadata"]
    service = (metadata.get("labels") or {}).get(SERVICE_NAME, "")
    number = next((port.get("port") for port in obj.get("ports") or () if port.get("name") == "http"), HTTP_PORT)
    found = [
        _address(address, number)
        for endpoint in obj.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in (endpoint.get("addresses") or ())[:1]
    ]
    return Slice(Key(shared(metadata["namespace"]), shared(service)), tuple(found))


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
