"""The children that are in the cluster, each kept as a few bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from kadre.base.clock import Clock
from kadre.kube import kinds
from kadre.kube.apply import Place, Seen, owner_of, seen
from kadre.kube.client import Client, Scope
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Kind, Object, shared
from kadre.operator.children import code_runner, plan_map, pool, pools
from kadre.operator.children.common import MANAGED_BY, MANAGER
from kadre.operator.children.deployment import plan_name
from kadre.operator.children.plan_map import model_of
from kadre.operator.children.pod import template_hash
from kadre.operator.children.pool import root_of
from kadre.operator.children.pools import Served
from kadre.operator.children.secrets import references
from kadre.operator.pods import Pods
from kadre.operator.rights import Rights
from kadre.operator.status import Rollout, revision, rollout

KINDS = (
    kinds.SERVICE_ACCOUNT,
    kinds.CONFIG_MAP,
    kinds.SERVICE,
    kinds.DEPLOYMENT,
    kinds.REPLICA_SET,
    kinds.AUTOSCALER,
    kinds.SCALED_OBJECT,
    kinds.DISRUPTION_BUDGET,
    kinds.NETWORK_POLICY,
    kinds.HTTP_ROUTE,
    kinds.ROLE,
    kinds.ROLE_BINDING,
)
HISTORY = "deployment.kubernetes.io/revision-history"
"""Annotation of a ReplicaSet: the numbers it had before."""
_OURS = Scope(selector=f"{MANAGED_BY}={MANAGER}")


class Revision(NamedTuple):
    """What is kept of a ReplicaSet: one revision of a Deployment."""

    number: int
    template: str
    """The hash of its pod template."""
    plan: str
    """The name of its plan's ConfigMap."""
    reused: bool = False
    """Whether it was another number before: somebody has gone back to it."""


class Kept(NamedTuple):
    """What is kept of a ConfigMap: of a plan its model, and more where a pool is to serve it."""

    model: str = ""
    pooled: Pooled | None = None
    served: Mapping[str, Served] | None = None
    """What the pods of a pool tell, where it is that."""
    root: bool = False
    """Whether a pool's objects belong to it, or a code runner's."""


class Pooled(NamedTuple):
    """What is kept of a plan that pools are to serve."""

    pools: tuple[str, ...]
    agent: str
    digest: str
    """The SHA-256 of the plan."""
    secrets: tuple[str, ...]
    """Names of the Secrets that it uses."""
    memory: str
    """Of which type."""

    @property
    def plan(self) -> str:
        """Its hash."""
        return plan_map.hash_of(self.digest)


