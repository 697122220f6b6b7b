"""An Agent becomes a ServiceAccount, a plan, a Service, a Deployment, and what scales and guards it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kadre.api.conditions import State
from kadre.api.kinds.agent import AgentSpec
from kadre.api.resource import Resource
from kadre.base.clock import Clock
from kadre.base.problems import Problem, errors
from kadre.kube import kinds
from kadre.kube.apply import NameTaken, Place
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, Object, key_of
from kadre.kube.outcome import DONE, After, Outcome, Stop
from kadre.operator import kaos
from kadre.operator.children import http_route, journal, plan_map, pools, scaling, service
from kadre.operator.children.agent import children
from kadre.operator.children.common import Child, Owner, delegates, runs_code
from kadre.operator.children.environment import environment
from kadre.operator.children.pod import template_hash
from kadre.operator.cluster import Cluster, Declared, Ref
from kadre.operator.dependents import Dependents
from kadre.operator.moves import Move, Moves, served, told
from kadre.operator.reconcilers.code_runner import CodeRunners
from kadre.operator.reconcilers.common import REFUSED_SECONDS, TAKEN, TAKEN_SECONDS, Corrections, name_taken, refused
from kadre.operator.reconcilers.pool import Pools
from kadre.operator.reporter import Reporter
from kadre.operator.rights import READ, within, without_right
from kadre.operator.scalable import GROUPS, by_another, has_keda, scalable
from kadre.operator.status import Facts, Rollout, dependencies, hindered, leaving, messages, of_agent, own
from kadre.operator.upgrades import WAITS, Upgrades
from kadre.plan.types import AgentPlan

log = logging.getLogger(__name__)

OPTIONAL = (kinds.DISRUPTION_BUDGET, kinds.SERVICE_ACCOUNT, kinds.NETWORK_POLICY, kinds.HTTP_ROUTE)
"""Children that an agent may have or not, named as it is: those it no longer has are deleted."""
SCALERS = (kinds.AUTOSCALER, kinds.SCALED_OBJECT)
"""The same, and deleted before anything is applied: two that scale one Deployment would fight, and KEDA refuses to."""
SCALING = frozenset(Ref(kinds.API_SERVICE.group, kinds.API_SERVICE.kind, "", group) for group in GROUPS)
"""What an agent that scales depends on besides."""
HELD = (kinds.DEPLOYMENT, kinds.CONFIG_MAP)
"""Children that are left as they are while something holds the Deployment."""
PERSISTENT = 4
"""Failures in a row after which they are told in the status: a second of them. The most that happen pass."""
UPGRADE_SECONDS = 60.0
"""Between two looks of one that waits for its turn, which it is told of besides."""
FOREIGN_SECONDS = 60.0
"""Between two looks at an autoscaler that is not ours."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What an agent came to when it was planned last: enough to tell whether anything is to be done."""

    facts: Facts
    places: tuple[Place, ...]
    """Its children."""
    again: float = 0.0
    """Seconds after which it is to be tried again, where what is in its way tells nobody when it goes; 0: not."""
    servers: tuple[Object, ...] = ()
    """ModelAPIs and MCPServers that it uses: the kind, the name and the URL of each."""
    since: float = 0.0
    """When that was, of the clock."""
    pool: str | None = ""
    """The pool that is to serve it; empty: pods of its own are; None: that is not known now."""
    plan: str = ""
    """The hash of its plan, where a pool is to serve it."""
    moving: bool = False
    """Whether something of where it was served before is there still."""
    codes: bool | None = None
    """Whether it has code run that its model writes; None where that is not known."""

    def left(self, now: float) -> float:
        """Seconds until it is time to try it again."""
        return max(0.0, self.since + self.again - now)


