"""The controller whole: what is watched, who is told of what, and the loop that acts on it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from kadre.base.clock import Clock, SystemClock
from kadre.base.tasks import Tasks, all_of
from kadre.kube import kinds
from kadre.kube.apply import Applier, Place
from kadre.kube.client import ALL, Client
from kadre.kube.controller import Controller
from kadre.kube.errors import ApiError
from kadre.kube.informer import Informer
from kadre.kube.kinds import Key, Kind
from kadre.kube.outcome import Outcome
from kadre.operator.children.common import Settings
from kadre.operator.children.pod import GATEWAY_KEYS
from kadre.operator.cluster import Cluster, Declared, Ref
from kadre.operator.owned import Owned
from kadre.operator.reconcilers import code_runner, pool
from kadre.operator.reconcilers.agent import Agents
from kadre.operator.reconcilers.code_runner import CodeRunners
from kadre.operator.reconcilers.other import Others
from kadre.operator.reconcilers.pool import Pools
from kadre.operator.reconcilers.servers import SERVERS, Servers
from kadre.operator.reporter import Reporter
from kadre.operator.rights import Rights
from kadre.operator.rollouts import Rollouts
from kadre.operator.sharing import Sharing
from kadre.operator.upgrades import Upgrades
from kadre.plan.types import KAOS_GROUP, NATIVE_GROUP

if TYPE_CHECKING:
    from kadre.operator.gateway.publishing import Publisher

log = logging.getLogger(__name__)

_AGENTS = frozenset({(NATIVE_GROUP, "Agent"), (KAOS_GROUP, "Agent")})


class Operator:
    """One controller of a cluster, or of these namespaces; an empty one stands for all."""

    def __init__(
        self, client: Client, settings: Settings, clock: Clock | None = None, namespaces: Sequence[str] = ALL
    ) -> None:
        clock = clock or SystemClock()
        self._client = client
        self._tasks = Tasks("operator")
        self.acting = asyncio.Event()
        """Everything that was there has been queued, and is acted on."""
        self._owners: dict[str, Ref] = {}
        """Our objects by uid: children name their owner by it."""
        self.controller: Controller[Ref] = Controller("reconcile", self._reconcile)
        self.rights = Rights(client, self._rights_changed, namespaces, clock)
        self.cluster = Cluster(client, self._changed, settings, namespaces)
        self.owned = Owned(client, clock, self.rights, self._child_changed, self._child_gone, self._children_listed)
        self.owned.pool_changed = self._pool_changed
        self.owned.runner_changed = self._runner_changed
        self.applier = Applier(client, self.owned.live)
        self.reporter = Reporter(client, clock, self.rights)
        upgrades = Upgrades(self.owned, Rollouts(self.owned), clock, self._look_at)
        self._pools = Pools(client, settings, self.owned, self.applier, self.rights, self._owners, self._report)
        self._runners = CodeRunners(client, settings, self.owned, self.applier, self.rights, self._owners, self._report)
        self._agents = Agents(self.cluster, self._pools, self._runners, self.reporter, upgrades, clock)
        self._servers = Servers(self.cluster, self.owned, self.applier, self.reporter, upgrades, clock)
        self._others = Others(self.cluster, self.reporter, clock)
        self._sharing = Sharing(client, self.reporter, settings)
        self.publisher: Publisher | None = None
        """Keeps the gateway's keys, where there is a gateway."""
        if settings.gateway_secret:
            from kadre.operator.gateway.publishing import Publisher  # with the library for keys, which takes 7 MiB

            secret = Key(settings.home, settings.gateway_secret)
            there = partial(self.owned.live, kinds.CONFIG_MAP)
            self.publisher = Publisher(client, secret, self._populated, there, clock)
            if settings.gateway_api is not None and settings.gateway_service:
                from kadre.operator.gateway.granting import Granting

                self.publisher.granting = Granting(client, Key(settings.home, settings.gateway_service))

    async def run(self) -> None:
        """Follow the cluster and act on it until cancelled."""
        await all_of([self.follow(), self.act()])

    async def follow(self) -> None:
        """Know the cluster until cancelled: on every replica, for the webhook of each answers from it."""
        try:
            following = [(f"follow-{informer.kind.plural}", informer.run()) for informer in self._informers()]
            following.append(("rights", self.rights.run()))
            await asyncio.gather(*[self._tasks.spawn(name, work) for name, work in following])
        finally:
            await self._tasks.aclose()

    async def act(self) -> None:
        """Act on what is known until cancelled: on the replica that leads."""
        # Nothing is decided before everything is known: what is not seen yet would be made anew.
        await asyncio.gather(self.rights.known.wait(), *[each.synced.wait() for each in self._informers()])
        # What has changed while another replica led was its business; from here on everything is ours.
        self.acting.set()
        self._look_at_everything()
        if self.publisher is None:
            await self._withdraw()
        try:
            await all_of([self.controller.run(), *([self.publisher.run()] if self.publisher is not None else [])])
        finally:
            self.acting.clear()

    async def _withdraw(self) -> None:
        """Have pods believe nobody: there was a gateway before, and there is none now."""
        for key, seen in list(self.owned.live(kinds.CONFIG_MAP).items()):
            if key.name == GATEWAY_KEYS and not seen.owner:
                try:
                    await self._client.delete(kinds.CONFIG_MAP, *key, uid=seen.uid)
                except ApiError as error:
                    log.warning("the ConfigMap %s of a gateway that is gone stays: %s", key, error)

    def _populated(self) -> set[str]:
        """Namespaces that have agents."""
        agents = [informer for kind, informer in self.cluster.declared.items() if (kind.group, kind.kind) in _AGENTS]
        return {key.namespace for informer in agents for key in informer.kept}

    def _look_at_everything(self) -> None:
        for kind, informer in self.cluster.declared.items():
            for key in informer.kept:
                self._look_at(Ref(kind.group, kind.kind, *key))
        for key in self.owned.pools():
            self._pool_changed(key)
        for namespace in self._runners.namespaces():
            self._runner_changed(namespace)
        for key in self.cluster.secrets.kept:
            for copy in self._sharing.copies(Ref(kinds.SECRET.group, kinds.SECRET.kind, *key)):
                self._report(copy)

    def _rights_changed(self) -> None:
        if self.acting.is_set():
            self._look_at_everything()

    def _informers(self) -> list[Informer[Any]]:
        return [*self.cluster.informers(), *self.owned.informers()]

    async def _reconcile(self, ref: Ref) -> Outcome:
        if (ref.group, ref.kind) in _AGENTS:
            return await self._agents.reconcile(ref)
        if (ref.group, ref.kind) in SERVERS:
            return await self._servers.reconcile(ref)
        if ref.kind == kinds.SECRET.kind:
            return await self._sharing.reconcile(ref)
        if ref.kind == pool.KIND and not ref.group:
            return await self._pools.reconcile(ref)
        if ref.kind == code_runner.KIND and not ref.group:
            return await self._runners.reconcile(ref)
        return await self._others.reconcile(ref)

    def _changed(self, ref: Ref, before: Declared | str | None, after: Declared | str | None) -> None:
        """Something that plans are made of has changed."""
        if isinstance(before, Declared) and (not isinstance(after, Declared) or after.uid != before.uid):
            self._owners.pop(before.uid, None)
            for name in self.owned.pools_of(before.uid):
                self._pool_changed(Key(ref.namespace, name))
            self._pools.forget(before.uid)
            self._runners.forget(before.uid, ref.namespace)
        if isinstance(after, Declared):
            self._owners[after.uid] = ref
            if isinstance(before, Declared) and after.says_as(before):
                self._reported(ref)
                return
        if isinstance(before or after, Declared):
            self._look_at(ref)
            if self.publisher is not None and (before is None or after is None):
                self.publisher.wake()
        elif self.publisher is not None and self.publisher.keeps(ref.kind, Key(ref.namespace, ref.name)):
            self.publisher.wake()
        for copy in self._sharing.copies(ref):
            self._report(copy)
        for known in (self._agents.dependents, self._servers.dependents, self._others.dependents):
            for dependent in known.of(ref):
                self._look_at(dependent)

    def _reported(self, ref: Ref) -> None:
        """Somebody wrote its status: no plan is another one for it, and agents say whether their servers answer."""
        if self.acting.is_set():
            self.controller.queue.hint(ref)
        if (ref.group, ref.kind) in SERVERS:
            for dependent in self._agents.dependents.of(ref):
                self._report(dependent)

    def _look_at(self, ref: Ref) -> None:
        if self.acting.is_set() and (ref.group, ref.kind) in _AGENTS:
            self._agents.stale(ref)
        self._report(ref)

    def _report(self, ref: Ref) -> None:
        if self.acting.is_set():
            self.controller.queue.add(ref)

    def _child_gone(self, place: Place, uid: str) -> None:
        self.applier.forget([place])
        self._agents.rollouts.gone(place, uid)

    def _children_listed(self, kind: Kind) -> None:
        for owner in self.applier.lost(kind):
            self._child_changed(owner)

    def _pool_changed(self, key: Key) -> None:
        self._report(pool.ref_of(key))

    def _runner_changed(self, namespace: str) -> None:
        self._report(code_runner.ref_of(namespace))

    def _child_changed(self, owner: str) -> None:
        ref = self._owners.get(owner) or self._pools.of_root(owner) or self._runners.of_root(owner)
        if ref is not None:
            self._report(ref)
        elif not owner and self.publisher is not None:
            self.publisher.wake()  # what it publishes is nobody's child
