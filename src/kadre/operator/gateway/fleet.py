"""The agents of a cluster and the pods that answer for them, followed: the gateway asks with every request."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from kadre.base.clock import Clock, SystemClock
from kadre.base.durations import parse_duration
from kadre.kube import kinds
from kadre.kube.client import ALL, Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Object, shared
from kadre.operator.children.common import GROUP, HTTP_PORT, MANAGED_BY, MANAGER
from kadre.operator.children.pool import called
from kadre.operator.cluster import our_kinds
from kadre.operator.reconcilers.common import TAKEN
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP, AgentKey

SERVICE_NAME = "kubernetes.io/service-name"
"""Label of an EndpointSlice: the Service that it is of."""
LEFT_SECONDS = 3600.0
"""For which a pod that an agent has moved away from may ask others as it: runs under way end there."""
MOST_LEFT = 10_000
_AGENTS = {kind.group: kind for kind in our_kinds() if kind.kind == "Agent"}
_READY = "Ready"
_UNSHOWN = frozenset({"delegates", "seconds"})
"""Of what is kept of an agent: what no list shows."""
_COMING = frozenset({_READY, "ScaledToZero", "Starting", "Pending", "RollingOut", "Scaling", "Unknown"})
"""What is said of an agent that has no pod and is about to have one; all else needs somebody. One that is ready was
scaled to none, or its pod's address is on its way."""


class Told(NamedTuple):
    """What is kept of an agent: for lists, and whom it may ask."""

    display_name: str
    description: str
    model: str
    status: str
    delegates: tuple[AgentKey, ...] = ()
    seconds: float | None = None
    """For which a request may take."""
    pool: str = ""
    """Whose pods answer for it; empty: its own do."""
    durable: bool = False
    """Whether its runs outlive the pod that does them."""


class Slice(NamedTuple):
    """What is kept of an EndpointSlice: whose Service it is of, the addresses that take requests, and whose pods."""

    agent: AgentKey
    addresses: tuple[str, ...]
    pods: frozenset[str] = frozenset()
    """Those that take none too: one that begins or ends may have runs under way."""


