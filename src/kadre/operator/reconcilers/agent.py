"""An Agent becomes a ServiceAccount, a plan, a Service, a Deployment, and what scales and guards it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from kadre.api.conditions import State
from kadre.api.kinds.agent import AgentSpec
from kadre.api.resource import Resource
from kadre.base.clock import Clock
from kadre.base.problems import Problem, errors
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.errors import ApiError
from kadre.kube.kinds import Key, Kind, key_of
from kadre.kube.outcome import DONE, After, Outcome, Stop
from kadre.operator.children import journal, plan_map, scaling, service
from kadre.operator.children.agent import children
from kadre.operator.children.common import Child, Owner
from kadre.operator.children.deployment import template_hash
from kadre.operator.children.environment import environment
from kadre.operator.cluster import Cluster, Declared, Ref
from kadre.operator.dependents import Dependents
from kadre.operator.owned import Owned
from kadre.operator.reporter import Reporter
from kadre.operator.rights import READ, Rights, within, without_right
from kadre.operator.scalable import GROUPS, by_another, has_keda, scalable
from kadre.operator.status import Facts, News, Rollout, dependencies, hindered, leaving, messages, of_agent, own
from kadre.operator.upgrades import WAITS, Upgrades
from kadre.plan.types import AgentPlan

log = logging.getLogger(__name__)

OPTIONAL = (kinds.DISRUPTION_BUDGET, kinds.SERVICE_ACCOUNT, kinds.NETWORK_POLICY)
"""Children that an agent may have or not, named as it is: those it no longer has are deleted."""
SCALERS = (kinds.AUTOSCALER, kinds.SCALED_OBJECT)
"""The same, and deleted before anything is applied: two that scale one Deployment would fight, and KEDA refuses to."""
SCALING = frozenset(Ref(kinds.API_SERVICE.group, kinds.API_SERVICE.kind, "", group) for group in GROUPS)
"""What an agent that scales depends on besides."""
TAKEN = "NameTaken"
TAKEN_SECONDS = 10.0
REFUSED_SECONDS = 60.0
HELD = (kinds.DEPLOYMENT, kinds.CONFIG_MAP)
"""Children that are left as they are while something holds the Deployment."""
PERSISTENT = 4
"""Failures in a row after which they are told in the status: a second of them. The most that happen pass."""
UPGRADE_SECONDS = 60.0
"""Between two looks of one that waits for its turn, which it is told of besides."""
FOREIGN_SECONDS = 60.0
"""Between two looks at an autoscaler that is not ours."""
CORRECTED_SECONDS = 60.0
"""In which no more than one change that is put back is told of an object: whoever makes it may do so again at once."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What an agent came to when it was planned last: enough to tell whether anything is to be done."""

    facts: Facts
    places: tuple[Place, ...]
    """Its children."""
    again: float = 0.0
    """Seconds after which it is to be tried again, where what is in its way tells nobody when it goes; 0: not."""
    since: float = 0.0
    """When that was, of the clock."""

    def left(self, now: float) -> float:
        """Seconds until it is time to try it again."""
        return max(0.0, self.since + self.again - now)