class Owned:
    """Follows what the controller has made, in the namespaces that it has rights in.

    `changed` is told the uid of the owner, `gone` what has gone with its uid, `listed` a kind of which everything that
    there is has just been listed.
    """

    def __init__(
        self,
        client: Client,
        clock: Clock,
        rights: Rights,
        changed: Callable[[str], None],
        gone: Callable[[Place, str], None],
        listed: Callable[[Kind], None],
    ) -> None:
        self._changed = changed
        self.pool_changed: Callable[[Key], None] = lambda _: None
        """Told a pool of which a plan is another one, or its root, or what its pods tell."""
        self.runner_changed: Callable[[str], None] = lambda _: None
        """Told a namespace of which the code runner's root is another one."""
        self._gone = gone
        self._client = client
        self._rights = rights
        self._pods = Pods(client, clock, rights)
        self._of: dict[Kind, dict[str, tuple[Key, ...]]] = {kind: {} for kind in KINDS}
        """Children of a kind by the uid of their owner. Most have one: a set of it would take four times the memory."""
        keepers = {
            kinds.DEPLOYMENT: _deployment,
            kinds.REPLICA_SET: _replica_set,
            kinds.CONFIG_MAP: _config_map,
        }
        scopes = [replace(_OURS, namespace=each) for each in rights.namespaces]
        self._informers = {
            kind: Informer(
                client, kind, keepers.get(kind, _any), self._teller(kind), scopes, listed=partial(listed, kind)
            )
            for kind in KINDS
        }

    def informers(self) -> list[Informer[Any]]:
        """All of them, to be run."""
        return list(self._informers.values())

    def live(self, kind: Kind) -> Mapping[Key, Seen]:
        """What there is of a kind."""
        return self._informers[kind].kept

    def names(self, kind: Kind, owner: str) -> list[str]:
        """Names of the owner's children of a kind."""
        return [key.name for key in self._of[kind].get(owner, ())]

    def knows(self, kind: Kind, namespace: str) -> bool:
        """Whether all there are of a kind in that namespace have been listed, and are told of since."""
        return self._informers[kind].knows(namespace)

    def rollout(self, key: Key) -> Rollout | None:
        """How a Deployment is getting on."""
        found = self.live(kinds.DEPLOYMENT).get(key)
        return found.more if found is not None else None

    async def explained(self, key: Key, rollout: Rollout | None) -> tuple[Rollout | None, float]:
        """The same with what is in the way of its pods, and the seconds after which to look again; 0: no need to.

        Raises ApiError.
        """
        return await self._pods.explained(key, rollout)

    async def last_words(self, key: Key, container: str) -> str:
        """What a container that runs first has said at its end in a Deployment's latest pods. Raises ApiError."""
        if not self._rights.may(kinds.POD, "list", namespace=key.namespace):
            return ""
        return await self._pods.last_words(key, self.live(kinds.DEPLOYMENT)[key].more.template, container)

    async def foreign_scaler(self, key: Key, owner: str) -> str:
        """The name of an autoscaler that scales a Deployment and is not its owner's; empty where there is none.

        They are looked at, not followed: people's own are few, and those of a whole cluster many. Raises ApiError.
        """
        if not self._rights.may(kinds.AUTOSCALER, "list", namespace=key.namespace):
            return ""
        for each in (await self._client.list(kinds.AUTOSCALER, Scope(key.namespace))).items:
            target = each["spec"]["scaleTargetRef"]
            if (target["kind"], target["name"]) == (kinds.DEPLOYMENT.kind, key.name) and owner_of(each) != owner:
                name: str = each["metadata"]["name"]
                return name
        return ""

    def revisions(self, key: Key) -> Iterator[Revision]:
        """The revisions that a Deployment can go back to, and the one it is at."""
        deployment = self.live(kinds.DEPLOYMENT).get(key)
        live = self.live(kinds.REPLICA_SET)
        for each in self._of[kinds.REPLICA_SET].get(deployment.uid, ()) if deployment is not None else ():
            if each in live:
                yield live[each].more

    def model(self, key: Key) -> str:
        """The model of the plan that a Deployment is at, as people are told of it; empty where it is not known."""
        live = self.rollout(key)
        plans = [each.plan for each in self.revisions(key) if live is not None and each.template == live.template]
        maps = self.live(kinds.CONFIG_MAP)
        found = [maps[Key(key.namespace, plan)].more for plan in plans if Key(key.namespace, plan) in maps]
        return found[0].model if found else ""

    def pools(self) -> set[Key]:
        """The pools that there are, and those that there are plans for."""
        found = set()
        for key, each in self.live(kinds.CONFIG_MAP).items():
            found |= {Key(key.namespace, name) for name in _pools(each)}
            if each.more.root and (name := root_of(key.name)):
                found.add(Key(key.namespace, name))
        return found

    def plans(self, namespace: str, pool: str) -> Iterator[tuple[Key, str, Pooled]]:
        """The plans that have a pool's label, whoever made them, each with the uid of its agent."""
        for key, each in self.live(kinds.CONFIG_MAP).items():
            pooled = each.more.pooled
            if pooled is not None and key.namespace == namespace and pool in pooled.pools:
                yield key, each.owner, pooled

    def pools_of(self, owner: str) -> set[str]:
        """The pools that are to serve the plans of an agent."""
        live = self.live(kinds.CONFIG_MAP)
        kept = [live[key].more.pooled for key in self._of[kinds.CONFIG_MAP].get(owner, ()) if key in live]
        return {pool for pooled in kept if pooled is not None for pool in pooled.pools}

    def _teller(self, kind: Kind) -> Callable[[Key, Seen | None, Seen | None], None]:
        def tell(key: Key, before: Seen | None, after: Seen | None) -> None:
            if before is None or after is None or before.owner != after.owner:
                self._moved(kind, key, before, after)
            if before is not None and (after is None or after.uid != before.uid):
                self._gone(Place(kind, key), before.uid)
                if kind is kinds.DEPLOYMENT:
                    self._pods.forget(key)
            for owner in {known.owner for known in (before, after) if known is not None}:
                self._changed(owner)
            if kind is kinds.CONFIG_MAP:
                for name in _pools(before) | _pools(after) | ({root_of(key.name)} - {""}):
                    self.pool_changed(Key(key.namespace, name))
                if key.name == code_runner.NAME:
                    self.runner_changed(key.namespace)

        return tell

    def _moved(self, kind: Kind, key: Key, before: Seen | None, after: Seen | None) -> None:
        """An object has another owner now. One without an owner is nobody's child."""
        of = self._of[kind]
        if before is not None and (others := tuple(other for other in of.pop(before.owner, ()) if other != key)):
            of[before.owner] = others
        if after is not None and after.owner:
            of[after.owner] = (*of.get(after.owner, ()), key)


def _any(obj: Object, _: Seen | None) -> Seen:
    return seen(obj)


def _deployment(obj: Object, _: Seen | None) -> Seen:
    return seen(obj)._replace(more=rollout(obj))


def _config_map(obj: Object, _: Seen | None) -> Seen:
    found = pools.pools_of(obj)
    if not found:
        told = root_of(obj["metadata"]["name"]) and pools.served(obj.get("data") or {})
        return seen(obj)._replace(more=Kept(model_of(obj), served=told or None, root=_is_root(obj)))
    plan = plan_map.decoded(obj)
    if plan is None:
        return seen(obj)._replace(more=Kept())
    secrets = tuple(shared(name) for name in references(plan))
    pooled = Pooled(found, plan.key.name, plan_map.digest_of(obj), secrets, plan.memory.type)
    return seen(obj)._replace(more=Kept(shared(plan_map.told(plan.model)), pooled))


def _is_root(obj: Object) -> bool:
    return pool.is_root(obj) or code_runner.is_root(obj)


def _pools(seen: Seen | None) -> set[str]:
    pooled = seen.more.pooled if seen is not None else None
    return set(pooled.pools) if pooled is not None else set()


def _replica_set(obj: Object, _: Seen | None) -> Seen:
    template = obj["spec"]["template"]
    reused = HISTORY in (obj["metadata"].get("annotations") or {})
    return seen(obj)._replace(more=Revision(revision(obj), template_hash(template), plan_name(template), reused))