class ClusterFleet:
    """See `kadre.server.gateway.fleet.Fleet`. `namespaces`: those that are looked at; an empty one stands for all."""

    def __init__(self, client: Client, namespaces: Sequence[str] = ALL, clock: Clock | None = None) -> None:
        scopes = [Scope(namespace) for namespace in namespaces]
        ours = [
            Scope(namespace, selector=f"{MANAGED_BY}={MANAGER},app.kubernetes.io/component in (agent,pool)")
            for namespace in namespaces
        ]
        self._agents = {
            group: Informer(client, kind, _told, partial(self._agent_changed, group), scopes)
            for group, kind in _AGENTS.items()
        }
        self._slices = Informer(client, kinds.ENDPOINT_SLICE, _slice, self._slice_changed, ours)
        self._named: dict[str, tuple[AgentKey, ...]] = {}
        self._parts: dict[AgentKey, dict[Key, tuple[str, ...]]] = {}
        """Addresses of an agent, by the slices that hold them."""
        self._hosts: dict[AgentKey, tuple[str, ...]] = {}
        self._pods: dict[Key, dict[Key, AgentKey]] = {}
        """The agent that each pod is of, by the slices that say so."""
        self._clock = clock or SystemClock()
        self._left: dict[tuple[Key, AgentKey], float] = {}
        """When an agent moved away from a pod, the latest last."""
        self._awaited: dict[AgentKey, asyncio.Event] = {}
        """Set when something may have come for those that wait for a host."""

    def informers(self) -> list[Informer[Any]]:
        """All of them, to be run."""
        return [*self._agents.values(), self._slices]

    @property
    def synced(self) -> bool:
        """Whether everything there was when it began to be followed is known."""
        return all(informer.synced.is_set() for informer in self.informers())

    def all(self) -> Iterable[AgentKey]:
        """See Directory."""
        return [AgentKey(*key, group) for group, informer in self._agents.items() for key in informer.kept]

    def named(self, name: str) -> Sequence[AgentKey]:
        """See Directory. Where a namespace has one of each group, the one whose name is taken answers for nothing."""
        found = self._named.get(name, ())
        return found if len(found) < 2 else [each for each in found if not self._gives_way(each, found)]

    def _gives_way(self, agent: AgentKey, named: Sequence[AgentKey]) -> bool:
        """Whether its name is another's in its namespace. One that goes on to answer keeps it, whatever is told."""
        others = [each for each in named if each.namespace == agent.namespace and each != agent]
        mine, *theirs = (told.status if (told := self._kept(each)) else "" for each in (agent, *others))
        return mine == TAKEN and any(status != TAKEN for status in theirs) and not self.hosts(agent)

    def hosts(self, key: AgentKey) -> Sequence[str]:
        """See Fleet."""
        return self._hosts.get(self._service(key), ())

    def _service(self, agent: AgentKey) -> AgentKey:
        """By whose Service the pods are found that answer for an agent: its own, or its pool's."""
        return _service(agent, self._kept(agent))

    def comes(self, key: AgentKey) -> bool:
        """See Fleet."""
        told = self._kept(key)
        return told is not None and told.status in _COMING

    async def arrives(self, key: AgentKey) -> None:
        """See Fleet."""
        await self._awaited.setdefault(key, asyncio.Event()).wait()

    def agent_of(self, namespace: str, pod: str, asking: str = "") -> AgentKey | None:
        """See Pods. Of an agent that has moved, what goes on where it was may ask too."""
        behind = set(self._pods.get(Key(namespace, pod), {}).values())
        if not asking:
            return next((agent for agent in behind if self._kept(agent) is not None), None)
        home, _, name = asking.partition("/")
        name, _, group = name.partition(".")
        agent = AgentKey(namespace, name, group or NATIVE_GROUP)
        if home != namespace or self._kept(agent) is None:
            return None
        left = self._left.get((Key(namespace, pod), agent), -LEFT_SECONDS)
        was = self._clock.monotonic() - left < LEFT_SECONDS
        return agent if was or behind & {agent, self._service(agent)} else None

    def others(self, key: AgentKey) -> frozenset[AgentKey]:
        """See Pods."""
        told = self._kept(key)
        return frozenset(told.delegates if told is not None else ())

    def seconds(self, key: AgentKey) -> float | None:
        """See Fleet."""
        told = self._kept(key)
        return told.seconds if told is not None else None

    def durable(self, key: AgentKey) -> bool:
        """See Fleet."""
        told = self._kept(key)
        return told is not None and told.durable

    def _kept(self, key: AgentKey) -> Told | None:
        informer = self._agents.get(key.group)
        return informer.kept.get(Key(key.namespace, key.name)) if informer is not None else None

    def _arrived(self, key: AgentKey) -> None:
        awaited = self._awaited.pop(key, None)
        if awaited is not None:
            awaited.set()

    def shown(self, key: AgentKey) -> Mapping[str, Any]:
        """See Fleet."""
        told = self._kept(key) or Told("", "", "", "Unknown")
        hosts = len(self.hosts(key))
        shown = {field: value for field, value in told._asdict().items() if field not in _UNSHOWN}
        if not told.pool:
            del shown["pool"]
        return {"name": key.name, "namespace": key.namespace, "group": key.group, **shown, "hosts": hosts}

    def _agent_changed(self, group: str, key: Key, before: Told | None, after: Told | None) -> None:
        agent = AgentKey(*key, group)
        self._arrived(agent)
        if before is not None and after is not None:
            if before.pool != after.pool:
                self._moved(agent, before)
            return
        others = tuple(each for each in self._named.get(key.name, ()) if each != agent)
        self._set(self._named, key.name, others if after is None else (*others, agent))

    def _moved(self, agent: AgentKey, before: Told) -> None:
        """Remember the pods in which runs of the agent may still be under way."""
        service, now = _service(agent, before), self._clock.monotonic()
        for pod, slices in self._pods.items():
            if service in slices.values():
                self._left[pod, agent] = now
        while len(self._left) > MOST_LEFT:
            del self._left[next(iter(self._left))]

    def _slice_changed(self, key: Key, before: Slice | None, after: Slice | None) -> None:
        if before is not None:
            self._put(before.agent, key, ())
            for pod in before.pods:
                said = self._pods[Key(key.namespace, pod)]
                del said[key]
                if not said:
                    del self._pods[Key(key.namespace, pod)]
        if after is not None:
            self._put(after.agent, key, after.addresses)
            for pod in after.pods:
                self._pods.setdefault(Key(key.namespace, pod), {})[key] = after.agent

    def _put(self, agent: AgentKey, key: Key, addresses: tuple[str, ...]) -> None:
        parts = self._parts.setdefault(agent, {})
        self._set(parts, key, addresses)
        hosts = tuple(dict.fromkeys(address for part in parts.values() for address in part))
        self._set(self._hosts, agent, hosts)
        for waits in [each for each in self._awaited if self._service(each) == agent]:
            self._arrived(waits)
        if not parts:
            del self._parts[agent]

    @staticmethod
    def _set(of: dict[Any, Any], key: Any, value: tuple[Any, ...]) -> None:
        if value:
            of[key] = value
        else:
            of.pop(key, None)