class Agents:
    """Reconciles agents."""

    def __init__(
        self,
        cluster: Cluster,
        pools: Pools,
        runners: CodeRunners,
        reporter: Reporter,
        upgrades: Upgrades,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._pools = pools
        self._runners = runners
        self._owned = pools.owned
        self._applier = pools.applier
        self._reporter = reporter
        self._rights = pools.rights
        self._settings = cluster.settings
        self._clock = clock
        self.dependents = Dependents()
        self._worked: dict[Ref, Worked] = {}
        self._stale: set[Ref] = set()
        self._corrections = Corrections(reporter, clock)
        self._failures: dict[Ref, int] = {}
        """How often in a row each could not be worked on."""
        self._moves = Moves(self._owned, clock)
        self.upgrades = upgrades
        self.rollouts = upgrades.rollouts

    def stale(self, ref: Ref) -> None:
        """The agent, or something it depends on, has changed: it has to be planned anew."""
        self._stale.add(ref)

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have the cluster be as the agent says, and the agent say how the cluster is. Raises ApiError."""
        try:
            outcome = await self._reconcile(ref)
        except ApiError as error:
            self._failures[ref] = self._failures.get(ref, 0) + 1
            if error.status and self._failures[ref] >= PERSISTENT:
                await self._tell(ref, error)
            raise
        self._failures.pop(ref, None)
        return outcome

    async def _tell(self, ref: Ref, error: ApiError) -> None:
        """Say why the agent gets no further, where that can be said."""
        agent = self._cluster.find(ref)
        if agent is None or agent.deleting:
            return
        answer = f"{error.status} {error.reason}".strip()
        (seen, _), now = self._served(ref, agent), self._clock.now()
        least = self._worked[ref].facts.least if ref in self._worked else 0
        status = hindered(_before(ref, agent), answer, str(error), seen, agent.generation, now, least)
        try:
            await self._report(ref, agent, status)
        except ApiError as another:
            log.info("%s: its status cannot be written: %s", ref, another)

    async def _reconcile(self, ref: Ref) -> Outcome:
        agent = self._cluster.find(ref)
        key = Key(ref.namespace, ref.name)
        if agent is None or agent.deleting:
            if agent is not None:
                live, _ = self._served(ref, agent)
                status = leaving(_before(ref, agent), agent.finalizers, live, agent.generation, self._clock.now())
                await self._report(ref, agent, status)
            self._forget(ref)
            return DONE
        worked = self._worked.get(ref)
        settled = worked is not None and all(self._applier.is_settled(place) for place in worked.places)
        settled = settled and self._pools.is_placed(agent.uid)
        due = worked is not None and worked.again > 0 and worked.left(self._clock.monotonic()) == 0
        # What is left behind goes some time after the status says so: not before it is seen to say so.
        arrived = worked is not None and worked.moving and not worked.again and worked.pool == told(agent)
        if worked is None or ref in self._stale or not settled or due or arrived:
            self._stale.discard(ref)  # before the work: what changes meanwhile makes it stale again
            try:
                worked = self._remembering(ref, agent, await self._work(ref, agent))
                worked = self._worked[ref] = replace(worked, since=self._clock.monotonic())
            except BaseException:
                self._stale.add(ref)
                raise
        own, look = await self._owned.explained(key, self._rollout(key, agent.uid))
        if worked.codes is not None:
            self._runners.place(agent.uid, ref.namespace, needed=worked.codes or self._codes_yet(agent.uid, own))
        seen, pool = self._served(ref, agent, own)
        facts = self._with_servers(ref, worked, self._placed(ref, worked, pool))
        if (runner := self._runners.state(agent.uid, ref.namespace)) is not None:
            facts = replace(facts, dependencies=(*facts.dependencies, runner))
        status = of_agent(_before(ref, agent), facts, seen, agent.generation, self._clock.now())
        await self._report(ref, agent, status)
        self.upgrades.look(key)
        waits = [look] if look else []
        if worked.again:
            waits.append(worked.left(self._clock.monotonic()))
        if waits:
            return After(min(waits))
        wrong = errors(facts.problems)
        return Stop(wrong[0].reason) if wrong else DONE

    def _codes_yet(self, uid: str, own: Rollout | None) -> bool:
        """Whether pods of before have code run that are there still: held as they are, or until others are ready."""
        return own is not None and (own.codes or (self._runners.needed(uid) and not own.settled))

    async def _report(self, ref: Ref, agent: Declared, status: Object) -> None:
        """Say how it is, in the words of its kind. Raises ApiError."""
        if kaos.is_kaos(ref.group):
            worked = self._worked.get(ref)
            status = kaos.shaped(status, {"linkedResources": kaos.linked(worked.servers if worked else ())})
        await self._reporter.report(ref, agent, status)

    def _with_servers(self, ref: Ref, worked: Worked, facts: Facts) -> Facts:
        """`facts`, with whether the servers that it uses answer: that changes without a new plan."""

        def status_of(kind: str, name: str) -> Object | None:
            found = self._cluster.find(Ref(ref.group, kind, ref.namespace, name))
            return found.status if found is not None else None

        state = kaos.waiting(worked.servers, status_of)
        return replace(facts, dependencies=(*facts.dependencies, state)) if state is not None else facts

    def _served(self, ref: Ref, agent: Declared, own: Rollout | None = None) -> tuple[Rollout | None, str]:
        """How it is getting on, and the pool that its messages go to. `own`: how its own pods are, if that is known."""
        worked, before = self._worked.get(ref), told(agent)
        wanted = before if worked is None or worked.pool is None else worked.pool
        plan = worked.plan if worked is not None else ""
        own = own or self._rollout(Key(ref.namespace, ref.name), agent.uid)
        return served(before, wanted, own, lambda pool: self._pools.seat(ref.namespace, pool).of(ref.name, plan))

    def _placed(self, ref: Ref, worked: Worked, pool: str) -> Facts:
        """What is known of it, with where its messages go, and what is wrong with the pool that it is to be in."""
        facts = worked.facts
        if pool:
            facts = replace(facts, fields={**facts.fields, "pool": pool})
        wrong = self._pools.seat(ref.namespace, worked.pool).problem if worked.pool else None
        return replace(facts, problems=(*facts.problems, wrong)) if wrong is not None else facts

    def _rollout(self, key: Key, uid: str) -> Rollout | None:
        """How its Deployment is getting on. What somebody else has in its place is none."""
        live = self._owned.live(kinds.DEPLOYMENT).get(key)
        return self.rollouts.seen(key) if live is not None and live.owner == uid else None

    async def _work(self, ref: Ref, agent: Declared) -> Worked:
        before = self._worked.get(ref)
        stays = replace(before, again=0.0) if before else Worked(Facts(), (), pool=None)
        if agent.resource is None or errors(agent.problems):
            return replace(stays, facts=Facts(problems=own(agent.problems, str(ref))))
        planned, refused = await self._cluster.plan(agent.resource, self._noting(ref, agent.resource))
        again = REFUSED_SECONDS if refused else 0.0
        limits, known = self._unread(ref, refused), dependencies(planned.dependencies, str(ref))
        said = Facts(own(planned.problems, str(ref)), messages(planned.notices), known, limits)
        if planned.plan is None:
            return replace(stays, facts=said, again=again)
        move = self._moves.of(
            ref, agent, planned.plan, own=self._rollout(Key(ref.namespace, ref.name), agent.uid) is not None
        )
        await self._pools.place(agent.uid, ref.namespace, move.pools)
        if codes := runs_code(planned.plan):
            self._runners.place(agent.uid, ref.namespace, needed=True)
        by = agent.resource.kind, agent.resource.api_version, agent.uid
        if move.pool:
            owner = Owner(pools.pooled(planned.plan), *by, pools=move.pools)
            worked = await self._pooled(ref, agent, owner, said, move)
        else:
            owner = Owner(planned.plan, *by, self._environment(planned.plan), move.pools)
            worked = await self._alone(ref, agent, owner, said)
        if again and not worked.again:
            worked = replace(worked, again=again)
        worked = replace(worked, codes=codes)
        return await self._moved(ref, agent, worked, move) if move.left else worked

    async def _alone(self, ref: Ref, agent: Declared, owner: Owner, said: Facts) -> Worked:
        """It has pods of its own."""
        before, key, plan = self._worked.get(ref), Key(ref.namespace, ref.name), owner.plan
        has = self._has(key, agent.uid)
        keda = has_keda(self._cluster, scaled=kinds.SCALED_OBJECT in has)
        scaler = await self._foreign_scaler(key, agent.uid, plan)
        wanted, left_out = self._children(owner, has, keda=keda, scaled=bool(scaler))
        said = replace(said, limits=(*said.limits, *left_out))
        template = _template(wanted)
        held = self._held(ref, agent, template)
        scales = by_another(scaler) if scaler else scalable(plan, self._cluster.serves, keda=keda)
        if scales is not None:
            said = replace(said, dependencies=(*said.dependencies, scales))
        places = tuple(Place(child.kind, key_of(child.manifest)) for child in wanted)
        wrong = await self._apply(ref, agent, wanted, places, held)
        if wrong is not None:
            return _not_taken(said, wrong)
        if kinds.SCALED_OBJECT in has and not keda and scaling.is_scaled(plan):
            # KEDA may have left it without pods, and is gone.
            await self._applier.wake(key, agent.uid, max(1, scaling.fewest(plan)))
        await self._take_away(OPTIONAL, ref, agent, places)
        await self._prune(ref, agent, (*places, *(before.places if before else ())))
        applied = self.rollouts.last(key, agent)[0] if held is not None else template
        # While something holds it the model is that of the revision it is at, or as it was where those are not shown.
        runs = self._owned.model(key) or str(agent.status.get("model", ""))
        model = plan_map.told(plan.model) if held is None else runs
        said = replace(said, durable=self._durable(plan), held=held)
        again = UPGRADE_SECONDS if held is WAITS else FOREIGN_SECONDS if scaler else 0.0
        facts = _facts(said, plan, {"model": model, "url": service.url(plan), "planHash": applied})
        return Worked(facts, places, again, servers=tuple(plan.workload.get("servers") or ()))

    async def _pooled(self, ref: Ref, agent: Declared, owner: Owner, said: Facts, move: Move) -> Worked:
        """A pool serves it: it has its plan, and a route to the gateway where there are routes, and nothing else."""
        plan, children = owner.plan, [plan_map.plan_map(owner)]
        route = http_route.http_route(owner, self._settings)
        if route is not None:
            wanted, left_out = self._may_be([route], self._has(Key(ref.namespace, ref.name), agent.uid), ref.namespace)
            children, said = [*children, *wanted], replace(said, limits=(*said.limits, *left_out))
        places = tuple(Place(child.kind, key_of(child.manifest)) for child in children)
        wrong = await self._apply(ref, agent, children, places, None, () if move.left else SCALERS)
        if wrong is not None:
            return _not_taken(said, wrong)
        if not move.left:
            await self._take_away(OPTIONAL, ref, agent, places)
        await self._prune(ref, agent, places)
        fields = {"model": plan_map.told(plan.model), "planHash": plan_map.plan_hash(plan)}
        facts = _facts(replace(said, durable=self._durable(plan)), plan, fields)
        return Worked(facts, places, pool=move.pool, plan=plan_map.plan_hash(plan))

    async def _moved(self, ref: Ref, agent: Declared, worked: Worked, move: Move) -> Worked:
        """Clear away what is left of where the agent was served before, once nothing is sent there any more."""
        if move.waits != 0 or not worked.places:
            waits = [each for each in (worked.again, move.waits) if each]
            return replace(worked, moving=True, again=min(waits, default=0.0))
        if move.pool:
            await self._take_away((*SCALERS, kinds.DEPLOYMENT, kinds.SERVICE, *OPTIONAL), ref, agent, worked.places)
        self._moves.forget(ref)
        return worked

    def _durable(self, plan: AgentPlan) -> State:
        return journal.durable(plan, self._settings, partial(self._has_secret, plan.key.namespace))

    async def _apply(
        self,
        ref: Ref,
        agent: Declared,
        wanted: Sequence[Child],
        places: Sequence[Place],
        held: State | None,
        apart: Sequence[Kind] = SCALERS,
    ) -> Problem | None:
        """Have the children be in their places as they are wanted; what is wrong where one is not taken.

        `held`: why the Deployment stays as it is; None where nothing holds it. `apart`: kinds of which one that is not
        wanted goes first. Raises ApiError.
        """
        key, trying = Key(ref.namespace, ref.name), kinds.AUTOSCALER
        try:
            await self._take_away(apart, ref, agent, places)
            for place, child in zip(places, wanted, strict=True):
                if held is not None and child.kind in HELD:
                    continue
                trying, proven = child.kind, self._applier.is_settled(place)
                made = await self._applier.ensure(place, child.manifest, agent.uid, child.once)
                # Of a plan its pools are told now, whatever becomes of the other children: they may serve it.
                for pool in () if proven else pools.pools_of(child.manifest):
                    self._owned.pool_changed(Key(ref.namespace, pool))
                if self._applier.was_corrected(place):
                    await self._corrections.tell(ref, agent, place)
                if child.kind is kinds.DEPLOYMENT:
                    self.rollouts.note(key, agent, _template(wanted), made)
                    self.upgrades.made(key)
        except NameTaken as taken:
            return name_taken(taken)
        except ApiError as error:
            if not (error.refused or error.forbidden or error.missing):
                raise
            said = self._worked.get(ref)
            same = said is not None and agent.status.get("observedGeneration") == agent.generation
            return refused(error, trying, said.facts.problems if said is not None and same else ())
        return None

    def _remembering(self, ref: Ref, agent: Declared, worked: Worked) -> Worked:
        """With the plan that was applied last, whatever is wrong now: a rollback is told by it, after a restart too."""
        applied, _ = self.rollouts.last(Key(ref.namespace, ref.name), agent)
        if not applied or "planHash" in worked.facts.fields:
            return worked
        return replace(worked, facts=replace(worked.facts, fields={**worked.facts.fields, "planHash": applied}))

    def _held(self, ref: Ref, agent: Declared, template: str) -> State | None:
        """Why the Deployment stays as it is, whatever is wanted: a rollback, or an upgrade that is not its turn yet."""
        undone = self.rollouts.undone(Key(ref.namespace, ref.name), agent, template)
        return undone or (WAITS if self.upgrades.waits(ref, agent, template) else None)

    def _children(
        self, owner: Owner, has: frozenset[Kind], *, keda: bool, scaled: bool
    ) -> tuple[list[Child], tuple[str, ...]]:
        """What the agent becomes with the rights that we have, and what is left out. All else is tried and refused."""
        namespace = owner.plan.key.namespace
        plan, left_out = within(owner.plan, self._rights, keda=keda, has=has)
        made = children(owner._replace(plan=plan), self._settings, keda=keda, scaled=scaled)
        wanted, told = self._may_be(made, has, namespace)
        return wanted, (*left_out, *told)

    def _may_be(
        self, made: Sequence[Child], has: frozenset[Kind], namespace: str
    ) -> tuple[list[Child], tuple[str, ...]]:
        """Those of the children that we have the rights for and the cluster knows, and what is left out."""
        without = {each for each in (*OPTIONAL, *SCALERS) if not self._rights.may_keep(each, namespace)}
        told = tuple(without_right(child.kind, kept=child.kind in has) for child in made if child.kind in without)
        if self._cluster.serves(kinds.HTTP_ROUTE.group) is False:  # it may be installed later, or taken away
            without.add(kinds.HTTP_ROUTE)
        return [child for child in made if child.kind not in without], told

    async def _foreign_scaler(self, key: Key, uid: str, plan: AgentPlan) -> str:
        """The name of an autoscaler of somebody else's that says how many pods the agent has; empty: we say so."""
        live = self._owned.rollout(key)
        if live is None or not live.scaled or scaling.is_scaled(plan):
            return ""
        return await self._owned.foreign_scaler(key, uid)

    def _has(self, key: Key, uid: str) -> frozenset[Kind]:
        """The kinds of those children that the agent may have or not, and has."""
        live = {kind: self._owned.live(kind).get(key) for kind in (*OPTIONAL, *SCALERS)}
        has = {kind for kind, found in live.items() if found is not None and found.owner == uid}
        rollout = self._owned.rollout(key)  # shows of these what is not shown to us any more
        if rollout is not None and rollout.account == key.name:
            has.add(kinds.SERVICE_ACCOUNT)
        if rollout is not None and rollout.scaled and not has & {*SCALERS}:
            has |= {kind for kind in SCALERS if not self._rights.may(kind, *READ, namespace=key.namespace)}
        return frozenset(has)

    def _unread(self, ref: Ref, refused: frozenset[Ref]) -> tuple[str, ...]:
        """What the agent refers to and we may not read."""
        needed = self._cluster.kinds_of(self.dependents.needs(ref))
        told = [without_right(kind) for kind in needed if not self._rights.may(kind, *READ, namespace=ref.namespace)]
        return (*told, *[f"the controller may not read the {each}" for each in sorted(refused)])

    def _environment(self, plan: AgentPlan) -> str:
        namespace = plan.key.namespace
        live = self._owned.rollout(Key(namespace, plan.key.name))
        return environment(
            plan,
            lambda kind, name: self._cluster.version(kind, Key(namespace, name)),
            live.environment if live is not None else "",
        )

    def _noting(self, ref: Ref, agent: Resource) -> Callable[[frozenset[Ref]], None]:
        """Note what the agent depends on: what its plan does, what it may be scaled by, the installation's journal."""
        spec = agent.spec
        scaled = isinstance(spec, AgentSpec) and (spec.scaling is not None or spec.template_ref is not None)
        more = SCALING if scaled else frozenset()
        if given := self._settings.journal_of(ref.namespace):
            more |= {Ref("", "Secret", ref.namespace, given)}
        return lambda refs: self.dependents.note(ref, refs | more)

    def _has_secret(self, namespace: str, name: str) -> bool:
        """Whether it is there; one that may not be looked for is believed to be."""
        read = self._rights.may(kinds.SECRET, *READ, namespace=namespace)
        return not read or Key(namespace, name) in self._cluster.secrets.kept

    async def _take_away(self, these: Sequence[Kind], ref: Ref, agent: Declared, places: Sequence[Place]) -> None:
        for kind in these:
            place = Place(kind, Key(ref.namespace, ref.name))
            if place not in places and self._rights.may_keep(kind, ref.namespace):
                await self._applier.remove(place, agent.uid)

    async def _prune(self, ref: Ref, agent: Declared, places: Sequence[Place]) -> None:
        """Delete plans that are no longer wanted. One stays while a revision of the Deployment refers to it, or may.

        `places`: the children that are wanted, and those that were last.
        """
        if not self._owned.knows(kinds.REPLICA_SET, ref.namespace):
            return
        kept = {place.key.name for place in places if place.kind is kinds.CONFIG_MAP}
        key = Key(ref.namespace, ref.name)
        kept |= {*self.rollouts.unseen(key), *(revision.plan for revision in self._owned.revisions(key))}
        for name in self._owned.names(kinds.CONFIG_MAP, agent.uid):
            if name not in kept:
                await self._applier.remove(Place(kinds.CONFIG_MAP, Key(ref.namespace, name)), agent.uid)

    def _forget(self, ref: Ref) -> None:
        self.dependents.forget(ref)
        self._moves.forget(ref)
        self._stale.discard(ref)
        self._failures.pop(ref, None)
        self._corrections.forget(ref)
        self.rollouts.forget(Key(ref.namespace, ref.name))
        self.upgrades.forget(ref)
        worked = self._worked.pop(ref, None)
        if worked is not None:
            self._applier.forget(worked.places)


def _before(ref: Ref, agent: Declared) -> Object:
    """The agent's status as it is, in the native words."""
    return kaos.native(agent.status) if kaos.is_kaos(ref.group) else agent.status


def _not_taken(said: Facts, wrong: Problem) -> Worked:
    seconds = TAKEN_SECONDS if wrong.reason == TAKEN else REFUSED_SECONDS
    return Worked(replace(said, problems=(*said.problems, wrong)), (), again=seconds, pool=None)


def _facts(said: Facts, plan: AgentPlan, fields: Mapping[str, Any]) -> Facts:
    least = max(1, scaling.fewest(plan)) if scaling.is_scaled(plan) else 0
    others = [{"namespace": key.namespace, "name": key.name, "group": key.group} for key in delegates(plan)]
    known = {field: value for field, value in {**fields, "delegates": others}.items() if value}
    return replace(said, notices=messages(plan.notices), fields=known, least=least)


def _template(wanted: Sequence[Child]) -> str:
    (deployment,) = [child for child in wanted if child.kind is kinds.DEPLOYMENT]
    return template_hash(deployment.manifest["spec"]["template"])
