"""An Agent becomes a ServiceAccount, a plan, a Service, a Deployment, and what scales and guards it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kadre.api.conditions import State
from kadre.api.resource import Resource
from kadre.base.clock import Clock
from kadre.base.problems import Problem, errors
from kadre.kube import kinds
from kadre.kube.apply import Applier, NameTaken, Place
from kadre.kube.kinds import Key
from kadre.kube.outcome import DONE, Outcome, Stop
from kadre.operator.children import plan_map, service
from kadre.operator.children.agent import children
from kadre.operator.children.common import Owner, Settings
from kadre.operator.cluster import Cluster, Declared, Ref
from kadre.operator.dependents import Dependents
from kadre.operator.owned import Owned
from kadre.operator.reporter import Reporter
from kadre.operator.status import Facts, of_agent
from kadre.plan.types import AgentPlan

OPTIONAL = (kinds.AUTOSCALER, kinds.DISRUPTION_BUDGET, kinds.SERVICE_ACCOUNT)
"""Children that an agent may have or not, named as it is: those it no longer has are deleted."""


@dataclass(frozen=True, slots=True)
class Worked:
    """What an agent came to when it was planned last: enough to tell whether anything is to be done."""

    facts: Facts
    places: tuple[Place, ...]
    """Its children."""


class Agents:
    """Reconciles agents."""

    def __init__(
        self,
        cluster: Cluster,
        owned: Owned,
        applier: Applier,
        reporter: Reporter,
        settings: Settings,
        clock: Clock,
    ) -> None:
        self._cluster = cluster
        self._owned = owned
        self._applier = applier
        self._reporter = reporter
        self._settings = settings
        self._clock = clock
        self.dependents = Dependents()
        self._worked: dict[Ref, Worked] = {}

    def stale(self, ref: Ref) -> None:
        """The agent, or something it depends on, has changed: it has to be planned anew."""
        self._worked.pop(ref, None)

    async def reconcile(self, ref: Ref) -> Outcome:
        """Have the cluster be as the agent says, and the agent say how the cluster is."""
        agent = self._cluster.find(ref)
        if agent is None or agent.deleting:
            self._forget(ref)
            return DONE
        worked = self._worked.get(ref)
        if worked is None or not all(self._applier.is_settled(place) for place in worked.places):
            worked = await self._work(ref, agent)
            self._worked[ref] = worked
        deployment = self._owned.rollout(Key(ref.namespace, ref.name))
        status = of_agent(agent.status, worked.facts, deployment, agent.generation, self._clock.now())
        await self._reporter.report(ref, agent, status)
        wrong = errors(worked.facts.problems)
        return Stop(wrong[0].reason) if wrong else DONE

    async def _work(self, ref: Ref, agent: Declared) -> Worked:
        before = self._worked.get(ref)
        if agent.resource is None or errors(agent.problems):
            return Worked(Facts(problems=agent.problems), before.places if before else ())
        planned, needs = await self._cluster.plan(agent.resource)
        self.dependents.note(ref, needs)
        if planned.plan is None:
            return Worked(Facts(problems=planned.problems), before.places if before else ())
        owner = Owner(planned.plan, agent.resource.kind, agent.resource.api_version, agent.uid)
        wanted = children(owner, self._settings)
        try:
            for child in wanted:
                await self._applier.ensure(child.kind, child.manifest, agent.uid)
        except NameTaken as taken:
            return Worked(Facts(problems=(*planned.problems, _name_taken(agent.resource, taken))), ())
        places = tuple(Place(child.kind, Key(ref.namespace, child.name)) for child in wanted)
        await self._prune(ref, agent, places)
        return Worked(_facts(planned.plan, planned.problems), places)

    async def _prune(self, ref: Ref, agent: Declared, places: Sequence[Place]) -> None:
        """Delete children that are no longer wanted. Plans stay while a revision of the Deployment refers to them."""
        for kind in OPTIONAL:
            place = Place(kind, Key(ref.namespace, ref.name))
            if place not in places:
                await self._applier.remove(place, agent.uid)

    def _forget(self, ref: Ref) -> None:
        self.dependents.forget(ref)
        worked = self._worked.pop(ref, None)
        if worked is not None:
            self._applier.forget(worked.places)


def _facts(plan: AgentPlan, problems: tuple[Problem, ...]) -> Facts:
    unsupported = tuple(notice.message for notice in plan.notices if notice.reason == "NotSupportedYet")
    message = "conversations live in the pod and end with it; give the agent a memory, or the chart a journal"
    fields = {
        "model": f"{plan.model.provider}/{plan.model.model}",
        "url": service.url(plan),
        "planHash": plan_map.plan_hash(plan),
    }
    return Facts(problems, unsupported, State("Durable", "False", "JournalInPod", message), fields)


def _name_taken(resource: Resource, taken: NameTaken) -> Problem:
    fix = f"rename the agent, or delete that {taken.place.kind.kind}"
    return Problem("NameTaken", str(taken), fix, resource.ref, "metadata.name")