def _service(agent: AgentKey, told: Told | None) -> AgentKey:
    return agent if told is None or not told.pool else AgentKey(agent.namespace, shared(called(told.pool)))


def _told(obj: Object, _: Told | None) -> Told:
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    conditions = {each.get("type"): each for each in status.get("conditions") or ()}
    ready = conditions.get(_READY) or {}
    word = _READY if ready.get("status") == "True" else shared(str(ready.get("reason") or "Unknown"))
    said = spec.get("config") or spec  # KAOS has it one level below
    name, about = str(spec.get("displayName") or ""), str(said.get("description") or "")
    delegates = tuple(named for each in status.get("delegates") or () if (named := _named(each)) is not None)
    model, pool = shared(str(status.get("model") or "")), shared(str(status.get("pool") or ""))
    durable = (conditions.get("Durable") or {}).get("status") == "True"
    return Told(name, about, model, word, delegates, _seconds(spec), pool, durable)


def _seconds(spec: Object) -> float | None:
    """How long a request may take, as a KAOS agent says; what cannot be read is told in its status."""
    try:
        return parse_duration((spec.get("gatewayRoute") or {}).get("timeout", 0)) or None
    except (ValueError, AttributeError):
        return None


def _named(said: Object) -> AgentKey | None:
    """An agent as a status names it."""
    try:
        return msgspec.convert(said, AgentKey)
    except msgspec.ValidationError:
        return None


def _slice(obj: Object, _: Slice | None) -> Slice:
    metadata = obj["metadata"]
    labels = metadata.get("labels") or {}
    service, group = labels.get(SERVICE_NAME, ""), KAOS_GROUP if GROUP in labels else NATIVE_GROUP
    number = next((port.get("port") for port in obj.get("ports") or () if port.get("name") == "http"), HTTP_PORT)
    found = [
        address_of(address, number)
        for endpoint in obj.get("endpoints") or ()
        if (endpoint.get("conditions") or {}).get("ready") is not False
        for address in (endpoint.get("addresses") or ())[:1]
    ]
    behind = [(endpoint.get("targetRef") or {}) for endpoint in obj.get("endpoints") or ()]
    pods = frozenset(str(each.get("name")) for each in behind if each.get("kind") == "Pod")
    return Slice(AgentKey(shared(metadata["namespace"]), shared(service), group), tuple(found), pods)


def address_of(host: str, port: int) -> str:
    """As it is in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