class Agents:
    """Reconciles agents."""

    def __init__(
        self,
        cluster: Cluster,
        owned: Owned,
        applier: Applier,
        reporter: Reporter,
        rights: Rights,
        upgrades: Upgrades,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._owned = owned
        self._applier = applier
        self._reporter = reporter
        self._rights = rights
        self._settings = cluster.settings
        self._clock = clock
        self.dependents = Dependents()
        self._worked: dict[Ref, Worked] = {}
        self._stale: set[Ref] = set()
        self._corrected: dict[Ref, dict[Place, float]] = {}
        """When it was told last of each child that a change by hand was put back."""
        self._failures: dict[Ref, int] = {}
        """How often in a row each could not be worked on."""
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
        agent, key = self._cluster.find(ref), Key(ref.namespace, ref.name)
        if agent is None or agent.deleting:
            return
        answer = f"{error.status} {error.reason}".strip()
        seen, now = self._rollout(key, agent.uid), self._clock.now()
        least = self._worked[ref].facts.least if ref in self._worked else 0
        status = hindered(agent.status, answer, str(error), seen, agent.generation, now, least)
        try:
            await self._reporter.report(ref, agent, status)
        except ApiError as another:
            log.info("%s: its status cannot be written: %s", ref, another)

    async def _reconcile(self, ref: Ref) -> Outcome:
        agent = self._cluster.find(ref)
        key = Key(ref.namespace, ref.name)
        if agent is None or agent.deleting:
            self._forget(ref)
            if agent is not None:
                live = self._rollout(key, agent.uid)
                status = leaving(agent.status, agent.finalizers, live, agent.generation, self._clock.now())
                await self._reporter.report(ref, agent, status)
            return DONE
        worked = self._worked.get(ref)
        settled = worked is not None and all(self._applier.is_settled(place) for place in worked.places)
        due = worked is not None and worked.again > 0 and worked.left(self._clock.monotonic()) == 0
        if worked is None or ref in self._stale or not settled or due:
            self._stale.discard(ref)  # before the work: what changes meanwhile makes it stale again
            try:
                worked = self._remembering(ref, agent, await self._work(ref, agent))
                worked = self._worked[ref] = replace(worked, since=self._clock.monotonic())
            except BaseException:
                self._stale.add(ref)
                raise
        deployment, look = await self._owned.explained(key, self._rollout(key, agent.uid))
        status = of_agent(agent.status, worked.facts, deployment, agent.generation, self._clock.now())
        await self._reporter.report(ref, agent, status)
        self.upgrades.look(key)
        waits = [look] if look else []
        if worked.again:
            waits.append(worked.left(self._clock.monotonic()))
        if waits:
            return After(min(waits))
        wrong = errors(worked.facts.problems)
        return Stop(wrong[0].reason) if wrong else DONE

    def _rollout(self, key: Key, uid: str) -> Rollout | None:
        """How its Deployment is getting on. What somebody else has in its place is none."""
        live = self._owned.live(kinds.DEPLOYMENT).get(key)
        return self.rollouts.seen(key) if live is not None and live.owner == uid else None

    async def _work(self, ref: Ref, agent: Declared) -> Worked:
        before = self._worked.get(ref)
        if agent.resource is None or errors(agent.problems):
            return Worked(Facts(problems=own(agent.problems, str(ref))), before.places if before else ())
        planned, refused = await self._cluster.plan(agent.resource, self._noting(ref, agent.resource))
        again = REFUSED_SECONDS if refused else 0.0
        limits, known = self._unread(ref, refused), dependencies(planned.dependencies, str(ref))
        said = Facts(own(planned.problems, str(ref)), messages(planned.notices), known, limits)
        if planned.plan is None:
            return Worked(said, before.places if before else (), again)
        key = Key(ref.namespace, ref.name)
        has = self._has(key, agent.uid)
        keda = has_keda(self._cluster, scaled=kinds.SCALED_OBJECT in has)
        scaler = await self._foreign_scaler(key, agent.uid, planned.plan)
        environment_of = self._environment(planned.plan)
        owner = Owner(planned.plan, agent.resource.kind, agent.resource.api_version, agent.uid, environment_of)
        wanted, left_out = self._children(owner, has, keda=keda, scaled=bool(scaler))
        said = replace(said, limits=(*limits, *left_out))
        template = _template(wanted)
        held = self._held(ref, agent, template)
        scales = by_another(scaler) if scaler else scalable(planned.plan, self._cluster.serves, keda=keda)
        again = min(again or FOREIGN_SECONDS, FOREIGN_SECONDS) if scaler else again
        if scales is not None:
            said = replace(said, dependencies=(*said.dependencies, scales))
        places = tuple(Place(child.kind, key_of(child.manifest)) for child in wanted)
        wrong = await self._apply(ref, agent, wanted, places, held)
        if wrong is not None:
            seconds = TAKEN_SECONDS if wrong.reason == TAKEN else REFUSED_SECONDS
            return Worked(replace(said, problems=(*said.problems, wrong)), (), again=seconds)
        await self._take_away(OPTIONAL, ref, agent, places)
        await self._prune(ref, agent, (*places, *(before.places if before else ())))
        applied = self.rollouts.last(key, agent)[0] if held is not None else template
        durable = journal.durable(planned.plan, self._settings, partial(self._has_secret, ref.namespace))
        # While something holds it the model is that of the revision it is at, or as it was where those are not shown.
        runs = self._owned.model(key) or str(agent.status.get("model", ""))
        model = plan_map.told(planned.plan.model) if held is None else runs
        facts = _facts(replace(said, durable=durable, held=held), planned.plan, applied, model)
        return Worked(facts, places, UPGRADE_SECONDS if held is WAITS else again)

    async def _apply(
        self, ref: Ref, agent: Declared, wanted: Sequence[Child], places: Sequence[Place], held: State | None
    ) -> Problem | None:
        """Have the children be in their places as they are wanted; what is wrong where one is not taken.

        `held`: why the Deployment stays as it is; None where nothing holds it. Raises ApiError.
        """
        key, trying = Key(ref.namespace, ref.name), kinds.AUTOSCALER
        try:
            await self._take_away(SCALERS, ref, agent, places)
            for place, child in zip(places, wanted, strict=True):
                if held is not None and child.kind in HELD:
                    continue
                trying = child.kind
                made = await self._applier.ensure(place, child.manifest, agent.uid, child.once)
                if self._applier.was_corrected(place):
                    await self._told_corrected(ref, agent, place)
                if child.kind is kinds.DEPLOYMENT:
                    self.rollouts.note(key, agent, _template(wanted), made)
                    self.upgrades.made(key)
        except NameTaken as taken:
            return _name_taken(taken)
        except ApiError as error:
            if not (error.refused or error.forbidden or error.missing):
                raise
            said = self._worked.get(ref)
            same = said is not None and agent.status.get("observedGeneration") == agent.generation
            return _refused(error, trying, said.facts.problems if said is not None and same else ())
        return None

    async def _told_corrected(self, ref: Ref, agent: Declared, place: Place) -> None:
        now = self._clock.monotonic()
        told = self._corrected.setdefault(ref, {})
        if now - told.get(place, -CORRECTED_SECONDS) < CORRECTED_SECONDS:
            return
        told[place] = now
        kind, name = place.kind.kind, place.key.name
        message = (
            f"somebody had changed {kind} {name}, which this agent makes: it is put back; change the agent instead"
        )
        await self._reporter.tell(
            self._reporter.kind_of(ref), ref, agent.uid, News("DriftCorrected", message, good=True)
        )

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
        without = {each for each in (*OPTIONAL, *SCALERS) if not self._rights.may_keep(each, namespace)}
        wanted = [child for child in made if child.kind not in without]
        told = [without_right(child.kind, kept=child.kind in has) for child in made if child.kind in without]
        return wanted, (*left_out, *told)

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
        self._stale.discard(ref)
        self._failures.pop(ref, None)
        self._corrected.pop(ref, None)
        self.rollouts.forget(Key(ref.namespace, ref.name))
        self.upgrades.forget(ref)
        worked = self._worked.pop(ref, None)
        if worked is not None:
            self._applier.forget(worked.places)


def _facts(said: Facts, plan: AgentPlan, applied: str, model: str) -> Facts:
    fields = {"model": model, "url": service.url(plan), "planHash": applied}
    fields = {field: value for field, value in fields.items() if value}
    notices = messages(plan.notices)
    least = max(1, scaling.fewest(plan)) if scaling.is_scaled(plan) else 0
    return replace(said, notices=notices, fields=fields, least=least)


def _template(wanted: Sequence[Child]) -> str:
    (deployment,) = [child for child in wanted if child.kind is kinds.DEPLOYMENT]
    return template_hash(deployment.manifest["spec"]["template"])


def _refused(error: ApiError, kind: Kind, known: Sequence[Problem]) -> Problem:
    """What is told of it. `kind`: of the child; `known`: what was told before.

    The first words are kept for as long as the same is refused in the same way: who refuses may word it anew each time
    (with a number of the request), and each would be news.
    """
    answer = f"{error.status} {error.reason}".strip()
    begin = f"the API server refuses the agent's {kind.kind} ({answer}): "
    same = next(
        (problem for problem in known if problem.reason == "Refused" and problem.message.startswith(begin)), None
    )
    fix = "change what the API server refuses, or what refuses it: a quota, a policy, a limit"
    return same or Problem("Refused", f"{begin}{error}", fix, path="spec")


def _name_taken(taken: NameTaken) -> Problem:
    fix = f"rename the agent; or delete that {taken.place.kind.kind}, where nobody needs it"
    return Problem(TAKEN, str(taken), fix, path="metadata.name")
